"""Entries whose tasks an executor does not know: parked out of everybody's way, and taken by whoever knows them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis

from rota_server.adapters.redis.publisher import RedisPublisher
from rota_server.adapters.redis.streams import GROUP, parked_tasks, work_stream
from rota_server.adapters.redis.work_queue import RedisWorkQueue
from rota_server.adapters.redis.work_streams import RedisWorkStreams
from rota_server.domain.messaging import WorkItem
from rota_server.outbox.routing import route
from tests.integration.redis_tools import empty_redis, publish_all, until
from tests.integration.small_log import SmallLog

NORMAL = work_stream("default", "normal")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with empty_redis(redis_url) as client:
        yield client


@pytest.fixture
def log() -> SmallLog:
    return SmallLog()


@pytest.fixture
def publisher(redis: Redis) -> RedisPublisher:
    return RedisPublisher(redis, route)


def queue_of(redis: Redis, consumer: str, tasks: Sequence[str] = (), *, parked_seconds: float = 60.0) -> RedisWorkQueue:
    return RedisWorkQueue(
        redis, ["default"], consumer, tasks=lambda: tasks, reclaim_idle_seconds=0.01, parked_seconds=parked_seconds
    )


async def park(work: RedisWorkQueue, count: int, task: str = "strange") -> list[WorkItem]:
    """Take so many and park them as this task's."""
    items = await work.take(count)
    await work.park([(item, task) for item in items])
    return items


async def test_what_is_parked_is_given_only_to_whoever_knows_the_task(redis, log, publisher):
    log.submit(3)
    await publish_all(publisher, log.events)
    old, new = queue_of(redis, "old", ["other"]), queue_of(redis, "new", ["other", "strange"])
    parked = await park(old, 2)
    assert [item.position for item in await old.take(10)] == [3]
    assert await old.take(10) == []
    assert await new.take(10) == parked
    assert await new.take(10) == []
    await new.done(parked)
    assert await redis.xlen(NORMAL) == 1
    assert await redis.exists(parked_tasks(NORMAL)) == 0


async def test_what_is_parked_counts_as_there_and_is_not_taken_for_abandoned(redis, log, publisher):
    log.submit(2)
    await publish_all(publisher, log.events)
    parked = await park(queue_of(redis, "old"), 2)
    streams = RedisWorkStreams(redis)
    assert await streams.missing(parked) == []
    assert await streams.lengths([("default", "normal")]) == {("default", "normal"): 2}
    other = queue_of(redis, "other")
    log.submit()
    await publish_all(publisher, log.events)
    (taken,) = await queue_of(redis, "dead").take(1)

    async def reclaimed() -> list[WorkItem]:
        return await other.reclaim(10)

    assert await until(reclaimed, "the dead executor's entry is idle") == [taken]


async def test_whoever_waits_and_knows_the_task_is_woken_by_the_parking(redis, log, publisher):
    old, new = queue_of(redis, "old"), queue_of(redis, "new", ["strange"])
    log.submit()
    await publish_all(publisher, log.events)
    items = await old.take(1)
    assert await new.take(1) == []
    await new.wait(0.01)
    assert await new.take(1) == []
    waiting = asyncio.create_task(new.wait(2))
    began = time.monotonic()
    await old.park([(items[0], "strange")])
    await waiting
    assert time.monotonic() - began < 1
    await new.wait(0.01)
    assert await _taken(new, 1) == items


async def test_an_executor_that_does_not_know_what_is_parked_does_not_spin(redis, log, publisher):
    old = queue_of(redis, "old", ["other"])
    log.submit()
    await publish_all(publisher, log.events)
    await park(old, 1)
    assert await _taken(old, 1) == []
    began = time.monotonic()
    await old.wait(0.2)
    assert time.monotonic() - began > 0.15


async def test_parked_tasks_take_turns(redis, log, publisher):
    log.submit(60)
    await publish_all(publisher, log.events)
    old, new = queue_of(redis, "old"), queue_of(redis, "new", ["many", "few"])
    many, few = await park(old, 50, "many"), await park(old, 10, "few")
    taken = [item for _ in range(4) for item in await _taken(new, 10)]
    assert sum(item in few for item in taken) == 10
    assert sum(item in many for item in taken) == 30


async def test_what_somebody_has_finished_meanwhile_is_not_parked(redis, log, publisher):
    log.submit()
    await publish_all(publisher, log.events)
    old = queue_of(redis, "old")
    items = await old.take(1)
    await queue_of(redis, "other").done(items)
    await old.park([(items[0], "strange")])
    assert await redis.xlen(NORMAL) == 0
    assert (await redis.xpending(NORMAL, GROUP))["pending"] == 0
    assert await _taken(queue_of(redis, "new", ["strange"]), 1) == []


async def test_what_lies_parked_for_long_is_looked_at_again(redis, log, publisher):
    log.submit()
    await publish_all(publisher, log.events)
    old = queue_of(redis, "old", parked_seconds=0.05)
    parked = await park(old, 1)

    async def reclaimed() -> list[WorkItem]:
        return await old.reclaim(10)

    assert await until(reclaimed, "it lies there for long enough") == parked


async def test_more_tasks_than_a_stream_parks_by_name_are_looked_at_again(redis, log, publisher, monkeypatch):
    monkeypatch.setattr("rota_server.adapters.redis.work_queue.PARKED_TASKS", 2)
    log.submit(4)
    await publish_all(publisher, log.events)
    old = queue_of(redis, "old", parked_seconds=0.05)
    items = await old.take(4)
    await old.park([(item, f"task-{number}") for number, item in enumerate(items)])
    assert await redis.smembers(parked_tasks(NORMAL)) == {b"task-0", b"task-1"}
    assert await RedisWorkStreams(redis).missing(items) == []
    assert len(await _taken(queue_of(redis, "new", ["task-0", "task-3"]), 4)) == 1

    found: set[int] = set()

    async def all_looked_at() -> bool:
        found.update(item.position for item in await old.reclaim(10))
        return found >= {3, 4}

    await until(all_looked_at, "those without a name come again")


async def test_parking_survives_a_flush_and_foreign_keys(redis, log, publisher):
    log.submit(2)
    await publish_all(publisher, log.events)
    old = queue_of(redis, "old")
    items = await old.take(1)
    await redis.set(parked_tasks(NORMAL), "foreign")
    await old.park([(items[0], "strange")])
    assert await _taken(queue_of(redis, "new", ["strange"]), 1) == items
    await redis.flushall()
    await redis.script_flush()
    await old.park([(items[0], "strange")])
    assert await _taken(queue_of(redis, "new", ["strange"]), 1) == []


async def _taken(work: RedisWorkQueue, most: int) -> list[WorkItem]:
    """Of a take; again if the first one only found out that something is parked."""
    return await work.take(most) or await work.take(most)
