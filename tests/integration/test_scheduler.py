"""The scheduler on PostgreSQL and Redis: what is due, what is lost, what outages and other leaders do to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.events import AttemptError, JobDispatched
from tests.integration.scheduler_system import SchedulerSystem, scheduler_system
from tests.waiting import until


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[SchedulerSystem]:
    async with scheduler_system(postgres_url, redis_url) as found:
        yield found


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def test_a_delayed_job_is_dispatched_when_it_is_due_and_not_before(system: SchedulerSystem):
    await system.node(PostgresCoordination(system.database)).leads()
    run_at = soon(0.7)
    (job_id,) = await system.submit(run_at=run_at)
    await system.in_state("queued", [job_id])
    dispatched = (await system.log.read_stream(job_id))[1]
    assert isinstance(dispatched.event, JobDispatched)
    assert dispatched.event.reason == "due"
    assert dispatched.meta.term == 1
    assert dispatched.recorded_at >= run_at


async def test_a_failed_attempt_is_dispatched_again_after_its_delay(system: SchedulerSystem):
    await system.node(PostgresCoordination(system.database)).leads()
    (job_id,) = await system.submit()
    await system.command(job_id, c.StartAttempt(executor="e1"))
    error = AttemptError(type="ValueError", message="no")
    after = await system.command(job_id, c.FailAttempt(attempt=1, executor="e1", error=error))
    assert after.run_at is not None
    await system.in_state("queued", [job_id])
    dispatched = (await system.log.read_stream(job_id))[-1]
    assert isinstance(dispatched.event, JobDispatched)
    assert dispatched.event.reason == "retry"
    assert dispatched.recorded_at >= after.run_at


async def test_an_executor_that_vanishes_loses_its_attempts(system: SchedulerSystem):
    coordination = PostgresCoordination(system.database)
    ids = await system.submit(20)
    node = system.node(coordination)
    await node.leads()
    async with coordination.register("executor", "e1", {}):
        for job_id in ids:
            await system.command(job_id, c.StartAttempt(executor="e1"))

        def seen() -> bool:
            return node.scheduler.leading is not None and "e1" in node.scheduler.leading.state._seen

        await until(seen, what="the executor's being seen")
    await system.in_state("queued", ids)
    assert await system.types(ids[0]) == ["JobSubmitted", "AttemptStarted", "AttemptLost", "JobDispatched"]


async def test_a_job_that_nobody_starts_expires_on_time(system: SchedulerSystem):
    await system.node(PostgresCoordination(system.database)).leads()
    expires_at = soon(3)  # the delayed one's dispatch has to come before, on a busy machine too
    (at_once,) = await system.submit(expires_at=expires_at)
    (delayed,) = await system.submit(run_at=soon(0.4), expires_at=expires_at)
    await system.in_state("expired", [at_once, delayed])
    assert await system.types(at_once) == ["JobSubmitted", "JobExpired"]
    assert await system.types(delayed) == ["JobSubmitted", "JobDispatched", "JobExpired"]
    for job_id in (at_once, delayed):
        recorded_at = (await system.log.read_stream(job_id))[-1].recorded_at
        assert recorded_at >= expires_at


async def test_what_became_due_while_nobody_led_is_dispatched_by_the_next_leader(system: SchedulerSystem):
    ids = await system.submit(1200, run_at=soon(-1))
    await system.node(PostgresCoordination(system.database)).leads()
    await system.in_state("queued", ids)
