"""A queue with limits, and jobs whose tasks no executor there has: they hold nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import httpx
import pytest

from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.apps.settings import Settings
from rota_server.apps.store.application import create_app
from rota_server.apps.store.main import compose
from rota_server.domain.jobs import commands as c
from rota_server.domain.ports.coordination import Registration
from tests.integration.scheduler_system import SchedulerSystem, scheduler_system
from tests.waiting import until


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[SchedulerSystem]:
    async with scheduler_system(postgres_url, redis_url) as found:
        yield found


@pytest.fixture
async def store(system: SchedulerSystem, postgres_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(_env_file=None, database_url=postgres_url, unknown_tasks="accept")  # type: ignore[call-arg]
    clock = PostgresClock(system.database)
    await clock.sample()
    parts = compose(settings, system.database, system.log, clock, PostgresCoordination(system.database))
    transport = httpx.ASGITransport(app=create_app(parts, asyncio.Event()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000") as client:
        yield client


async def limit(store: httpx.AsyncClient, **settings: Any) -> None:
    answer = await store.patch("/v1/queues/q", json=settings)
    assert answer.status_code == 200, answer.text


async def submit(store: httpx.AsyncClient, count: int, task: str) -> list[UUID]:
    results = (await store.post("/v1/jobs/bulk", json=[{"task": task, "queue": "q"}] * count)).json()["results"]
    return [UUID(result["id"]) for result in results]


async def reasons(store: httpx.AsyncClient, job_id: UUID) -> set[str]:
    found = (await store.get(f"/v1/jobs/{job_id}/why")).json()
    return {reason["code"] for reason in found["reasons"]}


def executor(system: SchedulerSystem, name: str, *tasks: str) -> AbstractAsyncContextManager[Registration]:
    """An executor of the queue, as far as others can see one."""
    coordination = PostgresCoordination(system.database)
    return coordination.register("executor", name, {"queues": ["q"], "slots": 4, "tasks": list(tasks)})


async def dispatched(system: SchedulerSystem, ids: Sequence[UUID]) -> set[UUID]:
    rows = await system.index.get(ids)
    return {job_id for job_id in ids if rows[job_id].state == "queued"}


async def test_jobs_nobody_knows_leave_the_limit_to_the_others_and_go_once_somebody_knows_them(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    await limit(store, concurrency=2)
    strange = await submit(store, 300, "strange")
    known = await submit(store, 3, "noop")
    async with executor(system, "e1", "noop"):
        await system.node(PostgresCoordination(system.database)).leads()
        await until(lambda: _dispatched(system, known, 2), what="two of those that somebody knows")
        for job_id in known[:2]:
            await system.command(job_id, c.StartAttempt(executor="e1"))
            await system.command(job_id, c.SucceedAttempt(attempt=1, executor="e1", result=None))
        await until(lambda: _dispatched(system, known, 1), what="the third one")
        assert await dispatched(system, strange) == set()
        assert {"no_executor_for_task", "line"} <= await reasons(store, strange[0])
        async with executor(system, "e2", "strange"):
            await until(lambda: _dispatched(system, strange, 1), what="the first of those that are known now")
            assert await dispatched(system, strange) == {strange[0]}


async def test_a_job_that_was_dispatched_while_nobody_worked_on_the_queue_is_taken_back(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    await limit(store, concurrency=1)
    strange = await submit(store, 1, "strange")
    known = await submit(store, 1, "noop")
    await system.node(PostgresCoordination(system.database)).leads()
    await until(lambda: _dispatched(system, strange, 1), what="the dispatch to nobody")
    async with executor(system, "e1", "noop"):
        await until(lambda: _dispatched(system, known, 1), what="the job that somebody knows")
        assert await dispatched(system, strange) == set()


async def _dispatched(system: SchedulerSystem, ids: Sequence[UUID], count: int) -> bool:
    return len(await dispatched(system, ids)) == count
