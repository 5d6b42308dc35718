"""A log, a relay and schedulers within the test's process; the test itself plays the executors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.deliveries import PostgresDeliveries
from rota_server.adapters.postgres.dependency_table import PostgresDependencyTable
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.adapters.postgres.leader_projection import PostgresRunningAttempts
from rota_server.adapters.postgres.queue_figures import PostgresQueueCounts
from rota_server.adapters.postgres.resource_index import PostgresResourceIndex
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.adapters.redis.connection import connect
from rota_server.adapters.redis.feed import RedisFeed
from rota_server.adapters.redis.publisher import RedisPublisher
from rota_server.adapters.redis.work_streams import RedisWorkStreams
from rota_server.apps.scheduler.metrics import SchedulerMetrics
from rota_server.apps.scheduler.parts import SchedulerParts
from rota_server.apps.scheduler.service import Scheduler
from rota_server.apps.service import keep_running
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import Job, fold
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Appended, Meta, Unit
from rota_server.domain.ports.coordination import Coordination
from rota_server.outbox.relay import Relay
from rota_server.outbox.routing import route
from tests.conftest import as_kind, redis_as
from tests.integration.redis_tools import Quiet
from tests.waiting import until

CLIENT = Meta(actor="test")


class Node:
    """One scheduler, with connections of its own."""

    def __init__(self, database: Database, redis: Redis, coordination: Coordination, **replaced: Any) -> None:
        self.log = PostgresEventLog(database, writer="leader")
        parts: dict[str, Any] = {
            "event_log": self.log,
            "index": PostgresJobIndex(database),
            "resources": PostgresResourceIndex(database),
            "tasks": PostgresTaskCatalog(database),
            "deliveries": PostgresDeliveries(database),
            "queue_flow": PostgresQueueCounts(database),
            "dependencies": PostgresDependencyTable(database),
            "projection": PostgresRunningAttempts(database),
            "feed": RedisFeed(redis, self.log),
            "streams": RedisWorkStreams(redis),
            "publisher": RedisPublisher(redis, route),
            "coordination": coordination,
            "clock": PostgresClock(database),
            "metrics": SchedulerMetrics(CollectorRegistry()),
        }
        self.scheduler = Scheduler(SchedulerParts(**{**parts, **replaced}))
        self.task = asyncio.create_task(keep_running("elections", self.scheduler.stand))

    async def leads(self) -> None:
        await until(lambda: self.scheduler.leading is not None or self.task.done(), what="the election")
        if self.task.done():
            self.task.result()

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.log.close()


class SchedulerSystem:
    """What the tests of the scheduler work with."""

    def __init__(self, database: Database, redis: Redis, schedulers_redis: Redis) -> None:
        self.database = database
        self.redis = redis
        self.log = PostgresEventLog(database)
        self.index = PostgresJobIndex(database)
        self.resources = PostgresResourceIndex(database)
        self.projection = PostgresRunningAttempts(database)
        self.stack = AsyncExitStack()
        # Schedulers have their own role in the database, and their own user in Redis.
        self.schedulers_redis = schedulers_redis
        self.schedulers = Database(as_kind(database.url, "scheduler"), application="test", pool_size=10)

    def node(self, coordination: Coordination, **replaced: Any) -> Node:
        """A scheduler that stands for election until the test ends."""
        node = Node(self.schedulers, self.schedulers_redis, coordination, **replaced)
        self.stack.push_async_callback(node.stop)
        return node

    async def submit(self, count: int = 1, **spec: Any) -> list[UUID]:
        now = datetime.now(UTC)
        ids, units = [], []
        for _ in range(count):
            job_id = uuid7()
            events = decide(None, c.SubmitJob(spec=JobSpec(**{"task": "noop", **spec})), now)
            write, _ = write_for(None, job_id, events, CLIENT, now)
            units.append(Unit(id=uuid7(), writes=[write], meta=CLIENT))
            ids.append(job_id)
        for start in range(0, len(units), 500):
            assert all(isinstance(r, Appended) for r in await self.log.append(units[start : start + 500]))
        return ids

    async def command(self, job_id: UUID, command: c.Command) -> Job:
        """Carry a command out on the job as it is."""
        job, now = await self.job(job_id), datetime.now(UTC)
        write, after = write_for(job, job_id, decide(job, command, now), CLIENT, now)
        (result,) = await self.log.append([Unit(id=uuid7(), writes=[write], meta=CLIENT)])
        assert isinstance(result, Appended)
        return after

    async def job(self, job_id: UUID) -> Job:
        job = fold(await self.log.read_stream(job_id))
        assert job is not None
        return job

    async def types(self, job_id: UUID) -> list[str]:
        return [type(recorded.event).__name__ for recorded in await self.log.read_stream(job_id)]

    async def in_state(self, state: str, ids: Sequence[UUID], *, timeout_seconds: float = 20.0) -> None:
        async def all_are() -> bool:
            rows = await self.index.get(ids)
            return all(rows[job_id].state == state for job_id in ids)

        await until(all_are, timeout_seconds=timeout_seconds, what=f"{len(ids)} jobs {state}")


@asynccontextmanager
async def scheduler_system(database_url: str, redis_url: str) -> AsyncIterator[SchedulerSystem]:
    """A system without schedulers; those that the test starts end with it."""
    database, redis = Database(database_url, application="test", pool_size=10), connect(redis_url)
    await redis.flushdb()
    relays = connect(redis_as(redis_url, "relay"))
    found = SchedulerSystem(database, redis, connect(redis_as(redis_url, "scheduler")))
    relay_log = PostgresEventLog(database)
    relay = Relay(relay_log, RedisPublisher(relays, route), found.index, Quiet())
    publishing = asyncio.create_task(keep_running("relay", relay.run))
    try:
        async with found.stack:
            yield found
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await relay_log.close()
        await found.log.close()
        await found.schedulers.close()
        await database.close()
        for client in (redis, relays, found.schedulers_redis):
            await client.aclose()
