from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from rota_server.adapters.redis.control import RedisControlChannel
from rota_server.adapters.redis.publisher import ENTRY_BYTES, RedisPublisher
from rota_server.adapters.redis.server_info import streams_beyond
from rota_server.adapters.redis.streams import CONTROL, FEED, REFILL, work_stream
from rota_server.adapters.redis.work_queue import RedisWorkQueue
from rota_server.domain.errors import Corruption, Unavailable
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.log import RawEvent
from rota_server.domain.messaging import WorkItem
from rota_server.outbox import relay as relay_module
from rota_server.outbox.relay import Relay
from rota_server.outbox.routing import route
from tests.integration.redis_tools import Quiet, empty_redis, publish_all, until
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


@asynccontextmanager
async def running(log: Any, publisher: Any, observer: Quiet | None = None) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(Relay(log, publisher, log, observer or Quiet()).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def published(publisher: RedisPublisher, position: int) -> None:
    async def arrived() -> bool:
        return await publisher.last_published() == position

    await until(arrived, f"the feed ends at {position}")


async def work_positions(redis: Redis, key: str = NORMAL) -> list[int]:
    return [int(identity.split(b"-")[0]) for identity, _ in await redis.xrange(key)]


async def feed_positions(redis: Redis) -> list[int]:
    return [event["position"] for _, f in await redis.xrange(FEED) for event in orjson.loads(f[b"events"])]


async def test_what_is_appended_later_follows_at_once(redis, log, publisher):
    async with running(log, publisher):
        for count in range(1, 4):
            log.submit()
            await published(publisher, count)
    assert await work_positions(redis) == [1, 2, 3]


async def test_a_large_batch_becomes_several_entries_that_follow_each_other(redis, log, publisher):
    log.submit(12, args={"text": "x" * (ENTRY_BYTES // 4)})
    await publish_all(publisher, log.events)
    entries = await redis.xrange(FEED)
    assert len(entries) == 3
    assert [(int(i.split(b"-")[0]), int(f[b"from"])) for i, f in entries] == [(4, 1), (8, 5), (12, 9)]
    assert await feed_positions(redis) == list(range(1, 13))


async def test_publishing_again_is_refused_and_changes_nothing(redis, log, publisher):
    log.submit(3)
    assert await publisher.publish(log.events, expected_last=Position(0))
    assert not await publisher.publish(log.events, expected_last=Position(0))
    assert not await publisher.publish(log.events, expected_last=Position(7))
    assert await work_positions(redis) == [1, 2, 3]
    assert await feed_positions(redis) == [1, 2, 3]


async def test_an_emptied_redis_is_filled_with_what_is_queued_and_the_feed_goes_on(redis, log, publisher):
    ids = log.submit(5)
    log.submit(2, queue="mail", priority="high")
    observer = Quiet()
    async with running(log, publisher, observer):
        await published(publisher, 7)
        log.start(ids[1])
        await published(publisher, 8)
        await redis.flushall()
        await published(publisher, 8)
        log.submit(1)
        await published(publisher, 9)
    assert await work_positions(redis) == [1, 3, 4, 5, 9]
    assert await work_positions(redis, work_stream("mail", "high")) == [6, 7]
    assert await feed_positions(redis) == [9]
    assert "refill" in observer.reasons
    assert not await redis.exists(REFILL)


async def test_an_idle_relay_notices_that_redis_was_emptied(redis, log, publisher, monkeypatch):
    monkeypatch.setattr(relay_module, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(relay_module, "CHECK_SECONDS", 0.05)
    log.submit(3)
    async with running(log, publisher):
        await published(publisher, 3)
        await redis.flushall()
        await published(publisher, 3)
    assert await work_positions(redis) == [1, 2, 3]


async def test_redis_emptied_once_more_during_the_refill_makes_it_start_over(redis, log, publisher, monkeypatch):
    monkeypatch.setattr(relay_module, "REFILL_ROWS", 10)
    log.submit(35)

    class EmptiedInBetween(SmallLog):
        pages = 0

        async def queued(self, after: Position, limit: int) -> Any:
            self.pages += 1
            if self.pages == 3:
                await redis.flushall()
            return await log.queued(after, limit)

    index = EmptiedInBetween()
    task = asyncio.create_task(Relay(log, publisher, index, Quiet()).run())
    await published(publisher, 35)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await work_positions(redis) == list(range(1, 36))


async def test_a_refill_that_was_cut_short_is_repeated_without_giving_out_twice(redis, log, publisher):
    log.submit(20)
    refill = await publisher.begin_refill()
    assert refill is not None
    rows = await log.queued(Position(0), 8)
    assert await refill.add([WorkItem(r.queue, r.priority, r.id, r.version, r.position, None) for r in rows])
    work = RedisWorkQueue(redis, ["default"], "e1")
    await work.done(await work.take(5))
    async with running(log, publisher):
        await published(publisher, 20)
    assert await work_positions(redis) == list(range(6, 21))
    assert not await refill.add([])
    assert not await refill.finish(Position(99))


async def test_of_two_refills_at_once_only_the_later_one_writes(redis, log, publisher):
    first, second = await publisher.begin_refill(), await publisher.begin_refill()
    assert first is not None
    assert second is not None
    assert not await first.finish(Position(5))
    assert await second.finish(Position(5))
    assert await publisher.last_published() == 5
    assert await publisher.begin_refill() is None


async def test_what_happens_during_a_refill_is_published_after_it(redis, log, publisher):
    ids = log.submit(4)

    class BusyIndex:
        async def queued(self, after: Position, limit: int) -> Any:
            rows = await log.queued(after, limit)
            log.start(ids[0])
            log.submit(1)
            return rows

    task = asyncio.create_task(Relay(log, publisher, BusyIndex(), Quiet()).run())
    await published(publisher, 6)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await work_positions(redis) == [1, 2, 3, 4, 6]
    assert await feed_positions(redis) == [5, 6]


async def test_an_older_copy_of_redis_is_brought_up_to_date_without_doubling_work(redis, log, publisher):
    log.submit(3)
    await publish_all(publisher, log.events)
    copies = {key: await redis.dump(key) for key in (FEED, NORMAL)}
    log.submit(3)
    await publish_all(publisher, log.events)
    await redis.restore(FEED, 0, copies[FEED], replace=True)  # the feed went back, the work stream did not
    async with running(log, publisher):
        await published(publisher, 6)
    assert await work_positions(redis) == [1, 2, 3, 4, 5, 6]
    await redis.restore(FEED, 0, copies[FEED], replace=True)
    await redis.restore(NORMAL, 0, copies[NORMAL], replace=True)
    async with running(log, publisher):
        await published(publisher, 6)
    assert await work_positions(redis) == [1, 2, 3, 4, 5, 6]


async def test_a_redis_that_is_ahead_of_the_log_is_refused(redis, log, publisher):
    log.submit(3)
    await publish_all(publisher, log.events)
    del log.events[2:]
    with pytest.raises(Corruption, match="not this log's"):
        await Relay(log, publisher, log, Quiet()).run()


@pytest.mark.parametrize("seen", [False, True], ids=["not read yet", "read by an executor"])
@pytest.mark.parametrize("others", [0, 3], ids=["alone", "beside work"])
async def test_a_foreign_entry_with_a_high_id_does_not_stall_its_queue(redis, log, publisher, seen, others):
    queue = RedisWorkQueue(redis, ["default"], "executor")
    async with running(log, publisher):
        if others:
            log.submit(others)
            await published(publisher, others)
        await redis.xadd(NORMAL, {"x": "y"}, id="9999999999999999-0")
        if seen:
            assert len(await queue.take(1 + others)) == others
            assert await queue.take(1) == []
        log.submit(2)
        await published(publisher, others + 2)
        taken = await queue.take(10)
        assert [item.position for item in taken][-2:] == [others + 1, others + 2]
        log.submit(1)
        await published(publisher, others + 3)
    assert [item.position for item in await queue.take(10)] == [others + 3]


async def test_streams_that_end_beyond_the_log_are_named_for_the_doctor(redis, redis_url, log, publisher):
    async with running(log, publisher):
        log.submit(2)
        await published(publisher, 2)
    assert await streams_beyond(redis_url, Position(2)) == []
    await redis.xadd(NORMAL, {"x": "y"}, id="9999999999999999-0")
    await redis.xadd("rota:bell:default", {"x": "y"})
    assert await streams_beyond(redis_url, Position(2)) == [NORMAL]


async def test_a_foreign_entry_in_the_feed_is_removed_and_the_feed_goes_on(redis, log, publisher, caplog):
    async with running(log, publisher) as task:
        log.submit(2)
        await published(publisher, 2)
        await redis.xadd(FEED, {"x": "y"}, id="9999999999999999-0")
        log.submit(2)
        await published(publisher, 4)
        log.submit(2)
        await published(publisher, 6)
        await redis.xadd(FEED, {"x": "y"}, id="9999999999999999-0")
        log.submit(1)
        await published(publisher, 7)
        assert not task.done()
    assert await feed_positions(redis) == [5, 6, 7], "what was there before stays"
    assert await work_positions(redis) == [1, 2, 3, 4, 5, 6, 7]
    assert "foreign entries" in caplog.text


async def test_a_foreign_entry_in_an_empty_feed_is_removed(redis, log, publisher):
    log.submit(2)
    await redis.xadd(FEED, {"x": "y"}, id="9999999999999999-0")
    async with running(log, publisher):
        await published(publisher, 2)
    assert await work_positions(redis) == [1, 2]


async def test_a_request_to_cancel_arrives_although_a_foreign_entry_stands_in_its_stream(redis, log, publisher):
    await redis.xadd(CONTROL, {"x": "y"}, id="9999999999999999-0")
    channel = RedisControlChannel(redis)
    notices: list[Any] = []

    async def follow() -> None:
        async for notice in channel.follow():
            notices.append(notice)  # noqa: PERF401 - it never ends

    following = asyncio.create_task(follow())
    try:
        await until(_is_true(lambda: channel.heard_at is not None), "the channel to be followed")
        async with running(log, publisher):

            async def arrived() -> bool:
                (job_id,) = log.submit()
                log.start(job_id)
                log.command(job_id, c.RequestCancel())
                return bool(notices)

            await until(arrived, "a notice")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _is_true(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def answer() -> bool:
        return condition()

    return answer


async def test_an_outage_of_redis_is_waited_out(redis, log, publisher, monkeypatch):
    monkeypatch.setattr(relay_module, "RETRY_SECONDS", 0.01)

    class AwayForAWhile:
        calls = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(publisher, name)

        async def publish(self, batch: Sequence[RawEvent], *, expected_last: Position) -> bool:
            self.calls += 1
            if self.calls <= 3:
                raise Unavailable("gone", server="redis")
            return await publisher.publish(batch, expected_last=expected_last)

    log.submit(2)
    async with running(log, AwayForAWhile()):
        await published(publisher, 2)
    assert await work_positions(redis) == [1, 2]


async def test_the_feed_is_trimmed_by_events(redis, log, publisher, monkeypatch):
    monkeypatch.setattr("rota_server.adapters.redis.publisher.FEED_EVENTS", 200)
    log.submit(3_000)
    await publish_all(publisher, log.events, at_a_time=10)
    assert 20 <= await redis.xlen(FEED) <= 150
    assert await publisher.last_published() == 3_000


async def test_the_feed_is_trimmed_by_size(redis, log, publisher, monkeypatch):
    monkeypatch.setattr("rota_server.adapters.redis.publisher.FEED_BYTES", 200_000)
    log.submit(400, args={"text": "x" * 5_000})
    await publish_all(publisher, log.events, at_a_time=5)
    size = sum(len(f[b"events"]) for _, f in await redis.xrange(FEED))
    assert size < 600_000
