"""Attempts of jobs that name secrets: the task gets them, and the log never does."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import pytest

from rota_server.apps.executor.attempts import Failed
from rota_server.apps.executor.masking import SecretFilter
from rota_server.apps.executor.secret_sources import SecretSources
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.spec import After, Predecessor
from tests.unit.executor_parts import MemoryLog, MemoryQueue, TestExecutor, item_of
from tests.waiting import until

SECRET = "hunter22-and-more"
NAMED = {"$secret": "billing-token", "prefix": "Bearer "}


class World:
    """One executor that has a secret."""

    def __init__(self) -> None:
        self.log, self.queue = MemoryLog(), MemoryQueue()
        sources = SecretSources({"ROTA_SECRET_BILLING_TOKEN": SECRET})
        self.parts = TestExecutor(self.log, self.queue, secrets=sources)

    def submit(self, task: str = "noop", **options: Any) -> UUID:
        job_id = self.log.submit(task, **options)
        self.queue.put(item_of(self.log, job_id))
        return job_id

    async def recorded(self, job_id: UUID) -> str:
        return repr(self.log.streams[job_id])


async def test_a_task_gets_the_secret_and_the_log_the_mask() -> None:
    world = World()
    async with world.parts.working():
        job_id = world.submit(args={"returns": NAMED})
        await until(lambda: world.log.job(job_id).ended)
    (attempt,) = world.parts.runner.started
    assert attempt.args == {"returns": f"Bearer {SECRET}"}
    assert world.log.job(job_id).result == "Bearer ***"
    assert world.log.job(job_id).spec.args == {"returns": NAMED}
    assert SECRET not in await world.recorded(job_id)


async def test_output_progress_and_errors_are_masked() -> None:
    world = World()
    runner = world.parts.runner
    async with world.parts.working():
        job_id = world.submit("wait", args={"a": NAMED})
        await until(lambda: runner.running(job_id))
        sink, attempt = runner.sinks[job_id], runner.started[0]
        sink.progress(attempt, 0.5, f"using {SECRET}")
        for piece in ("x ", SECRET[:5], SECRET[5:], " y", SECRET[:3]):
            sink.output(attempt, "stdout", piece)
        progress, world.parts.output._progress = list(world.parts.output._progress.values()), {}
        await world.parts.runs.report_progress(progress)
        runner.end(job_id, Failed("Error", f"{SECRET} is wrong", f"Traceback\n{SECRET}", retryable=False))
        await until(lambda: world.log.job(job_id).ended)
    assert world.parts.logs.text(job_id) == "x *** yhunTraceback\n***"
    recorded = await world.recorded(job_id)
    assert "using ***" in recorded
    assert "*** is wrong" in recorded
    assert SECRET not in recorded


async def test_a_secret_that_is_not_there_fails_the_attempt_before_the_task_begins() -> None:
    world = World()
    async with world.parts.working():
        job_id = world.submit(args={"a": {"$secret": "other"}})
        await until(lambda: world.log.job(job_id).error is not None)
    error = world.log.job(job_id).error
    assert error is not None
    assert (error.type, "other" in error.message, world.parts.runner.started) == ("UnknownSecret", True, [])


async def test_a_predecessors_result_cannot_name_a_secret() -> None:
    world = World()
    async with world.parts.working():
        first = world.log.submit()
        world.log.command(first, c.StartAttempt(executor="e0"))
        world.log.command(first, c.SucceedAttempt(attempt=1, executor="e0", result=NAMED))
        after = After(predecessors=(Predecessor(id=first, name="first"),))
        args = {"theirs": {"$result": "first"}, "own": NAMED}
        job_id = world.log.submit("noop", args=args, after=after)
        world.log.command(job_id, c.MeetDependencies())
        world.queue.put(item_of(world.log, job_id))
        await until(lambda: world.log.job(job_id).ended)
    (attempt,) = world.parts.runner.started
    assert attempt.args == {"theirs": NAMED, "own": f"Bearer {SECRET}"}


async def test_a_runners_defect_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    real = world.parts.runner.run

    async def broken(attempt: Any, sink: Any) -> Any:
        if attempt.task == "broken":
            raise RuntimeError(f"cannot use {attempt.args['a']}")
        return await real(attempt, sink)

    world.parts.runner.run = broken  # type: ignore[method-assign]
    caplog.handler.addFilter(SecretFilter(world.parts.runs.secrets_in_use))
    with caplog.at_level(logging.DEBUG):
        async with world.parts.working():
            job_id = world.submit("broken", args={"a": NAMED})
            await until(lambda: world.log.job(job_id).error is not None)
    assert "cannot use Bearer ***" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in await world.recorded(job_id)
