from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import orjson
import pytest
from redis.asyncio import Redis

from rota_server.adapters.codec import decode
from rota_server.adapters.redis.connection import connect
from rota_server.adapters.redis.publisher import RedisPublisher
from rota_server.adapters.redis.streams import GROUP, work_stream, work_streams
from rota_server.adapters.redis.work_queue import RedisWorkQueue
from rota_server.adapters.redis.work_streams import RedisWorkStreams
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import commands as c
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


def queue_of(redis: Redis, consumer: str = "e1", *queues: str, idle: float = 15.0) -> RedisWorkQueue:
    return RedisWorkQueue(redis, queues or ("default",), consumer, reclaim_idle_seconds=idle)


async def test_an_item_carries_what_the_claim_needs(redis, log, publisher):
    (job_id,) = log.submit(priority="high")
    await publish_all(publisher, log.events)
    (item,) = await queue_of(redis).take(5)
    assert item == WorkItem("default", "high", job_id, Version(1), Position(1), decode(log.events[0]))


async def test_a_later_dispatch_comes_without_the_event(redis, log, publisher):
    (job_id,) = log.submit(run_at=log_time())
    log.command(job_id, c.DispatchJob(reason="due"))
    await publish_all(publisher, log.events)
    assert await queue_of(redis).take(5) == [WorkItem("default", "normal", job_id, Version(2), Position(2), None)]


def log_time():
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(hours=1)


async def test_two_consumers_take_exactly_their_slots_and_no_hostages(redis, log, publisher):
    log.submit(10)
    await publish_all(publisher, log.events)
    first, second = queue_of(redis, "e1"), queue_of(redis, "e2")
    taken_first, taken_second = await first.take(3), await second.take(20)
    assert (len(taken_first), len(taken_second)) == (3, 7)
    assert sorted(i.position for i in taken_first + taken_second) == list(range(1, 11))
    pending = await redis.xpending_range(NORMAL, GROUP, "-", "+", 100)
    assert Counter(p["consumer"] for p in pending) == {b"e1": 3, b"e2": 7}
    assert await second.take(0) == []


async def test_higher_priority_comes_first_over_all_queues(redis, log, publisher):
    for priority in ("low", "normal", "high"):
        for name in ("a", "b"):
            log.submit(2, queue=name, priority=priority)
    await publish_all(publisher, log.events)
    work = queue_of(redis, "e1", "a", "b")
    order = [item.priority for _ in range(6) for item in await work.take(2)]
    assert order == ["high"] * 4 + ["normal"] * 4 + ["low"] * 4


async def test_a_busy_queue_does_not_starve_another_of_the_same_priority(redis, log, publisher):
    log.submit(50, queue="busy")
    log.submit(5, queue="calm")
    await publish_all(publisher, log.events)
    work = queue_of(redis, "e1", "busy", "calm")
    taken = [item.queue for _ in range(4) for item in await work.take(5)]
    assert taken.count("calm") == 5


async def test_done_deletes_and_leaves_nothing_pending(redis, log, publisher):
    log.submit(2_500)
    await publish_all(publisher, log.events, at_a_time=1_000)
    work = queue_of(redis)
    for _ in range(3):
        await work.done(await work.take(1_000))
    assert await redis.xlen(NORMAL) == 0
    assert (await redis.xpending(NORMAL, GROUP))["pending"] == 0
    assert await work.take(10) == []


async def test_waiting_sees_what_came_after_the_last_take(redis, log, publisher):
    work = queue_of(redis)
    assert await work.take(1) == []
    log.submit()
    await publish_all(publisher, log.events)
    began = time.monotonic()
    await work.wait(2)
    assert time.monotonic() - began < 1
    assert len(await work.take(1)) == 1


async def test_waiting_wakes_while_it_waits_and_takes_nothing(redis, log, publisher):
    work = queue_of(redis)
    await work.take(1)
    waiting = asyncio.create_task(work.wait(2))

    async def blocked() -> bool:
        return any(client["cmd"] == "xread" for client in await redis.client_list())

    await until(blocked, "the wait has reached the server")
    log.submit()
    began = time.monotonic()
    await publish_all(publisher, log.events)
    await waiting
    assert time.monotonic() - began < 1
    assert (await redis.xpending(NORMAL, GROUP))["pending"] == 0


async def test_waiting_ends_with_its_timeout(redis):
    work = queue_of(redis)
    await work.take(1)
    began = time.monotonic()
    await work.wait(0.1)
    assert 0.05 < time.monotonic() - began < 1


async def test_there_is_no_wait_while_the_last_take_left_something(redis, log, publisher):
    log.submit(3)
    await publish_all(publisher, log.events)
    work = queue_of(redis)
    await work.take(2)
    began = time.monotonic()
    await work.wait(2)
    assert time.monotonic() - began < 0.5


async def test_entries_of_a_dead_executor_are_reclaimed_once_idle(redis, log, publisher):
    log.submit(5)
    await publish_all(publisher, log.events)
    await queue_of(redis, "dead").take(5)
    alive = queue_of(redis, "alive", idle=0.05)
    assert await queue_of(redis, "early").reclaim(10) == []

    async def reclaimed() -> list[WorkItem]:
        return await alive.reclaim(3)

    items = await until(reclaimed, "the entries are idle for long enough")
    assert [item.position for item in items] == [1, 2, 3]
    assert all(item.submitted is not None for item in items)
    await alive.done(items)
    rest = await until(reclaimed, "the rest is idle, too")
    assert [item.position for item in rest] == [4, 5]
    await alive.done(rest)
    assert await redis.xlen(NORMAL) == 0


async def test_an_executor_that_comes_back_reclaims_its_own_entries(redis, log, publisher):
    log.submit(2)
    await publish_all(publisher, log.events)
    await queue_of(redis, "e1").take(2)
    again = queue_of(redis, "e1", idle=0.02)

    async def reclaimed() -> list[WorkItem]:
        return await again.reclaim(10)

    assert len(await until(reclaimed, "its own entries are idle")) == 2


async def test_a_lost_group_is_made_again_and_everything_left_is_given_out(redis, log, publisher):
    log.submit(4)
    await publish_all(publisher, log.events)
    work = queue_of(redis)
    taken = await work.take(2)
    await redis.xgroup_destroy(NORMAL, GROUP)
    await work.done(taken[:1])
    assert [item.position for item in await work.take(10)] == [2, 3, 4]
    assert await work.reclaim(10) == []


async def test_a_lost_stream_and_flushed_scripts_do_no_harm(redis, log, publisher):
    log.submit(2)
    await publish_all(publisher, log.events)
    work = queue_of(redis)
    taken = await work.take(1)
    await redis.flushall()
    await redis.script_flush()
    await work.done(taken)
    assert await work.reclaim(5) == []
    assert await work.take(5) == []
    await work.wait(0.05)


HOSTILE = [
    {"job": "not a uuid", "version": "1"},
    {"job": str(uuid4()), "version": "one"},
    {"job": str(uuid4()), "version": "-1"},
    {"job": str(uuid4())},
    {"data": "x"},
    {b"\xff\xfe": b"\x00"},
    {"job": b"\xff" * 16, "version": "1"},
    {"job": str(uuid4()), "version": "1" * 5_000},
]


@pytest.mark.parametrize("fields", HOSTILE)
async def test_an_entry_that_can_not_be_read_is_dropped_and_the_others_go_on(redis, log, publisher, fields):
    log.submit(2)
    await publish_all(publisher, log.events)
    await redis.xadd(NORMAL, fields, id="3-0")
    work = queue_of(redis)
    items = await work.take(10)
    assert [item.position for item in items] == [1, 2]
    assert await redis.xlen(NORMAL) == 2
    await work.done(items)
    assert (await redis.xpending(NORMAL, GROUP))["pending"] == 0


@pytest.mark.parametrize("identity", ["3-1", "18446744073709551615-5"])
async def test_an_id_that_the_relay_does_not_give_is_dropped(redis, identity):
    await redis.xadd(NORMAL, {"job": str(uuid4()), "version": "1"}, id=identity)
    assert await queue_of(redis).take(10) == []
    assert await redis.xlen(NORMAL) == 0


@pytest.mark.parametrize(
    "submitted",
    [b"{", b"[]", b"null", b"\xff", orjson.dumps({"meta": "x"}), b"[" * 100_000, b'{"meta": {}, "data": 1}'],
)
async def test_an_event_that_can_not_be_read_is_left_to_the_log(redis, submitted):
    job_id = uuid4()
    await redis.xadd(NORMAL, {"job": str(job_id), "version": "1", "submitted": submitted}, id="3-0")
    (item,) = await queue_of(redis).take(10)
    assert (item.job_id, item.submitted) == (job_id, None)


async def test_another_jobs_event_is_not_taken_for_this_ones(redis, log, publisher):
    log.submit()
    await publish_all(publisher, log.events)
    (entry,) = await redis.xrange(NORMAL)
    other = uuid4()
    await redis.xadd(NORMAL, {**entry[1], b"job": str(other)}, id="2-0")
    items = await queue_of(redis).take(10)
    assert [item.submitted is None for item in items] == [False, True]


async def test_a_key_of_another_type_in_a_work_streams_place_is_replaced(redis, log, publisher):
    await redis.set(NORMAL, "surprise")
    assert await queue_of(redis).take(1) == []
    await redis.delete(NORMAL)
    await redis.set(NORMAL, "surprise")
    log.submit()
    await publish_all(publisher, log.events)
    assert len(await queue_of(redis).take(1)) == 1


async def test_consumers_that_are_gone_are_forgotten_unless_they_hold_something(redis, log, publisher, monkeypatch):
    monkeypatch.setattr("rota_server.adapters.redis.work_queue.CONSUMER_GONE_SECONDS", 0.01)
    log.submit(1)
    await publish_all(publisher, log.events)
    holder, idler, alive = queue_of(redis, "holder"), queue_of(redis, "idler"), queue_of(redis, "alive")
    await holder.take(1)
    await idler.take(1)
    await alive.take(1)

    async def forgotten() -> bool:
        await alive.reclaim(1)
        return {info["name"] for info in await redis.xinfo_consumers(NORMAL, GROUP)} == {b"holder", b"alive"}

    await until(forgotten, "the idle consumer is forgotten")


async def test_a_server_that_is_away_is_unavailable_and_its_password_stays_secret():
    client = connect("redis://:secret-word@127.0.0.1:1/0")
    work = RedisWorkQueue(client, ["default"], "e1")
    with pytest.raises(Unavailable) as caught:
        await work.take(1)
    assert caught.value.server == "redis"
    assert "secret-word" not in str(caught.value)
    await client.aclose()


async def test_the_scheduler_sees_lengths_and_what_is_missing(redis, log, publisher):
    ids = log.submit(3)
    log.submit(2, queue="mail", priority="low")
    await publish_all(publisher, log.events)
    streams = RedisWorkStreams(redis)
    lengths = await streams.lengths([("default", "normal"), ("mail", "low"), ("none", "high")])
    assert lengths == {("default", "normal"): 3, ("mail", "low"): 2, ("none", "high"): 0}
    work = queue_of(redis)
    await work.done(await work.take(1))
    dispatches = [WorkItem("default", "normal", j, Version(1), Position(n), None) for n, j in enumerate(ids, start=1)]
    elsewhere = WorkItem("gone", "high", uuid4(), Version(1), Position(9), None)
    assert await streams.missing([*dispatches, elsewhere]) == [dispatches[0], elsewhere]
    assert await streams.missing([]) == []


def test_the_order_of_keys_is_priority_first():
    assert work_streams(["a", "b:c"])[:3] == ["rota:work:a:high", "rota:work:b:c:high", "rota:work:a:normal"]
