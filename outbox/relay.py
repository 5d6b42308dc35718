"""The relay: tails the log and publishes it to the broker.

It keeps no state of its own: where to go on, the broker says. Any number of relays may run; `run` is meant to be
called while a lock is held that keeps the others standing by. Only an order of business depends on that lock: each
batch is guarded by the place where the feed has to end, so a relay that has lost the lock without knowing it can leave
neither a duplicate nor a hole. It never skips an event; a hole in the log or a broker with another log's feed stops it.

What the broker lost:

1. *Some of the end* (restored from an older copy): the feed ends earlier than it did. Publishing goes on from there.
   Work entries that are there already are left alone; those that come back although their job has started lose
   against the log when an executor claims them.
2. *Everything* (emptied, restarted empty): every queued job's dispatch is put back, lowest position first, from the
   jobs' current status, in pages; then the feed goes on after the log's end as it was before that began. What was
   written to the log meanwhile follows as usual. Readers of the feed fill the gap from the log. A token in the broker
   makes sure that the broker was not emptied once more in between; the refill then starts again.
3. *A work stream alone*, or entries of one that has gone ahead: an entry cannot be added below a stream's last id.
   The scheduler finds such jobs (queued, and provably not in the broker) and dispatches them again.

4. *Room* in a stream, since somebody has added an entry with an id beyond the log's end: such entries are removed,
   counted and told when the next one of ours does not fit, and the stream goes on from its last entry.

While the log rests, the relay looks every second whether the broker still knows what it was told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from rota_server.domain.errors import Corruption, Unavailable
from rota_server.domain.ids import Position
from rota_server.domain.log import RawEvent
from rota_server.domain.messaging import Publisher, Refill, WorkItem
from rota_server.domain.ports.event_log import EventLog
from rota_server.domain.ports.indexes import HeadRow, JobIndex

log = logging.getLogger("rota.relay")

READ_EVENTS = 1_000
READ_EVENTS_AT_LEAST = 16
PUBLISH_BYTES = 4 * 1024 * 1024
"""A batch is split above this; reading asks for fewer events once a read was larger."""

REFILL_ROWS = 10_000
"""Rows of one read: each is a scan of the table, so few large pages; a row takes about 1 kB."""
REFILL_ITEMS = 1_000

WAIT_SECONDS = 1.0
CHECK_SECONDS = 1.0
RETRY_SECONDS = 0.25
"""Pause before the broker is tried again; every further failure doubles it up to RETRY_SECONDS_AT_MOST."""
RETRY_SECONDS_AT_MOST = 2.0


class Observer(Protocol):
    """Is told what the relay does. Called on its path: must be quick."""

    def published(self, events: int, position: Position, recorded_at: datetime) -> None:
        """A batch is in the broker; its last event is this one."""

    def behind(self, events: int) -> None:
        """So many events of the log are not published yet."""

    def realigned(self, reason: str) -> None:
        """The feed's end was looked up: `start`, `refused`, `forgotten`, or `refill` when everything was lost."""


class Relay:
    """Publishes the log behind the feed's end, batch by batch."""

    def __init__(self, event_log: EventLog, publisher: Publisher, index: JobIndex, observer: Observer) -> None:
        self._log = event_log
        self._publisher = publisher
        self._index = index
        self._observer = observer
        self._limit = READ_EVENTS
        self._position = Position(0)
        self._checked_at = 0.0
        self._lag_told_at = 0.0

    async def run(self) -> None:
        """Publish forever, through outages of the broker.

        Raises:
            Unavailable: the log is away.
            Corruption: the log has a hole, or the broker's feed is not this log's.
        """
        pause = RETRY_SECONDS
        while True:
            began = time.monotonic()
            try:
                await self._publish_for_ever()
            except Unavailable as error:
                if error.server == "postgres":
                    raise
                await self._tell_lag(self._position, full=True)
                if time.monotonic() - began > 10 * RETRY_SECONDS_AT_MOST:
                    pause = RETRY_SECONDS
                log.warning("the relay waits: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_SECONDS_AT_MOST)

    async def _publish_for_ever(self) -> None:
        position = await self._align("start")
        while True:
            batch = await self._log.read_raw(position, self._limit)
            if batch:
                position = await self._publish(batch, position)
            else:
                position = await self._rest(position)

    async def _publish(self, batch: Sequence[RawEvent], position: Position) -> Position:
        """Publish what was read behind `position`; answers where to go on."""
        if batch[0].position != position + 1 or batch[-1].position != position + len(batch):
            raise Corruption(f"the log has a hole after position {position}", position=position + 1)
        total_bytes = 0
        for part, size in _parts(batch):
            if not await self._publisher.publish(part, expected_last=position):
                return await self._align("refused")
            self._position = position = part[-1].position
            total_bytes += size
            self._observer.published(len(part), position, part[-1].recorded_at)
        await self._tell_lag(position, full=len(batch) == self._limit)
        self._limit = _next_limit(self._limit, len(batch), total_bytes)
        return position

    async def _rest(self, position: Position) -> Position:
        """Wait for the log to grow, and see now and then whether the broker still knows what it was told."""
        await self._log.wait_for_append(position, WAIT_SECONDS)
        if time.monotonic() - self._checked_at < CHECK_SECONDS:
            return position
        self._checked_at = time.monotonic()
        if await self._publisher.last_published() == position:
            return position
        return await self._align("forgotten")

    async def _tell_lag(self, position: Position, *, full: bool) -> None:
        if not full:
            self._observer.behind(0)
        elif time.monotonic() - self._lag_told_at > CHECK_SECONDS:
            self._lag_told_at = time.monotonic()
            self._observer.behind(await self._log.last_position() - position)

    async def _align(self, reason: str) -> Position:
        """Where to go on: behind the feed's end, once it is certain that the feed is this log's."""
        self._observer.realigned(reason)
        while True:
            feed = await self._publisher.feed_end()
            # Read after the feed's end, so that another relay's publishing in between does not look like a lead.
            end = await self._log.last_position()
            if feed.position > end:
                if feed.stream_id is None and await self._publisher.drop_foreign(end):
                    continue
                raise Corruption(_foreign(f"it ends at position {feed.position}, the log at {end}"))
            if feed.stream_id is not None:
                await self._compare(feed.position, feed.stream_id.hex, feed.version)
            if feed.position > 0 or end == 0:
                log.info("publishing from position %d (%s); the log ends at %d", feed.position, reason, end)
                self._position = feed.position
                return feed.position
            refill = await self._publisher.begin_refill()
            if refill is not None and await self._refill(refill, end):
                self._position = end
                return end

    async def _compare(self, position: Position, stream: str, version: int | None) -> None:
        found = await self._log.read_raw(Position(position - 1), 1)
        if not found or found[0].stream_id.hex != stream or found[0].version != version:
            raise Corruption(_foreign(f"another event stands at position {position}"), position=position)

    async def _refill(self, refill: Refill, end: Position) -> bool:
        """Put every queued job's dispatch up to `end` back; False when the broker was emptied once more."""
        self._observer.realigned("refill")
        log.warning("the broker is empty: putting the queued jobs back")
        count, after = 0, Position(0)
        while True:
            rows = await self._index.queued(after, REFILL_ROWS)
            # What changed behind `end` is published with the log's events.
            items = [_dispatch_of(row) for row in rows if row.position <= end]
            for start in range(0, len(items), REFILL_ITEMS):
                if not await refill.add(items[start : start + REFILL_ITEMS]):
                    log.warning("the broker was emptied again: starting over")
                    return False
            count += len(items)
            if len(rows) < REFILL_ROWS or len(items) < len(rows):
                break
            after = rows[-1].position
        log.warning("put %d queued jobs back; the feed goes on after position %d", count, end)
        return await refill.finish(end)


def _dispatch_of(row: HeadRow) -> WorkItem:
    # A queued job's last event is its dispatch: nothing else happens to it in that state.
    return WorkItem(row.queue, row.priority, row.id, row.version, row.position, None)


def _parts(batch: Sequence[RawEvent]) -> Iterator[tuple[Sequence[RawEvent], int]]:
    """The batch in parts of about PUBLISH_BYTES, each with its size; never an empty one."""
    start, size = 0, 0
    for index, raw in enumerate(batch):
        size += len(raw.data) + len(raw.meta)
        if size >= PUBLISH_BYTES:
            yield batch[start : index + 1], size
            start, size = index + 1, 0
    if start < len(batch):
        yield batch[start:], size


def _next_limit(limit: int, events: int, size: int) -> int:
    """How many events to read next, so that a read stays near PUBLISH_BYTES whatever the events' size is."""
    if size > PUBLISH_BYTES:
        return max(READ_EVENTS_AT_LEAST, limit * PUBLISH_BYTES // size)
    return min(READ_EVENTS, limit * 2) if events == limit else limit


def _foreign(detail: str) -> str:
    return (
        f"the feed in Redis is not this log's: {detail}. Either Rota was given the Redis of another database (give it "
        "one of its own), or PostgreSQL was set back to an earlier state (then empty this Redis with "
        "FLUSHDB: it is filled again from the log)"
    )
