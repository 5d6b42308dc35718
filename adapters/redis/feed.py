"""The log's tail, from Redis where it is there, from the log itself where it is not.

The feed in Redis is only a shortcut. Whatever follows it gets every position exactly once and in order: a gap in the
feed, an entry that cannot be read, a trimmed, emptied or unreachable Redis, a dead subscriber or a stopped relay are
all made good from the log. What stands in Redis is untrusted; what does not fit is read from the log.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson
from redis.asyncio import Redis

from rota_server.adapters.codec import feed_event, feed_event_of
from rota_server.adapters.redis.connection import last_id, translated
from rota_server.adapters.redis.streams import FEED, entry_id, position_of
from rota_server.adapters.redis.subscription import Entry, Subscription, subscribed
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Position
from rota_server.domain.messaging import FeedBatch, FeedEvent
from rota_server.domain.ports.event_log import EventLog

log = logging.getLogger("rota.redis.feed")

SILENCE_SECONDS = 2.0
"""After so long without anything from Redis the log is asked whether there is something."""
DOUBT_SECONDS = 0.2
"""The same, once the log had something that Redis did not bring."""
REDIS_AWAY_SECONDS = 2.0
"""How long the log alone is read before Redis is tried again."""

LOG_EVENTS = 500
FEED_ENTRIES = 8
"""Entries of one read; each is a batch of up to half a megabyte."""


class RedisFeed:
    """The port Feed. Each `follow` has its own subscriber."""

    def __init__(self, client: Redis, event_log: EventLog, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._client = client
        self._log = event_log
        self._silence_seconds = silence_seconds

    async def follow(self, after: Position) -> AsyncIterator[FeedBatch]:
        """Every event behind `after`, in order and without a gap, in batches, for as long as it is iterated.

        Raises:
            Unavailable: the log is needed and away. Follow again, from the last batch that came.
        """
        position = after
        while True:
            try:
                async with subscribed(self._client, FEED, entry_id(position), max_entries=FEED_ENTRIES) as subscription:
                    async for batch in self._drain(subscription, position):
                        position = batch.last
                        yield batch
            except Unavailable as error:
                if error.server != "redis":
                    raise
                log.warning("following the log itself: %s", error)
                async for batch in self._read_log(position):
                    position = batch.last
                    yield batch
                await self._log.wait_for_append(position, REDIS_AWAY_SECONDS)

    async def _drain(self, subscription: Subscription, position: Position) -> AsyncIterator[FeedBatch]:
        """Batches behind `position` until the subscriber is found to be dead."""
        doubts = 0
        while True:
            entries = await subscription.next(DOUBT_SECONDS if doubts else self._silence_seconds)
            if entries:
                doubts = 0
                async for batch in self._from_entries(entries, position):
                    position = batch.last
                    yield batch
                continue
            before = position
            async for batch in self._from_silence(position):
                position = batch.last
                yield batch
            doubts = await self._doubts(doubts, moved=position > before, position=position)
            if doubts > _PATIENCE:
                log.warning("the feed's subscriber brings nothing although the feed goes on: replacing it")
                return

    async def _from_silence(self, position: Position) -> AsyncIterator[FeedBatch]:
        try:
            async for batch in self._read_log(position):
                yield batch
        except Unavailable as error:
            # Nothing is known to be missing. Perhaps Redis brings it before the log is back.
            log.warning("the feed is silent and the log cannot be asked: %s", error)

    async def _doubts(self, doubts: int, *, moved: bool, position: Position) -> int:
        """How often in a row the log had something that the subscriber has not brought, though the feed has it."""
        if not moved and not doubts:
            return 0
        with translated("tell where the feed ends"):
            end = position_of(await last_id(self._client, FEED))
        if end < position:
            return 1  # the relay is behind: stay with the log, look often
        return doubts + 1 if moved or doubts else 0

    async def _from_entries(self, entries: list[Entry], position: Position) -> AsyncIterator[FeedBatch]:
        for identity, fields in entries:
            last = position_of(identity)
            if last <= position:
                continue
            events = _events(identity, fields, position)
            if events is None:
                async for batch in self._read_log(position, until=last):
                    position = batch.last
                    yield batch
                continue
            if events[0].position > position + 1:
                async for batch in self._read_log(position, until=Position(events[0].position - 1)):
                    position = batch.last
                    yield batch
                events = [event for event in events if event.position > position]
            if events and events[0].position == position + 1:
                position = last
                yield FeedBatch(events[0].position, last, events)

    async def _read_log(self, position: Position, until: Position | None = None) -> AsyncIterator[FeedBatch]:
        """What the log has behind `position`, to its end or at least up to `until`."""
        while until is None or position < until:
            events = [feed_event_of(raw) for raw in await self._log.read_raw(position, LOG_EVENTS)]
            if not events:
                return
            position = events[-1].position
            yield FeedBatch(events[0].position, position, events)
            if until is None and len(events) < LOG_EVENTS:
                return


_PATIENCE = 5
"""Doubts, DOUBT_SECONDS apart, after which a subscriber counts as dead."""


def _events(identity: bytes, fields: dict[bytes, bytes] | None, after: Position) -> list[FeedEvent] | None:
    """An entry's events behind `after`; None when the entry is not what the relay writes."""
    try:
        first, last = int((fields or {})[b"from"]), position_of(identity)
        found: list[Any] = orjson.loads((fields or {})[b"events"])
        events = [feed_event(event) for event in found if event["position"] > after]
        dense = [event.position for event in events] == list(range(max(first, after + 1), last + 1))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        log.warning("the feed's entry %r cannot be read, asking the log: %r", identity, error)
        return None
    if not dense or not events:
        log.warning("the feed's entry %r does not hold what it says, asking the log", identity)
        return None
    return events
