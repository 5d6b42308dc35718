"""A log, a relay and real executor processes, for tests that need no store and no scheduler."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from uuid_utils.compat import uuid7

from rota_server.adapters.group_commit import GroupCommit
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.adapters.postgres.job_logs import PostgresJobLogs
from rota_server.adapters.redis.connection import connect
from rota_server.adapters.redis.publisher import RedisPublisher
from rota_server.apps.service import keep_running
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import Job, fold
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Appended, Meta, Unit
from rota_server.outbox.relay import Relay
from rota_server.outbox.routing import route
from tests import role_processes
from tests.conftest import as_kind, redis_as
from tests.integration.redis_tools import Quiet
from tests.role_processes import RoleProcess
from tests.waiting import until, until_sync

SUBMITTED_BY = Meta(actor="test")
STOP_SECONDS = 30.0


class ExecutorProcess:
    """One `rota executor`."""

    def __init__(self, process: RoleProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.status

    def signal(self, number: int) -> None:
        self._process.send(number)

    def wait(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """Its exit status."""
        until_sync(lambda: self.status is not None, timeout_seconds=timeout_seconds, what="the executor's end")
        assert self.status is not None
        return self.status

    def said(self) -> str:
        return self._process.said()

    def kill(self) -> None:
        if self.status is None:
            self._process.send(signal.SIGKILL)
        self.wait()


class System:
    """The servers, a relay within this process, and executors of the test's choice."""

    def __init__(self, database_url: str, redis_url: str, directory: Path) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.directory = directory
        self.database = Database(database_url, application="test")
        self.log = PostgresEventLog(self.database)
        self.index = PostgresJobIndex(self.database)
        self.logs = PostgresJobLogs(self.database)
        self.coordination = PostgresCoordination(self.database)
        self.commit = GroupCommit(self.log)
        self._executors: list[ExecutorProcess] = []

    # -- executors ---------------------------------------------------------------------------------------------------

    def spawn(self, *, tasks: str | None = None, **settings: Any) -> ExecutorProcess:
        """Start an executor with these ROTA_ settings; `tasks` is the source of a file with Python tasks."""
        if tasks is not None:
            path = self.directory / f"jobs_of_executor_{len(self._executors)}.py"
            path.write_text(tasks)
            settings["tasks"] = str(path)
            settings.setdefault("task_processes", 1)
        env = {
            **os.environ,
            "ROTA_DATABASE_URL": as_kind(self.database_url, "executor"),
            "ROTA_REDIS_URL": redis_as(self.redis_url, "executor"),
            **{f"ROTA_{name.upper()}": str(value) for name, value in settings.items()},
        }
        name = f"executor-{len(self._executors)}"
        log = self.directory / f"{name}.log"
        executor = ExecutorProcess(role_processes.start(["executor"], env, Path.cwd(), name, log=log))
        self._executors.append(executor)
        return executor

    async def executor(self, *, tasks: str | None = None, **settings: Any) -> ExecutorProcess:
        """As `spawn`, ready to work."""
        executor = self.spawn(tasks=tasks, **settings)

        async def is_member() -> bool:
            assert executor.status is None, executor.said()
            members = await self.coordination.members("executor")
            return any(member.info["pid"] == executor.pid for member in members)

        await until(is_member, timeout_seconds=90, what="the executor's registration")
        return executor

    # -- jobs --------------------------------------------------------------------------------------------------------

    async def submit(self, task: str, count: int = 1, **spec: Any) -> list[UUID]:
        """Submit jobs as a store does."""
        now = datetime.now(UTC)
        ids, units = [], []
        for _ in range(count):
            job_id = uuid7()
            events = decide(None, c.SubmitJob(spec=JobSpec(task=task, **spec)), now)
            write, _ = write_for(None, job_id, events, SUBMITTED_BY, now)
            units.append(Unit(id=uuid7(), writes=[write], meta=SUBMITTED_BY))
            ids.append(job_id)
        results = await self.commit.append_all(units)
        assert all(isinstance(result, Appended) for result in results)
        return ids

    async def command(self, job_id: UUID, command: c.Command) -> None:
        """Carry a command out on the job as it is."""
        job = await self.job(job_id)
        now = datetime.now(UTC)
        events = decide(job, command, now)
        write, _ = write_for(job, job_id, events, SUBMITTED_BY, now)
        assert isinstance(await self.commit.append(Unit(id=uuid7(), writes=[write], meta=SUBMITTED_BY)), Appended)

    async def job(self, job_id: UUID) -> Job:
        job = fold(await self.log.read_stream(job_id))
        assert job is not None
        return job

    async def types(self, job_id: UUID) -> list[str]:
        return [type(recorded.event).__name__ for recorded in await self.log.read_stream(job_id)]

    async def printed(self, job_id: UUID) -> str:
        return "".join(part.text for part in await self.logs.read(job_id))

    async def in_state(self, state: str, ids: Sequence[UUID], *, timeout_seconds: float = 60.0) -> None:
        """Wait until all these jobs are in this state."""

        async def all_are() -> bool:
            rows = await self.index.get(ids)
            return all(rows[job_id].state == state for job_id in ids)

        await until(all_are, timeout_seconds=timeout_seconds, what=f"{len(ids)} jobs {state}")

    async def states(self, ids: Sequence[UUID]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for row in (await self.index.get(ids)).values():
            counts[row.state] = counts.get(row.state, 0) + 1
        return counts

    async def execute(self, statement: str) -> Any:
        """A statement of the test's own."""
        connection = await self.database.connect_raw()
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    def close(self) -> None:
        for executor in self._executors:
            executor.kill()


@asynccontextmanager
async def system(database_url: str, redis_url: str, directory: Path) -> AsyncIterator[System]:
    """A system without executors; those that the test starts end with it."""
    found = System(database_url, redis_url, directory)
    redis = connect(redis_url)
    await redis.flushdb()
    relay_log = PostgresEventLog(found.database)
    relay = Relay(relay_log, RedisPublisher(redis, route), found.index, Quiet())
    publishing = asyncio.create_task(keep_running("relay", relay.run))
    try:
        yield found
    finally:
        found.close()
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await relay_log.close()
        await found.log.close()
        await found.database.close()
        await redis.aclose()


def children_of(pid: int) -> list[int]:
    """The living processes that this one has started."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def wait_gone(pids: Sequence[int]) -> None:
    until_sync(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), what="the end of task processes")
