"""Finds work that the broker has lost, and dispatches it again.

The leader counts the queued jobs of each work stream; the broker knows how many entries it holds. Only when entries
are fewer are the queued jobs of that stream read, and each one that is provably not there is dispatched by a new event.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from rota_server.apps.scheduler.decision_writer import DecisionWriter
from rota_server.domain.jobs import commands as c
from rota_server.domain.leader_state import Decision, LeaderState
from rota_server.domain.messaging import Publisher, WorkItem, WorkStreams
from rota_server.domain.ports.event_log import EventLog
from rota_server.domain.ports.indexes import HeadRow, JobIndex

log = logging.getLogger("rota.scheduler")

LOOK_SECONDS = 1.5
SURE_LOOKS = 3
"""So many looks in a row must find too few entries even if every event not yet taken in was a start."""

LIKELY_LOOKS = 40
"""In a busy system there is always something not yet taken in; after so many suspicious looks it is searched anyway."""

SHORTEST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 600.0
"""Between two searches; longer and longer while they find nothing."""

Stream = tuple[str, str]


class Suspicion(NamedTuple):
    """Work streams with fewer entries than queued jobs: for sure, and those where it may only look so."""

    sure: frozenset[Stream]
    likely: frozenset[Stream]


NONE = Suspicion(frozenset(), frozenset())


class MissingWork:
    """Looks for lost dispatches."""

    def __init__(
        self,
        event_log: EventLog,
        index: JobIndex,
        streams: WorkStreams,
        publisher: Publisher,
        carries_out: DecisionWriter,
    ) -> None:
        self._log = event_log
        self._index = index
        self._streams = streams
        self._publisher = publisher
        self._carries_out = carries_out
        self._looks: dict[Stream, tuple[int, int]] = {}

    async def watch(self, state: LeaderState) -> None:
        """Look every few seconds, forever."""
        pause = SHORTEST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            wanted = self._note(await self.look(state))
            if not wanted:
                continue
            self._looks.clear()
            found = await self.search(wanted)
            if found:
                log.warning("dispatched %d jobs again that the broker had lost", found)
            pause = SHORTEST_PAUSE_SECONDS if found else min(pause * 2, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    def _note(self, suspicion: Suspicion) -> list[Stream]:
        """The streams that have been suspicious for long enough."""
        looks = {}
        for stream in suspicion.likely:
            sure, likely = self._looks.get(stream, (0, 0))
            looks[stream] = (sure + 1 if stream in suspicion.sure else 0, likely + 1)
        self._looks = looks
        return [s for s, (sure, likely) in looks.items() if sure >= SURE_LOOKS or likely >= LIKELY_LOOKS]

    async def look(self, state: LeaderState) -> Suspicion:
        """Compare the leader's count of queued jobs with the broker's of entries. Raises Unavailable."""
        position = state.position
        queued = {stream: count for stream, count in state.queued.items() if count > 0}
        if not queued:
            return NONE
        if await self._publisher.last_published() < position:
            return NONE  # the relay is at work: not everything that is counted has been published
        lengths = await self._streams.lengths(list(queued))
        # Whatever left a stream before its length was read is an event of the log before this one.
        unseen = await self._log.last_position() - position
        fewer = {stream: count - lengths[stream] for stream, count in queued.items() if count > lengths[stream]}
        return Suspicion(frozenset(s for s, missing in fewer.items() if missing > unseen), frozenset(fewer))

    async def search(self, streams: list[Stream]) -> int:
        """Read all jobs queued in these streams and dispatch those that are provably missing; their number."""
        found = 0
        async for rows in self._index.scan_queued(streams):
            published = await self._publisher.last_published()
            known = [_item(row) for row in rows if row.position <= published]
            missing = await self._still_queued(await self._streams.missing(known))
            found += await self._carries_out.carry_out(
                [Decision(item.job_id, c.DispatchJob(reason="missing")) for item in missing]
            )
        return found

    async def _still_queued(self, items: list[WorkItem]) -> list[WorkItem]:
        """Without jobs that were claimed between the read of the row and the look into the stream."""
        if not items:
            return []
        rows = await self._index.get([item.job_id for item in items])
        return [
            item
            for item in items
            if (row := rows.get(item.job_id)) is not None and row.state == "queued" and row.version == item.version
        ]


def _item(row: HeadRow) -> WorkItem:
    return WorkItem(row.queue, row.priority, row.id, row.version, row.position, None)
