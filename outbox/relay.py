"""The relay: tails the log and publishes it to the broker.

One relay is active, the others stand by; a stale one that still believes itself active is harmless, since every batch
is guarded by the place at which the feed must end. It keeps no state of its own: where to go on, the feed says.

- Dies between reading and publishing: the next one reads again from the feed's end.
- The same batch twice: the guard refuses the second.
- The broker was emptied (or restarted empty): queued jobs are put back from their rows, in order of position; the
  feed begins anew at the log's end, its readers fill the gap from the log. Jobs that could not be put back because a
  work stream has gone ahead meanwhile are found by the scheduler, which dispatches them again.
"""

from __future__ import annotations

import logging
import time

from domain.errors import Corruption
from domain.ids import Position
from domain.messaging import Publisher
from domain.ports import EventLog, JobIndex
from outbox.routing import route

log = logging.getLogger("rota.relay")

BATCH_EVENTS = 1000
RESTORE_ROWS = 1000
WAIT_SECONDS = 2.0


class Relay:
    """Publishes the log behind the feed's end, batch by batch."""

    def __init__(self, event_log: EventLog, publisher: Publisher, index: JobIndex) -> None:
        self._log = event_log
        self._publisher = publisher
        self._index = index
        self.published = Position(0)
        self.realignments = 0
        self.last_published_at = time.monotonic()

    async def run(self) -> None:
        """Publish for ever. Raises Unavailable when a server is away; run it again then."""
        await self.align()
        while True:
            if await self.step():
                continue
            await self._log.wait_for_append(self.published, WAIT_SECONDS)
            if not await self.step():
                await self._check_feed()

    async def step(self) -> bool:
        """Publish the next batch; False when there is none."""
        batch = await self._log.read_raw(self.published, BATCH_EVENTS)
        self.last_published_at = time.monotonic()
        if not batch:
            return False
        routed = route(batch)
        if await self._publisher.publish(batch, routed.dispatches, routed.controls, expected_last=self.published):
            self.published = batch[-1].position
        else:
            await self.align()
        return True

    async def _check_feed(self) -> None:
        """While the log rests, notice that the broker has forgotten."""
        if await self._publisher.last_published() != self.published:
            await self.align()

    async def align(self) -> None:
        """Find out where the feed ends, and put back what the broker has lost."""
        self.realignments += 1
        last = await self._publisher.last_published()
        end = await self._log.last_position()
        if last > end:
            raise Corruption(
                f"the broker's feed ends at {last} but the log at {end}: it belongs to another log. "
                "Empty that Redis, or give Rota another one (database number)"
            )
        if last == 0 and end > 0:
            await self._restore(end)
            last = await self._publisher.last_published()
        self.published = last
        log.info("publishing from position %d; the log ends at %d", last, end)

    async def _restore(self, end: Position) -> None:
        """Put the queued jobs back. The feed begins last, so that a death in between starts this over."""
        place = Position(0)
        restored = 0
        while rows := await self._index.queued(place, RESTORE_ROWS):
            # Rows that changed after `end` are dispatched by events that are published after this.
            restored += await self._publisher.restore([row for row in rows if row.position <= end])
            place = rows[-1].position
            if place > end:
                break
        await self._publisher.begin(end)
        log.warning("the broker was empty: put %d queued jobs back, the feed goes on behind %d", restored, end)
