"""Unique jobs under a leader: what waits for the one before it runs after it, and never beside it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.apps.settings import Settings
from rota_server.apps.store.jobs.handlers import Jobs
from rota_server.apps.store.main import compose
from rota_server.domain.errors import RotaError
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.events import JobCancelled, UniqueClaimed
from rota_server.domain.jobs.job import Job, evolve
from rota_server.domain.log import Meta
from tests.integration.scheduler_system import SchedulerSystem, scheduler_system
from tests.waiting import until

META = Meta(actor="test")
SUBMISSIONS = 60


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[SchedulerSystem]:
    async with scheduler_system(postgres_url, redis_url) as found:
        await found.node(PostgresCoordination(found.database)).leads()
        yield found


def store(system: SchedulerSystem) -> Jobs:
    """A store with connections of its own."""
    database = Database(system.database.url)
    system.stack.push_async_callback(database.close)
    log = PostgresEventLog(database)
    system.stack.push_async_callback(log.close)
    settings = Settings(_env_file=None, database_url=database.url, unknown_tasks="accept")  # type: ignore[call-arg]
    return Jobs(compose(settings, database, log, PostgresClock(database), PostgresCoordination(database)))


def asking(policy: str, key: str = "k") -> Any:
    return {"task": "noop", "unique": {"key": key, "on_conflict": policy}}


@pytest.mark.parametrize("policy", ["replace", "keep_latest"])
async def test_the_next_one_runs_when_the_one_before_it_has_ended(system: SchedulerSystem, policy: str) -> None:
    jobs = store(system)
    first = (await jobs.submit(asking(policy), None, META)).job
    await system.command(first.id, c.StartAttempt(executor="e"))
    second = (await jobs.submit(asking(policy), None, META)).job
    third = (await jobs.submit(asking(policy), None, META)).job
    assert (second.state, third.state) == ("waiting", "waiting")
    assert (await system.job(second.id)).state == "cancelled"
    running = await system.job(first.id)
    assert running.cancel_requested is (policy == "replace")
    if policy == "replace":
        await system.command(first.id, c.ConfirmCancel(attempt=1, executor="e"))
        ended = (await system.log.read_stream(first.id))[-1].event
        assert isinstance(ended, JobCancelled)
        assert ended.cause == "replaced"
    else:
        await system.command(first.id, c.SucceedAttempt(attempt=1, executor="e", result=None))
    await system.in_state("queued", [third.id])


async def play_executor(system: SchedulerSystem, jobs: Jobs, rng: random.Random) -> None:
    """Start what is queued; end what runs, as it was asked to where it was."""
    while True:
        rows = await system.index.find(_any(), before=None, limit=SUBMISSIONS)
        for row in rows:
            job = await system.job(row.id)
            command: c.Command | None = None
            if job.state == "queued":
                command = c.StartAttempt(executor="e")
            elif job.state == "running" and job.cancel_requested:
                command = c.ConfirmCancel(attempt=job.attempt, executor="e")
            elif job.state == "running" and rng.random() < 0.3:
                command = c.SucceedAttempt(attempt=job.attempt, executor="e", result=None)
            if command is not None:
                try:
                    await jobs.act(job.id, command, META)
                except RotaError:
                    continue
        await asyncio.sleep(0)


def _any() -> Any:
    from rota_server.domain.ports.indexes import JobFilter

    return JobFilter()


@pytest.mark.parametrize("policy", ["replace", "keep_latest"])
async def test_two_of_a_key_never_run_at_once_however_many_are_submitted(system: SchedulerSystem, policy: str) -> None:
    stores = [store(system), store(system)]
    playing = asyncio.create_task(play_executor(system, store(system), random.Random(7)))

    async def submit(number: int) -> list[UUID]:
        found = [await stores[number % 2].submit(asking(policy), None, META) for _ in range(SUBMISSIONS // 4)]
        return [answer.job.id for answer in found]

    ids = [job_id for found in await asyncio.gather(*(submit(number) for number in range(4))) for job_id in found]
    assert len(set(ids)) == SUBMISSIONS

    async def ended() -> bool:
        return all([(await system.job(job_id)).ended for job_id in ids]) or playing.done()

    await until(ended, timeout_seconds=120, what="the end of all jobs")
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)

    alive: dict[UUID, Job] = {}
    for recorded in await system.log.read(Position(0), 100_000):
        if isinstance(recorded.event, UniqueClaimed) or type(recorded.event).__name__ == "LeaderElected":
            continue
        alive[recorded.stream_id] = evolve(alive.get(recorded.stream_id), recorded)
        states = [job.state for job in alive.values() if not job.ended]
        assert states.count("running") <= 1
        assert len(states) <= 2
        if len(states) == 2:
            assert set(states) == {"running", "waiting"}
    claimed = [r.event for r in await system.log.read(Position(0), 100_000) if isinstance(r.event, UniqueClaimed)]
    assert (await system.job(UUID(claimed[-1].job))).state == "succeeded"
