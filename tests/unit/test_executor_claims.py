"""What is claimed, by whom, and how often."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from rota_server.apps.executor.attempts import Failed
from rota_server.domain.events import UnreadableEvent
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.messaging import WorkItem
from tests.unit.executor_parts import NOW, MemoryLog, MemoryQueue, TestExecutor, item_of
from tests.waiting import until


async def test_a_submitted_job_is_claimed_run_and_reported() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit(args={"returns": 42})
    queue.put(item_of(log, job_id))
    async with TestExecutor(log, queue).working():
        await until(lambda: log.job(job_id).state == "succeeded")
    assert log.types(job_id) == ["JobSubmitted", "AttemptStarted", "AttemptSucceeded"]
    assert log.job(job_id).result == 42
    assert log.job(job_id).executor == "e1"


async def test_two_executors_with_the_same_entry_start_one_attempt() -> None:
    log = MemoryLog()
    ids = [log.submit() for _ in range(50)]
    executors = []
    for name in ("e1", "e2"):
        queue = MemoryQueue()
        queue.put(*(item_of(log, job_id) for job_id in ids))
        executors.append(TestExecutor(log, queue, identity=name, slots=7))
    async with executors[0].working(), executors[1].working():
        await until(lambda: all(log.job(job_id).state == "succeeded" for job_id in ids))
        await until(lambda: all(len(e.queue.acknowledged) == 50 for e in executors))
    assert all(log.starts(job_id) == 1 for job_id in ids)
    assert sum(len(e.runner.started) for e in executors) == 50


async def test_an_entry_delivered_twice_starts_one_attempt() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit()
    item = item_of(log, job_id)
    queue.put(item, item, item_of(log, job_id, inline=False))
    async with TestExecutor(log, queue).working() as executor:
        await until(lambda: log.job(job_id).state == "succeeded")
        queue.put(item, item_of(log, job_id, inline=False))
        await until(lambda: len(queue.acknowledged) == 5)
    assert log.starts(job_id) == 1
    assert len(executor.runner.started) == 1


async def test_a_job_cancelled_before_its_claim_is_dropped_and_acknowledged() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit()
    item = item_of(log, job_id)
    log.command(job_id, c.RequestCancel())
    queue.put(item)
    async with TestExecutor(log, queue).working() as executor:
        await until(lambda: queue.acknowledged == [item])
    assert log.types(job_id) == ["JobSubmitted", "JobCancelled"]
    assert executor.runner.started == []


async def test_a_dispatch_without_its_event_is_read_and_claimed_at_the_present_version() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit(run_at=NOW + timedelta(seconds=1))
    log.command(job_id, c.DispatchJob(reason="due"))
    queue.put(item_of(log, job_id))
    async with TestExecutor(log, queue).working():
        await until(lambda: log.job(job_id).state == "succeeded")
    assert log.types(job_id) == ["JobSubmitted", "JobDispatched", "AttemptStarted", "AttemptSucceeded"]


async def test_a_queued_job_that_moved_while_it_was_claimed_is_claimed_all_the_same() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit()
    item = item_of(log, job_id)
    log.command(job_id, c.DispatchJob(reason="missing"))
    queue.put(item)
    async with TestExecutor(log, queue).working():
        await until(lambda: log.job(job_id).state == "succeeded")
    assert log.starts(job_id) == 1


async def test_an_expired_job_is_recorded_as_expired_and_never_run() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit(expires_at=NOW)
    queue.put(item_of(log, job_id))
    async with TestExecutor(log, queue).working() as executor:
        await until(lambda: log.job(job_id).state == "expired")
        await until(lambda: len(queue.acknowledged) == 1)
        assert executor.slots.taken <= executor.slots.total
    assert executor.runner.started == []


async def test_an_entry_of_a_job_that_the_log_does_not_have_is_dropped() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    stranger = item_of(log, log.submit())
    fresh = MemoryLog()
    job_id = fresh.submit()
    queue.put(stranger, WorkItem(*stranger[:5], None), item_of(fresh, job_id))
    async with TestExecutor(fresh, queue).working():
        await until(lambda: fresh.job(job_id).state == "succeeded")
        await until(lambda: len(queue.acknowledged) == 3)


async def test_a_claim_whose_answer_was_lost_is_run_once() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit()
    log.forgets_to_answer = 1
    queue.put(item_of(log, job_id))
    async with TestExecutor(log, queue).working() as executor:
        await until(lambda: log.job(job_id).state == "succeeded")
    assert log.starts(job_id) == 1
    assert len(executor.runner.started) == 1


async def test_no_more_than_the_slots_are_ever_taken_or_running() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    ids = [log.submit("held") for _ in range(12)]
    queue.put(*(item_of(log, job_id) for job_id in ids))
    async with TestExecutor(log, queue, slots=5).working() as executor:
        runner = executor.runner
        for job_id in ids:
            await until(lambda job_id=job_id: runner.running(job_id))
            assert len(executor.runs.running) <= 5
            assert len(queue.waiting) >= 12 - len(runner.started)
            runner.end(job_id, Failed("ValueError", "no", retryable=False))
        await executor.settled()
    assert runner.most <= 5
    assert max(queue.asked) <= 5
    assert all(log.job(job_id).state == "failed" for job_id in ids)


async def test_slots_that_become_free_during_a_claim_are_filled_together() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    ids = [log.submit() for _ in range(400)]
    queue.put(*(item_of(log, job_id) for job_id in ids))
    async with TestExecutor(log, queue, slots=100).working() as executor:
        await until(lambda: len(queue.acknowledged) == 400)
        await executor.settled()
    assert len(log.calls) <= 20
    assert max(log.calls) > 100, "no call carried claims and reports together"


async def test_nothing_is_claimed_before_the_executor_is_registered() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit()
    queue.put(item_of(log, job_id))
    parts = TestExecutor(log, queue)
    taking = asyncio.create_task(parts.executor.take_work())
    for _ in range(20):
        await asyncio.sleep(0)
    assert queue.asked == []
    parts.registered()
    await until(lambda: log.job(job_id).state == "succeeded")
    taking.cancel()


async def test_work_goes_on_when_the_broker_comes_back() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit()
    queue.away = True
    async with TestExecutor(log, queue).working():
        queue.put(item_of(log, job_id))
        for _ in range(20):
            await asyncio.sleep(0)
        queue.away = False
        await until(lambda: log.job(job_id).state == "succeeded")


async def test_abandoned_entries_are_taken_over() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit()
    queue.abandoned.append(item_of(log, job_id))
    parts = TestExecutor(log, queue)
    parts.registered()
    assert await parts.executor.take_over() == 1
    await parts.settled()
    assert log.job(job_id).state == "succeeded"


async def test_a_job_whose_task_is_not_known_here_is_left_to_others_and_costs_nothing() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    strange, dispatched, known = log.submit("elsewhere"), log.submit("elsewhere", run_at=NOW), log.submit()
    log.command(dispatched, c.DispatchJob(reason="due"))
    items = [item_of(log, job_id) for job_id in (strange, dispatched, known)]
    queue.put(*items)
    async with TestExecutor(log, queue, knows=lambda task: task == "noop").working():
        await until(lambda: log.job(known).state == "succeeded")
        await until(lambda: queue.acknowledged == [items[2]])
    assert queue.parked == [(items[0], "elsewhere"), (items[1], "elsewhere")]
    assert [log.job(job_id).state for job_id in (strange, dispatched)] == ["queued", "queued"]
    assert log.starts(strange) == log.starts(dispatched) == 0


async def test_a_thousand_jobs_of_strangers_stand_in_nobodys_way() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    strange = [log.submit("elsewhere") for _ in range(1_000)]
    known = log.submit()
    queue.put(*(item_of(log, job_id) for job_id in (*strange, known)))
    async with TestExecutor(log, queue, slots=1, knows=lambda task: task == "noop").working() as executor:
        await until(lambda: log.job(known).state == "succeeded")
        assert executor.slots.taken <= 1
    assert len(queue.parked) == 1_000
    assert not any(log.starts(job_id) for job_id in strange)


async def test_a_job_is_left_to_others_although_the_broker_is_away_at_that_moment() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit("elsewhere")
    executor = TestExecutor(log, queue, knows=lambda task: task == "noop")
    queue.put(item_of(log, job_id))
    queue.away = True
    queue.abandoned, queue.waiting = queue.waiting, []
    executor.registered()
    assert await executor.executor.take_over() == 1
    assert log.job(job_id).state == "queued"
    assert executor.slots.free == executor.slots.total


async def test_a_job_whose_stream_can_not_be_read_is_left_to_newer_executors_and_the_others_run() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    strange, other = log.submit(), log.submit()
    log.streams[strange].append(
        log.streams[strange][0]._replace(
            version=Version(2), position=Position(90), event=UnreadableEvent(type="JobTeleported", reason="newer")
        )
    )
    torn = log.submit()
    log.streams[torn][0] = log.streams[torn][0]._replace(event=UnreadableEvent(type="JobSubmitted", reason="newer"))
    items = [item_of(log, strange, inline=False), item_of(log, torn, inline=False), item_of(log, other)]
    queue.put(*items)
    async with TestExecutor(log, queue).working():
        await until(lambda: log.job(other).state == "succeeded")
        await until(lambda: queue.acknowledged == [items[2]])
    assert queue.parked == [(items[0], ""), (items[1], "")]
