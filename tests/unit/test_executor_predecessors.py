"""What an attempt gets of what its predecessors have returned."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rota_server.apps.executor.predecessors import RESULTS_LIMIT_BYTES
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.spec import After, Predecessor
from tests.unit.executor_parts import MemoryLog, MemoryQueue, TestExecutor, item_of
from tests.waiting import until


class World:
    """One executor, and jobs that have returned something."""

    def __init__(self) -> None:
        self.log, self.queue = MemoryLog(), MemoryQueue()
        self.parts = TestExecutor(self.log, self.queue)

    def returned(self, result: Any) -> UUID:
        job_id = self.log.submit()
        self.log.command(job_id, c.StartAttempt(executor="e0"))
        self.log.command(job_id, c.SucceedAttempt(attempt=1, executor="e0", result=result))
        return job_id

    def follows(self, task: str = "noop", args: dict[str, Any] | None = None, **predecessors: UUID) -> UUID:
        after = After(predecessors=tuple(Predecessor(id=i, name=name) for name, i in predecessors.items()))
        job_id = self.log.submit(task, args=args or {}, after=after)
        self.log.command(job_id, c.MeetDependencies())
        self.queue.put(item_of(self.log, job_id))
        return job_id


async def test_a_task_gets_results_by_name_and_arguments_with_them_inside() -> None:
    world = World()
    async with world.parts.working():
        rows, unused = world.returned({"rows": [1, 2]}), world.returned(None)
        job_id = world.follows(args={"returns": {"$result": "rows", "path": "rows.1"}}, rows=rows, unused=unused)
        await until(lambda: world.log.job(job_id).ended)
    assert world.log.job(job_id).result == 2
    (attempt,) = world.parts.runner.started
    assert attempt.results == {"rows": {"rows": [1, 2]}, "unused": None}
    assert attempt.omitted == ()


async def test_results_that_do_not_fit_are_left_out_by_name_those_referred_to_last() -> None:
    world = World()
    large = "x" * (RESULTS_LIMIT_BYTES // 2)
    async with world.parts.working():
        first, second = world.returned(large), world.returned(large)
        small, failed = world.returned(1), world.log.submit()
        args = {"returns": {"$result": "second"}}
        job_id = world.follows(args=args, first=first, second=second, small=small, failed=failed)
        await until(lambda: world.log.job(job_id).ended)
    (attempt,) = world.parts.runner.started
    assert set(attempt.results or {}) == {"second", "small"}
    assert attempt.omitted == ("first",)


async def test_a_reference_that_leads_nowhere_fails_the_job_for_good() -> None:
    world = World()
    async with world.parts.working():
        job_id = world.follows(args={"returns": {"$result": "rows", "path": "x"}}, rows=world.returned({"y": 1}))
        missing = world.follows(args={"returns": {"$result": "rows"}}, rows=world.log.submit())
        await until(lambda: world.log.job(job_id).ended and world.log.job(missing).ended)
    error = world.log.job(job_id).error
    assert error is not None
    assert (error.type, error.message) == ("UnresolvedReference", "args.returns: the result has no x (rows has no x)")
    assert world.log.job(job_id).state == world.log.job(missing).state == "failed"
    assert world.parts.runner.started == []


async def test_what_is_referred_to_may_be_too_large() -> None:
    world = World()
    async with world.parts.working():
        args = {"returns": [{"$result": "a"}, {"$result": "b"}]}
        large = "x" * (RESULTS_LIMIT_BYTES // 2)
        job_id = world.follows(args=args, a=world.returned(large), b=world.returned(large))
        await until(lambda: world.log.job(job_id).ended)
    error = world.log.job(job_id).error
    assert error is not None
    assert "more than 1048576 bytes together" in error.message


async def test_a_job_waits_for_results_while_the_log_is_away_and_can_be_cancelled_meanwhile() -> None:
    world = World()
    async with world.parts.working():
        rows = world.returned(1)
        values = world.log.sizes
        world.log.sizes_away = True  # type: ignore[attr-defined]

        async def away(ids: Any) -> dict[UUID, int]:
            from rota_server.domain.errors import Unavailable

            if world.log.sizes_away:  # type: ignore[attr-defined]
                raise Unavailable("away", server="postgres")
            return await values(ids)

        world.log.sizes = away  # type: ignore[method-assign]
        job_id = world.follows("held", rows=rows)
        await until(lambda: (job_id, 1) in world.parts.runs.running)
        world.log.command(job_id, c.RequestCancel())
        world.parts.runs.cancel(job_id, 1)
        world.log.sizes_away = False  # type: ignore[attr-defined]
        await until(lambda: world.log.job(job_id).state == "cancelled")
    assert world.parts.runner.started == []
