"""Finds work that the broker has lost, and dispatches it again.

The brain counts the queued jobs of each work stream; the broker knows how many entries it holds. Fewer entries than
queued jobs for a while means that something may be missing; then, and only then, the queued jobs are read and each one
that is provably not in its stream is dispatched by a new event.
"""

from __future__ import annotations

import asyncio
import logging

from apps.scheduler.carrying_out import CarriesOut
from domain import commands as c
from domain.brain import Brain, Decision
from domain.ids import Position
from domain.messaging import Publisher, WorkItem, WorkStreams
from domain.ports import EventLog, HeadRow, JobIndex

log = logging.getLogger("rota.scheduler")

LOOK_SECONDS = 2.0
SUSPICIOUS_LOOKS = 3
"""So many looks in a row must find fewer entries than queued jobs."""

PAGE_ROWS = 1000
PAUSE_SECONDS = (5.0, 60.0)
"""Between two searches; longer when a search has found nothing."""


class MissingWork:
    """Looks for lost dispatches."""

    def __init__(
        self, log: EventLog, index: JobIndex, streams: WorkStreams, publisher: Publisher, carries_out: CarriesOut
    ) -> None:
        self._log = log
        self._index = index
        self._streams = streams
        self._publisher = publisher
        self._carries_out = carries_out
        self._suspicions = 0
        self._pause = PAUSE_SECONDS[0]

    async def watch(self, brain: Brain) -> None:
        """Look every few seconds, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._suspicions = self._suspicions + 1 if await self._suspicious(brain) else 0
            if self._suspicions < SUSPICIOUS_LOOKS:
                continue
            self._suspicions = 0
            found = await self.search()
            shortest, longest = PAUSE_SECONDS
            self._pause = shortest if found else min(self._pause * 2, longest)
            if found:
                log.warning("dispatched %d jobs again that the broker had lost", found)
            await asyncio.sleep(self._pause)

    async def _suspicious(self, brain: Brain) -> bool:
        """Whether some work stream holds fewer entries than jobs are queued for it."""
        published = await self._publisher.last_published()
        if published == 0 or published + 1000 < brain.position:
            return False  # the relay is at work
        queued = {key: count for key, count in brain.queued.items() if count > 0}
        if not queued:
            return False
        lengths = await self._streams.lengths(list(queued))
        return any(lengths[key] < count for key, count in queued.items())

    async def search(self) -> int:
        """Read all queued jobs and dispatch those that are provably missing; their number."""
        published = await self._publisher.last_published()
        place = Position(0)
        found = 0
        while rows := await self._index.queued(place, PAGE_ROWS):
            place = rows[-1].position
            known = [_item(row) for row in rows if row.position <= published]
            missing = await self._streams.missing(known)
            decisions = [Decision(item.job_id, c.DispatchJob(reason="missing")) for item in missing]
            found += await self._carries_out.carry_out(await self._still_queued(decisions, missing))
        return found

    async def _still_queued(self, decisions: list[Decision], items: list[WorkItem]) -> list[Decision]:
        """Without jobs that were claimed between the read of the row and the look into the stream."""
        rows = await self._index.get([item.job_id for item in items])
        still = {
            item.job_id
            for item in items
            if (row := rows.get(item.job_id)) is not None and row.state == "queued" and row.version == item.version
        }
        return [decision for decision in decisions if decision.job_id in still]


def _item(row: HeadRow) -> WorkItem:
    return WorkItem(row.queue, row.priority, row.id, row.version, row.position, None)
