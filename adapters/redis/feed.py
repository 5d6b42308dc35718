"""The log's tail, from Redis where possible and from the log itself where not.

Entries come through a FastStream batch subscriber without a group, from a position. What it brings is only a
shortcut: a gap, a trimmed or emptied stream or a silent subscriber is filled from the log, so that `follow` is
contiguous whatever Redis does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson
from redis.asyncio import Redis

from adapters.codec import from_json
from adapters.redis.connection import translated
from adapters.redis.streams import CONTROL, FEED
from domain.errors import Corruption, RotaError, Unavailable
from domain.ids import Position
from domain.log import Recorded
from domain.messaging import CancelNotice, FeedBatch
from domain.ports import EventLog

log = logging.getLogger("rota.redis.feed")

BLOCK_MS = 1000
READ_COUNT = 20
"""Feed entries in one read; each is a batch."""

FILL_LIMIT = 1000
"""Events in one read of the log."""


class RedisFeed:
    """The port Feed."""

    def __init__(self, client: Redis, event_log: EventLog) -> None:
        self._client = client
        self._log = event_log

    async def follow(self, after: Position) -> AsyncIterator[FeedBatch]:
        """See the port."""
        while True:
            # From the log until the feed can take over, and whenever the feed has been silent.
            filled = await self._log.read(after, FILL_LIMIT)
            if filled:
                after = filled[-1].position
                yield FeedBatch(filled[0].position, after, filled)
            if len(filled) == FILL_LIMIT:
                continue
            try:
                async for batch in self._from_redis(after):
                    after = batch.last
                    yield batch
            except Unavailable as error:
                log.warning("the feed is away, reading the log: %s", error)
                await self._log.wait_for_append(after, 1.0)

    async def _from_redis(self, after: Position) -> AsyncIterator[FeedBatch]:
        """Batches behind `after` without a gap, until there is one or the stream is silent."""
        place = f"{after}-0"
        while True:
            with translated():
                answer = await self._client.xread({FEED: place}, count=READ_COUNT, block=BLOCK_MS)
            entries = _entries(answer)
            if not entries:
                return
            for entry_id, fields in entries:
                last = Position(int(entry_id.split(b"-")[0]))
                place = entry_id.decode()
                first = Position(int(fields[b"from"]))
                if first > after + 1 or not fields[b"events"]:
                    return
                events = [r for r in _decode(fields[b"events"]) if r.position > after]
                if events:
                    yield FeedBatch(events[0].position, last, events)
                    after = last


class RedisControlChannel:
    """The port ControlChannel."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def follow(self) -> AsyncIterator[CancelNotice]:
        """See the port."""
        place = "$"
        while True:
            with translated():
                if place == "$":
                    place = await self._end()
                answer = await self._client.xread({CONTROL: place}, count=100, block=BLOCK_MS)
                if not answer and await self._end() < place:
                    place = "0-0"  # the stream was emptied and begins anew
            for entry_id, fields in _entries(answer):
                place = entry_id.decode()
                try:
                    event = orjson.loads(fields[b"event"])
                    data = event["data"]
                    from uuid import UUID  # noqa: PLC0415

                    yield CancelNotice(UUID(event["stream_id"]), data["attempt"], data["executor"], data["reason"])
                except (KeyError, ValueError, TypeError) as error:
                    log.error("ignored an unreadable control entry %r: %r", entry_id, error)  # noqa: TRY400

    async def _end(self) -> str:
        if not await self._client.exists(CONTROL):
            return "0-0"
        info = await self._client.xinfo_stream(CONTROL)
        return bytes(info["last-generated-id"]).decode()


def _decode(events: bytes) -> list[Recorded]:
    try:
        return [from_json(fields) for fields in orjson.loads(events)]
    except (RotaError, ValueError, KeyError, TypeError) as error:
        raise Corruption(f"a feed entry can not be read: {error!r}") from error


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of an XREAD of one stream, in either of the protocol's shapes."""
    if not answer:
        return []
    if isinstance(answer, dict):
        (batches,) = answer.values()
        return list(batches[0]) if batches and isinstance(batches[0], list) else list(batches)
    return list(answer[0][1])
