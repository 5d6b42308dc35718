"""The scheduler's composition root."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.deliveries import PostgresDeliveries
from rota_server.adapters.postgres.dependency_table import PostgresDependencyTable
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.adapters.postgres.leader_projection import PostgresRunningAttempts
from rota_server.adapters.postgres.queue_figures import PostgresQueueCounts
from rota_server.adapters.postgres.resource_index import PostgresResourceIndex
from rota_server.adapters.postgres.sessions import SESSIONS
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.adapters.redis.connection import connect, prove_access
from rota_server.adapters.redis.feed import RedisFeed
from rota_server.adapters.redis.publisher import RedisPublisher
from rota_server.adapters.redis.work_streams import RedisWorkStreams
from rota_server.apps.connections import CONNECTIONS
from rota_server.apps.coordination import coordination_for
from rota_server.apps.scheduler.metrics import SchedulerMetrics
from rota_server.apps.scheduler.parts import SchedulerParts
from rota_server.apps.scheduler.service import Scheduler
from rota_server.apps.secrecy import withdraw_secrets
from rota_server.apps.service import admitted, keep_running, run_service, run_until, unless_stopped, until_done
from rota_server.apps.settings import Settings
from rota_server.observability import metrics
from rota_server.outbox.routing import route

PARTITIONS_SECONDS = 60.0


def main(settings: Settings) -> int:
    """Run the scheduler until it is told to stop; the exit status."""
    settings = withdraw_secrets(settings)
    settings.require("database_url")
    settings.require("redis_url")
    metrics.serve(settings.metrics_port)
    figures = SchedulerMetrics()
    return run_service("scheduler", lambda stop: run(settings, stop, figures), log_level=settings.log_level)


async def run(settings: Settings, stop: asyncio.Event, figures: SchedulerMetrics) -> None:
    """Run until `stop`."""
    async with AsyncExitStack() as stack:
        database = Database(
            settings.require("database_url"),
            pool_size=CONNECTIONS["scheduler"].pool,
            overflow=CONNECTIONS["scheduler"].overflow,
            application="rota-scheduler",
            direct_url=settings.listen_database_url,
            session=SESSIONS["scheduler"],
        )
        stack.push_async_callback(database.close)
        event_log = PostgresEventLog(database, writer="leader")
        stack.push_async_callback(event_log.close)
        redis_url = settings.require("redis_url")
        redis = connect(redis_url)
        stack.push_async_callback(redis.aclose)
        clock = PostgresClock(database)
        await admitted(stop, database.prove_access, lambda: prove_access(redis, redis_url))
        await unless_stopped(stop, until_done("clock", clock.sample))
        scheduler = Scheduler(
            SchedulerParts(
                event_log=event_log,
                index=PostgresJobIndex(database),
                resources=PostgresResourceIndex(database),
                tasks=PostgresTaskCatalog(database),
                deliveries=PostgresDeliveries(database),
                queue_flow=PostgresQueueCounts(database),
                dependencies=PostgresDependencyTable(database),
                projection=PostgresRunningAttempts(database),
                feed=RedisFeed(redis, event_log),
                streams=RedisWorkStreams(redis),
                publisher=RedisPublisher(redis, route),
                coordination=await stack.enter_async_context(coordination_for(settings, database)),
                clock=clock,
                metrics=figures,
                refuse_private=settings.http_refuse_private,
            )
        )
        await run_until(
            stop,
            clock=keep_running("clock", clock.keep),
            elections=keep_running("elections", scheduler.stand),
            partitions=keep_running("partitions", lambda: _make_partitions(event_log)),
        )


async def _make_partitions(event_log: PostgresEventLog) -> None:
    while True:
        await event_log.ensure_partitions()
        await asyncio.sleep(PARTITIONS_SECONDS)
