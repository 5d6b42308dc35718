"""Jobs that wait for others, on PostgreSQL and Redis: what meets and what fails what they wait for, whoever leads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.dependency_table import PostgresDependencyTable
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.events import AttemptError, JobCancelled, JobDispatched
from rota_server.domain.jobs.retry import RetryPolicy
from rota_server.domain.jobs.spec import After, Predecessor
from tests.integration.scheduler_system import Node, SchedulerSystem, scheduler_system
from tests.waiting import until


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[SchedulerSystem]:
    async with scheduler_system(postgres_url, redis_url) as found:
        yield found


def after(*ids: UUID, outcome: Any = "succeeded", **options: Any) -> After:
    return After(predecessors=tuple(Predecessor(id=i, name=str(i), outcome=outcome) for i in ids), **options)


async def succeed(system: SchedulerSystem, job_id: UUID) -> None:
    started = await system.command(job_id, c.StartAttempt(executor="e1"))
    await system.command(job_id, c.SucceedAttempt(attempt=started.attempt, executor="e1", result={"n": 1}))


async def fail(system: SchedulerSystem, job_id: UUID) -> None:
    started = await system.command(job_id, c.StartAttempt(executor="e1"))
    error = AttemptError(type="ValueError", message="no")
    failed = c.FailAttempt(attempt=started.attempt, executor="e1", error=error, retryable=False)
    await system.command(job_id, failed)


def lead(system: SchedulerSystem) -> Node:
    return system.node(PostgresCoordination(system.database))


async def test_a_job_runs_when_all_that_it_waits_for_have_succeeded(system: SchedulerSystem):
    await lead(system).leads()
    first, second = await system.submit(2)
    (last,) = await system.submit(after=after(first, second))
    await succeed(system, first)
    assert (await system.job(last)).state == "waiting"
    await succeed(system, second)
    await system.in_state("queued", [last])
    dispatched = (await system.log.read_stream(last))[1]
    assert isinstance(dispatched.event, JobDispatched)
    assert dispatched.event.reason == "dependencies"


async def test_what_had_ended_before_the_submission_counts_at_once(system: SchedulerSystem):
    await lead(system).leads()
    good, bad = await system.submit(2)
    await succeed(system, good)
    await fail(system, bad)
    (runs,) = await system.submit(after=after(good))
    (cancelled,) = await system.submit(after=after(bad))
    await system.in_state("queued", [runs])
    await system.in_state("cancelled", [cancelled])


async def test_a_failure_runs_down_the_graph_and_says_whose_it_was(system: SchedulerSystem):
    await lead(system).leads()
    (first,) = await system.submit()
    (second,) = await system.submit(after=after(first))
    (third,) = await system.submit(after=after(second))
    (after_failure,) = await system.submit(after=after(second, outcome="failed"))
    await fail(system, first)
    await system.in_state("cancelled", [second, third])
    await system.in_state("queued", [after_failure])
    ended = (await system.log.read_stream(second))[-1].event
    assert isinstance(ended, JobCancelled)
    assert (ended.cause, ended.was) == ("dependency", "waiting")
    assert ended.reason == f"its predecessor {first} ended as failed, not as succeeded"


async def test_a_held_job_runs_once_its_predecessor_was_retried_and_has_succeeded(system: SchedulerSystem):
    await lead(system).leads()
    (first,) = await system.submit()
    (held,) = await system.submit(after=after(first, on_failure="hold"))
    (regardless,) = await system.submit(after=after(first, on_failure="run"))
    await fail(system, first)
    await system.in_state("queued", [regardless])
    await system.command(first, c.RetryJob())
    assert (await system.job(held)).state == "waiting"
    await succeed(system, first)
    await system.in_state("queued", [held])


async def test_what_ended_while_nobody_led_is_decided_by_the_next_leader(system: SchedulerSystem):
    ids = await system.submit(600, retry=RetryPolicy(max_attempts=1))
    waiting = [(await system.submit(after=after(i)))[0] for i in ids[:20]]
    (one_of_all,) = await system.submit(after=after(*ids, mode="any"))
    (all_of_all,) = await system.submit(after=after(*ids))
    (unmoved,) = await system.submit(after=after(ids[-1]))
    node = lead(system)
    await node.leads()
    await node.stop()
    for job_id in ids[:20]:
        await succeed(system, job_id)
    await lead(system).leads()
    await system.in_state("queued", [*waiting, one_of_all])
    assert {(await system.job(i)).state for i in (all_of_all, unmoved)} == {"waiting"}


async def test_the_table_forgets_who_does_not_wait_any_more_and_keeps_who_waits_again(system: SchedulerSystem):
    table = PostgresDependencyTable(system.database)
    (first,) = await system.submit()
    (second,) = await system.submit(after=after(first))
    assert await table.forget([str(second)]) == set()
    assert list(await system.index.awaited()) == [(first, second)]
    await lead(system).leads()
    await fail(system, first)
    await system.in_state("cancelled", [second])

    async def forgotten() -> bool:
        return not await system.index.awaited()

    await until(forgotten, what="the row's deletion")
    await system.command(second, c.RetryJob(dependencies=True))
    await system.in_state("cancelled", [second])
    await system.command(first, c.RetryJob())
    await system.command(second, c.RetryJob(dependencies=True))
    await succeed(system, first)
    await system.in_state("queued", [second])


async def test_a_waiting_job_keeps_its_time_and_expires(system: SchedulerSystem):
    from datetime import UTC, datetime, timedelta

    await lead(system).leads()
    now = datetime.now(UTC)
    (first,) = await system.submit()
    (later,) = await system.submit(after=after(first), run_at=now + timedelta(hours=1))
    (expiring,) = await system.submit(after=after(first), expires_at=now + timedelta(seconds=0.8))
    await system.in_state("expired", [expiring])
    await succeed(system, first)
    await system.in_state("scheduled", [later])
