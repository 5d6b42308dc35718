"""How attempts end, and what is recorded of that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from rota_server.apps.executor.attempts import Cancelled, Failed, Lost, Succeeded
from rota_server.apps.executor.processes.runs import Patience
from rota_server.apps.executor.reporting import RESULT_LIMIT_BYTES, writable
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.events import AttemptSucceeded
from rota_server.domain.jobs.retry import RetryPolicy
from rota_server.domain.leader_state import BEGIN_LIMIT, DEADLINE_GRACE
from rota_server.domain.log import Unit
from tests.unit.executor_parts import FAILED, MemoryLog, MemoryQueue, TestExecutor, TestRunner, item_of
from tests.waiting import until


class World:
    """One executor at work, and jobs that its test ends."""

    def __init__(self, **options: Any) -> None:
        self.log, self.queue = MemoryLog(), MemoryQueue()
        self.parts = TestExecutor(self.log, self.queue, **options)
        self.runner: TestRunner = self.parts.runner

    async def started(self, task: str = "held", **spec: Any) -> UUID:
        job_id = self.log.submit(task, **spec)
        self.queue.put(item_of(self.log, job_id))
        await until(lambda: self.runner.running(job_id) or self.log.job(job_id).ended)
        return job_id

    async def ended(self, job_id: UUID) -> list[str]:
        await self.parts.settled()
        return self.log.types(job_id)[2:]


async def test_a_failure_is_recorded_with_the_time_of_the_next_attempt() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.runner.end(job_id, FAILED)
        assert await world.ended(job_id) == ["AttemptFailed"]
    assert world.log.job(job_id).state == "retrying"
    assert world.log.job(job_id).run_at is not None


@pytest.mark.parametrize("outcome", [Failed("ValueError", "never", retryable=False), FAILED])
async def test_the_last_failure_is_the_jobs_end(outcome: Failed) -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started(retry=RetryPolicy(max_attempts=1 if outcome.retryable else 5))
        world.runner.end(job_id, outcome)
        assert await world.ended(job_id) == ["AttemptFailed", "JobDead"]


async def test_a_result_is_decided_anew_when_the_stream_moved() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.log.command(job_id, c.ReportProgress(attempt=1, fraction=0.5, message=None))
        world.runner.end(job_id, Succeeded(1))
        assert await world.ended(job_id) == ["ProgressReported", "AttemptSucceeded"]


async def test_a_result_of_an_attempt_that_was_declared_lost_is_rejected() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.log.command(job_id, c.LoseAttempt(attempt=1, reason="its executor is gone"))
        world.runner.end(job_id, Succeeded(1))
        assert await world.ended(job_id) == ["AttemptLost", "ResultRejected"]
    assert world.log.job(job_id).result is None


async def test_a_success_that_races_with_a_cancel_request_stays_a_success() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.log.command(job_id, c.RequestCancel())
        world.runner.end(job_id, Succeeded(1))
        assert await world.ended(job_id) == ["CancelRequested", "AttemptSucceeded"]


async def test_a_cancelled_task_ends_its_job() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.log.command(job_id, c.RequestCancel(reason="enough"))
        world.parts.runs.cancel(job_id, 1)
        assert await world.ended(job_id) == ["CancelRequested", "JobCancelled"]
    assert world.log.job(job_id).reason == "enough"


async def test_a_failure_after_a_cancel_request_cancels_the_job() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.log.command(job_id, c.RequestCancel())
        world.runner.end(job_id, FAILED)
        assert await world.ended(job_id) == ["CancelRequested", "AttemptFailed", "JobCancelled"]


async def test_an_attempt_that_ended_without_a_wish_is_lost_and_retried() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.runner.end(job_id, Cancelled())
        assert await world.ended(job_id) == ["AttemptLost"]
    assert world.log.job(job_id).state == "retrying"


async def test_a_cancel_of_another_attempt_or_job_ends_nothing() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.parts.runs.cancel(job_id, 2)
        world.parts.runs.cancel(UUID(int=7), 1)
        assert world.runner.cancelled == []
        world.runner.end(job_id, Succeeded(None))
        await world.parts.settled()


async def test_a_result_waits_for_the_log_and_is_recorded_once() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.log.away = True
        world.runner.end(job_id, Lost("for another attempt's sake"))
        other = world.log.submit()
        world.queue.put(item_of(world.log, other))
        await until(lambda: not world.runner.running(job_id))
        world.log.forgets_to_answer = 1
        world.log.away = False
        await until(lambda: world.log.job(other).state == "succeeded")
        assert await world.ended(job_id) == ["AttemptLost"]
        assert world.log.starts(other) == 1


@pytest.mark.parametrize("times", [1, 2, 20])
async def test_a_result_that_the_log_refuses_unexpectedly_is_kept(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def soon(_backoff: object) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr("rota_server.apps.service.Backoff.pause", soon)
    world = World()
    refusals = iter(range(times))

    def refuse(units: Sequence[Unit]) -> None:
        success = any(isinstance(event, AttemptSucceeded) for unit in units for event in unit.writes[0].events)
        if success and next(refusals, None) is not None:
            raise ValueError("a driver's surprise")

    async with world.parts.working():
        job_id = await world.started()
        world.log.before_append = refuse
        world.runner.end(job_id, Succeeded(42))
        await world.parts.settled()
    if times < 8:
        assert world.log.job(job_id).result == 42
    else:
        error = world.log.job(job_id).error
        assert error is not None
        assert error.type == "ReportRefused"


async def test_output_that_can_not_be_kept_costs_no_result() -> None:
    world = World()

    async def refuse(_parts: object) -> None:
        raise ValueError("a driver's surprise")

    world.parts.logs.write = refuse  # type: ignore[assignment, method-assign]
    async with world.parts.working():
        job_id = await world.started()
        world.runner.sinks[job_id].output(world.runner.started[-1], "stdout", "said")
        world.runner.end(job_id, Succeeded(42))
        await until(lambda: world.log.job(job_id).state == "succeeded", timeout_seconds=5)


async def test_unrecorded_results_stop_the_taking_of_new_work() -> None:
    world = World(slots=2)
    log, slots = world.log, world.parts.slots
    async with world.parts.working():
        ids = [await world.started(), await world.started()]
        log.open.clear()
        for job_id in ids:
            world.runner.end(job_id, Succeeded(None))
        await until(lambda: slots.unreported == 2)
        assert slots.free == 2
        slots.unreported += 2
        assert slots.free == 0
        slots.unreported -= 2
        log.open.set()
        await world.parts.settled()
    assert slots.unreported == 0


async def test_a_task_that_is_gone_since_its_claim_is_lost_and_has_not_failed() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit("strange")
    queue.put(item_of(log, job_id))
    async with TestExecutor(log, queue, without_python=True).working():
        await until(lambda: log.job(job_id).state == "retrying")
    assert log.types(job_id)[-1] == "AttemptLost"
    assert (log.job(job_id).failures, log.job(job_id).losses) == (0, 0)


async def test_a_defect_of_a_runner_costs_its_attempt_alone() -> None:
    world = World()
    async with world.parts.working():
        job_id = world.log.submit("defect")
        other = world.log.submit()
        world.queue.put(item_of(world.log, job_id), item_of(world.log, other))
        await until(lambda: world.log.job(other).state == "succeeded")
        assert await world.ended(job_id) == ["AttemptFailed"]
    assert world.parts.slots.taken == 0


async def test_progress_is_recorded_and_later_reports_know_it() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        attempt = world.runner.started[0]
        await world.parts.runs.report_progress([(attempt, 2.0, "half\ud800way\x00")])
        assert world.log.job(job_id).progress == (1.0, "half?way\x00")
        appends = len(world.log.calls)
        world.runner.end(job_id, Succeeded(None))
        assert await world.ended(job_id) == ["ProgressReported", "AttemptSucceeded"]
        assert len(world.log.calls) == appends + 1


async def test_progress_that_meets_a_conflict_is_left_out_and_the_next_comes_through() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        attempt = world.runner.started[0]
        world.log.command(job_id, c.RequestCancel())
        await world.parts.runs.report_progress([(attempt, 0.1, None)])
        await world.parts.runs.report_progress([(attempt, float("nan"), None)])
        assert world.log.types(job_id)[2:] == ["CancelRequested", "ProgressReported"]
        assert world.log.job(job_id).progress == (None, None)
        world.runner.end(job_id, Succeeded(None))
        await world.parts.settled()


def test_results_are_taken_up_to_the_limit_and_no_further() -> None:
    fits = "x" * (RESULT_LIMIT_BYTES - 2)
    assert writable(Succeeded(fits)) == Succeeded(fits)
    refused = writable(Succeeded(fits + "x"))
    assert isinstance(refused, Failed)
    assert (refused.type, refused.retryable) == ("ResultTooLarge", False)


@pytest.mark.parametrize("result", ["\ud800", {1: 2}, {"a": object()}, 2**70, {"deep": {"\udfff": 1}}])
def test_results_that_are_not_json_fail_the_attempt_for_good(result: Any) -> None:
    refused = writable(Succeeded(result))
    assert isinstance(refused, Failed)
    assert (refused.type, refused.retryable) == ("ResultNotJson", False)


def test_errors_become_text_that_the_log_can_hold() -> None:
    given = Failed("E" * 1000, "no \ud83d \x00" + "m" * 100_000, "t" * 100_000)
    kept = writable(given)
    assert isinstance(kept, Failed)
    kept.message.encode()
    assert len(kept.type) == 200
    assert len(kept.message) == 8_000
    assert kept.traceback is not None
    assert len(kept.traceback) == 64_000


async def test_an_unwritable_result_does_not_hinder_its_neighbours() -> None:
    world = World()
    async with world.parts.working():
        bad = await world.started()
        ids = [await world.started() for _ in range(3)]
        world.runner.end(bad, Succeeded("\udead"))
        for job_id in ids:
            world.runner.end(job_id, Succeeded("fine"))
        assert await world.ended(bad) == ["AttemptFailed", "JobDead"]
    assert [world.log.job(job_id).state for job_id in ids] == ["succeeded"] * 3


async def test_a_lost_session_ends_what_runs_and_claims_under_the_new_name() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.parts.executor.lost("e2")
        assert await world.ended(job_id) == ["AttemptLost"]
        waiting = world.log.submit()
        world.queue.put(item_of(world.log, waiting))
        world.parts.registered()
        await until(lambda: world.log.job(waiting).state == "succeeded")
    assert world.log.job(waiting).executor == "e2"


async def test_a_success_after_a_lost_session_counts_unless_it_was_declared_lost() -> None:
    world = World()
    world.runner.stubborn = True
    async with world.parts.working():
        counted, rejected = await world.started(), await world.started()
        world.parts.executor.lost("e2")
        world.log.command(rejected, c.LoseAttempt(attempt=1, reason="executor e1 is gone"))
        for job_id in (counted, rejected):
            world.runner.end(job_id, Succeeded(1))
        await world.parts.settled()
    assert world.log.job(counted).state == "succeeded"
    assert world.log.types(rejected)[2:] == ["AttemptLost", "ResultRejected"]


async def test_a_claim_made_under_a_name_lost_meanwhile_is_not_run() -> None:
    world = World()
    world.log.open.clear()
    job_id = world.log.submit()
    world.queue.put(item_of(world.log, job_id))
    async with world.parts.working():
        await until(lambda: world.parts.executor.claiming)
        world.parts.executor.lost("e2")
        world.log.open.set()
        await until(lambda: world.log.types(job_id)[2:] == ["AttemptLost"])
    assert world.runner.started == []


async def test_the_comparison_ends_attempts_that_were_declared_lost() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        await world.parts.watcher.end_what_is_over()
        assert world.runner.cancelled == []
        world.log.command(job_id, c.LoseAttempt(attempt=1, reason="its executor is gone"))
        await world.parts.watcher.end_what_is_over()
        assert await world.ended(job_id) == ["AttemptLost"]
    assert len(world.runner.cancelled) == 1


async def test_the_comparison_finds_a_cancellation_whose_notice_was_lost() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.log.command(job_id, c.RequestCancel())
        await world.parts.watcher.end_what_is_over()
        assert await world.ended(job_id) == ["CancelRequested", "JobCancelled"]


async def test_an_attempt_that_its_executor_does_not_know_is_given_up() -> None:
    world = World()
    async with world.parts.working():
        known = await world.started()
        unknown = world.log.submit()
        world.log.command(unknown, c.StartAttempt(executor="e1"))
        foreign = world.log.submit()
        world.log.command(foreign, c.StartAttempt(executor="e9"))
        await world.parts.watcher.give_up_what_is_unknown()
        assert world.log.types(unknown)[2:] == ["AttemptLost"]
        assert world.log.job(known).state == world.log.job(foreign).state == "running"
        world.runner.end(known, Succeeded(None))
        await world.parts.settled()


async def test_a_claim_under_way_is_not_given_up_as_unknown() -> None:
    world = World()
    job_id = world.log.submit()
    world.log.command(job_id, c.StartAttempt(executor="e1"))
    world.parts.executor.claiming.add(job_id)
    await world.parts.watcher.give_up_what_is_unknown()
    assert world.log.job(job_id).state == "running"


async def test_a_drain_lets_attempts_finish_and_takes_nothing_more() -> None:
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        draining = asyncio.create_task(world.parts.executor.drain(10, kill=world.runner.kill))
        await until(lambda: world.parts.executor.draining)
        later = world.log.submit()
        world.queue.put(item_of(world.log, later))
        world.runner.end(job_id, Succeeded(1))
        await draining
        assert await world.ended(job_id) == ["AttemptSucceeded"]
    assert world.log.types(later) == ["JobSubmitted"]


async def test_a_drain_gives_back_what_does_not_end_in_time() -> None:
    world = World()
    world.runner.stubborn = True
    async with world.parts.working():
        ids = [await world.started() for _ in range(3)]
        await world.parts.executor.drain(0, kill=world.runner.kill)
    for job_id in ids:
        assert world.log.types(job_id)[2:] == ["AttemptLost"]
        assert world.log.job(job_id).state == "retrying"
        assert world.log.job(job_id).error is not None
        assert world.log.job(job_id).error.message == "its executor stopped"


async def test_a_drain_hands_back_at_no_cost_what_may_be_repeated() -> None:
    world = World()
    world.runner.stubborn = True
    once = RetryPolicy(max_attempts=1, max_losses=0)
    async with world.parts.working():
        free = await world.started(retry=once, idempotent=True)
        costly = await world.started(retry=once)
        await world.parts.executor.drain(0, kill=world.runner.kill)
    job = world.log.job(free)
    assert (job.state, job.losses) == ("retrying", 0)
    assert job.run_at is not None
    assert job.run_at <= job.changed_at
    assert world.log.job(costly).state == "failed"
    assert world.log.job(costly).reason == "lost too often"


async def test_a_drain_during_a_claim_neither_loses_nor_hides_what_was_taken() -> None:
    world = World()
    job_id = world.log.submit()
    world.log.open.clear()
    world.queue.put(item_of(world.log, job_id))
    async with world.parts.working():
        await until(lambda: world.parts.executor.claiming)
        draining = asyncio.create_task(world.parts.executor.drain(10, kill=world.runner.kill))
        await until(lambda: world.parts.executor.draining)
        world.log.open.set()
        await draining
    assert world.log.job(job_id).state == "succeeded"
    assert len(world.queue.acknowledged) == 1


async def test_a_drain_ends_although_the_log_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota_server.apps.executor.service.GIVE_BACK_SECONDS", 0.05)
    world = World()
    async with world.parts.working():
        job_id = await world.started()
        world.log.away = True
        await world.parts.executor.drain(0, kill=world.runner.kill)
        world.log.away = False
        await world.parts.settled()
    assert world.log.types(job_id)[2:] == ["AttemptLost"]


async def test_an_attempt_that_could_not_begin_soon_after_its_claim_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The leader counts from the claim, and would declare it lost in the middle of its run."""
    world = World()
    world.log.open.clear()
    job_id = world.log.submit("held", timeout_seconds=60)
    world.queue.put(item_of(world.log, job_id))
    async with world.parts.working():
        await until(lambda: world.parts.executor.claiming)
        late = time.monotonic() + BEGIN_LIMIT.total_seconds() + 0.1
        with monkeypatch.context() as patched:
            patched.setattr(time, "monotonic", lambda: late)
            world.parts.registration.certain_since = 0.0
            world.log.open.set()
            for _ in range(200):
                await asyncio.sleep(0)
        await until(lambda: world.log.types(job_id)[2:3] == ["AttemptLost"])
    assert world.runner.started == []


def test_the_leaders_patience_is_longer_than_all_that_an_attempt_may_wait_for() -> None:
    patience = Patience()
    assert patience.begin <= BEGIN_LIMIT.total_seconds()
    ending = max(patience.cancel, patience.timeout) + patience.neighbours
    assert DEADLINE_GRACE.total_seconds() >= patience.begin + ending + 10, "and some time to say so"
