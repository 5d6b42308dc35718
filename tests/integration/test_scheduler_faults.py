"""What the scheduler does when it, its servers or its coordination fail in the middle of things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.fence import PostgresFence
from rota_server.adapters.redis.streams import work_stream
from rota_server.apps.scheduler.service import LEADERSHIP_STREAM
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Term
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide
from rota_server.domain.jobs.events import DecisionRefused, JobDispatched, LeaderElected
from rota_server.domain.leader_state import UNSEEN_GRACE
from rota_server.domain.log import AppendResult, Unit
from tests.conftest import TestDatabase
from tests.integration.coordination_tools import coordinated
from tests.integration.scheduler_system import SchedulerSystem, scheduler_system
from tests.waiting import until
from tests.zookeeper_server import ZooKeeperServer


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[SchedulerSystem]:
    async with scheduler_system(postgres_url, redis_url) as found:
        yield found


class HeldLog:
    """A log whose dispatches stop on their way: before the log or, with `behind`, on the way back."""

    def __init__(self, log: PostgresEventLog, *, behind: bool) -> None:
        self._log = log
        self._behind = behind
        self.stopped = asyncio.Event()
        self.go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        if not any(isinstance(event, JobDispatched) for unit in units for event in unit.writes[0].events):
            return await self._log.append(units, fence=fence)
        results = await self._log.append(units, fence=fence) if self._behind else None
        self.stopped.set()
        await self.go_on.wait()
        return results if results is not None else await self._log.append(units, fence=fence)


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def dispatches(system: SchedulerSystem, job_id: UUID) -> list[str]:
    history = await system.log.read_stream(job_id)
    return [recorded.event.reason for recorded in history if isinstance(recorded.event, JobDispatched)]


async def leaderships(system: SchedulerSystem) -> list[Any]:
    return [recorded.event for recorded in await system.log.read_stream(LEADERSHIP_STREAM)]


@pytest.mark.parametrize("behind", [False, True], ids=["before the commit", "behind the commit"])
async def test_a_leader_killed_in_the_middle_of_a_batch_loses_and_repeats_nothing(
    system: SchedulerSystem, *, behind: bool
):
    held = HeldLog(system.log, behind=behind)
    first = system.node(PostgresCoordination(system.database), event_log=held)
    await first.leads()
    ids = await system.submit(300, run_at=soon(0.5))
    await held.stopped.wait()
    await first.stop()
    await system.node(PostgresCoordination(system.database)).leads()
    await system.in_state("queued", ids)
    for job_id in ids:
        assert await dispatches(system, job_id) == ["due"]
    assert [type(event) for event in await leaderships(system)] == [LeaderElected, LeaderElected]


async def test_a_leader_of_an_old_term_is_refused_and_that_is_recorded(system: SchedulerSystem):
    held = HeldLog(system.log, behind=False)
    node = system.node(PostgresCoordination(system.database), event_log=held)
    await node.leads()
    (job_id,) = await system.submit(run_at=soon(0.2))
    await held.stopped.wait()
    await PostgresFence(system.database).enter(Term(5), "another")
    held.go_on.set()
    await system.in_state("queued", [job_id])
    first, refused, second = await leaderships(system)
    assert isinstance(first, LeaderElected)
    assert isinstance(second, LeaderElected)
    assert isinstance(refused, DecisionRefused)
    assert (refused.term, refused.current_term) == (1, 5)
    assert second.term == 6
    assert await dispatches(system, job_id) == ["due"]


async def test_when_postgres_drops_all_sessions_another_term_goes_on(system: SchedulerSystem, database: TestDatabase):
    node = system.node(PostgresCoordination(system.database))
    await node.leads()
    (job_id,) = await system.submit(run_at=soon(1.5))
    connection = await asyncpg.connect(database.owner_url)
    await connection.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid()"
    )
    await connection.close()

    async def queued() -> bool:
        try:
            return (await system.index.get([job_id]))[job_id].state == "queued"
        except Unavailable:
            return False

    await until(queued, what="the dispatch")
    assert await dispatches(system, job_id) == ["due"]


async def test_timers_go_on_when_redis_is_emptied(system: SchedulerSystem):
    node = system.node(PostgresCoordination(system.database))
    await node.leads()
    (first,) = await system.submit(run_at=soon(0.2))
    await system.in_state("queued", [first])
    await system.redis.flushdb()
    (second,) = await system.submit(run_at=soon(0.2))
    await system.in_state("queued", [second])


async def test_work_that_redis_has_lost_is_dispatched_again_and_nothing_else(system: SchedulerSystem):
    node = system.node(PostgresCoordination(system.database))
    await node.leads()
    lost = await system.submit(1500, queue="a")
    kept = await system.submit(20, queue="b")
    ended = await system.submit(2, queue="a")
    for job_id in ended:
        await system.command(job_id, c.RequestCancel())
    stream = work_stream("a", "normal")

    async def all_there() -> bool:
        return (
            int(await system.redis.xlen(stream)) == 1502
            and int(await system.redis.xlen(work_stream("b", "normal"))) == 20
        )

    await until(all_there, what="the work in Redis")
    await system.redis.delete(stream)

    async def back() -> bool:
        return int(await system.redis.xlen(stream)) == 1500

    await until(back, timeout_seconds=30, what="the work's return")
    assert await dispatches(system, lost[0]) == await dispatches(system, lost[-1]) == ["missing"]
    assert await dispatches(system, kept[0]) == await dispatches(system, ended[0]) == []
    assert node.scheduler.leading is not None
    assert node.scheduler.leading.state.queued == {("a", "normal"): 1500, ("b", "normal"): 20}


async def test_a_job_whose_time_was_changed_is_not_taken_for_missing(system: SchedulerSystem):
    await system.node(PostgresCoordination(system.database)).leads()
    (job_id,) = await system.submit()
    later = soon(3600)
    job = await system.command(job_id, c.RescheduleJob(run_at=later))
    assert job.state == "scheduled"
    assert decide(await system.job(job_id), c.DispatchJob(reason="missing"), datetime.now(UTC)) == []


async def test_an_outage_of_zookeeper_takes_nobody_for_dead(system: SchedulerSystem, tmp_path: Path):
    zookeeper = ZooKeeperServer(tmp_path / "zookeeper")
    zookeeper.start()
    try:
        async with (
            coordinated(system.database, zookeeper.hosts) as theirs,
            coordinated(system.database, zookeeper.hosts) as ours,
            theirs.register("executor", "e1", {}) as place,
        ):
            node = system.node(ours)
            await node.leads()
            running = await system.submit(5)
            for job_id in running:
                await system.command(job_id, c.StartAttempt(executor="e1"))
            zookeeper.stop()
            await until(lambda: node.scheduler.leading is None, what="the leader's stepping down")
            away_until = soon(15)
            (due,) = await system.submit(run_at=soon(1))
            await until(lambda: datetime.now(UTC) > away_until, timeout_seconds=20)
            zookeeper.start()
            await system.in_state("queued", [due], timeout_seconds=30)
            quiet_until = datetime.now(UTC) + UNSEEN_GRACE + timedelta(seconds=2)
            await until(lambda: datetime.now(UTC) > quiet_until)
            assert not place.lost
            for job_id in running:
                assert await system.types(job_id) == ["JobSubmitted", "AttemptStarted"]
            await node.stop()
    finally:
        zookeeper.stop()


async def test_a_postgres_that_takes_no_heartbeats_kills_nobody(system: SchedulerSystem):
    coordination = PostgresCoordination(system.database)
    node = system.node(coordination)
    await node.leads()
    (job_id,) = await system.submit()
    async with coordination.register("executor", "e1", {}):
        await system.command(job_id, c.StartAttempt(executor="e1"))
        leading = node.scheduler.leading
        assert leading is not None
        await until(lambda: "e1" in leading.state._seen, what="the executor's being seen")
        blocker = await system.database.connect_raw()
        await blocker.execute("begin; lock table members in share mode")
        await until(lambda: leading.state._members is None, what="the leader's doubt")
        held_until = soon(6)
        await until(lambda: datetime.now(UTC) > held_until)
        await blocker.close()
        await until(lambda: "e1" in (leading.state._members or ()), what="the executor's return")
        assert await system.types(job_id) == ["JobSubmitted", "AttemptStarted"]


async def test_the_projection_is_what_the_log_says(system: SchedulerSystem):
    first = system.node(PostgresCoordination(system.database))
    await first.leads()
    ids = await system.submit(30)
    for job_id in ids[:20]:
        await system.command(job_id, c.StartAttempt(executor="e1"))
    for job_id in ids[:10]:
        await system.command(job_id, c.SucceedAttempt(attempt=1, executor="e1", result=None))
    await first.stop()
    more = await system.submit(5, queue="other")
    await system.node(PostgresCoordination(system.database)).leads()
    await system.command(more[0], c.StartAttempt(executor="e2"))
    end = await system.log.last_position()

    async def caught_up() -> bool:
        return await system.projection.checkpoint() >= end

    await until(caught_up, what="the projection")
    _, running, queued = await system.projection.load()
    assert {a.job_id: (a.attempt, a.version, a.executor) for a in running} == {
        **dict.fromkeys(ids[10:20], (1, 2, "e1")),
        more[0]: (1, 2, "e2"),
    }
    assert queued == await system.index.queue_counts() == {("default", "normal"): 10, ("other", "normal"): 4}
