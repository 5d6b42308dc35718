"""What the tests of the Redis side share: an empty Redis, and a way to wait for what is to come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from rota_server.adapters.redis.connection import connect
from rota_server.domain.ids import Position
from rota_server.domain.log import RawEvent
from rota_server.domain.messaging import Publisher

SOON_SECONDS = 10.0


@asynccontextmanager
async def empty_redis(url: str) -> AsyncIterator[Redis]:
    client = connect(url)
    try:
        await client.flushdb()
        yield client
    finally:
        await client.aclose()


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The condition's first true answer; fails after SOON_SECONDS."""
    deadline = time.monotonic() + SOON_SECONDS
    while time.monotonic() < deadline:
        if answer := await condition():
            return answer
        await asyncio.sleep(0.01)
    raise AssertionError(f"did not happen within {SOON_SECONDS} s: {what}")


async def publish_all(publisher: Publisher, events: list[RawEvent], *, at_a_time: int = 100) -> None:
    """Publish what is behind the feed's end."""
    last = await publisher.last_published()
    for start in range(last, len(events), at_a_time):
        part = events[start : start + at_a_time]
        assert await publisher.publish(part, expected_last=Position(start))


class Quiet:
    """An observer that remembers why the relay realigned and what it published."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.events = 0
        self.lag: int | None = None

    def published(self, events: int, position: Position, recorded_at: Any) -> None:
        self.events += events

    def behind(self, events: int) -> None:
        self.lag = events

    def realigned(self, reason: str) -> None:
        self.reasons.append(reason)
