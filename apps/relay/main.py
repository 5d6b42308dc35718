"""The relay's composition root."""

from __future__ import annotations

import asyncio

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.exclusive import RELAY_LOCK, ExclusiveLock, run_while_held
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.adapters.postgres.sessions import SESSIONS
from rota_server.adapters.redis.connection import connect, prove_access
from rota_server.adapters.redis.publisher import RedisPublisher
from rota_server.apps.connections import CONNECTIONS
from rota_server.apps.coordination import coordination_for, stay_visible
from rota_server.apps.relay.metrics import RelayMetrics
from rota_server.apps.secrecy import withdraw_secrets
from rota_server.apps.service import admitted, keep_running, run_service, run_until
from rota_server.apps.settings import Settings
from rota_server.observability import metrics
from rota_server.outbox.relay import Relay
from rota_server.outbox.routing import route


def main(settings: Settings) -> int:
    """Run the relay until it is told to stop; the exit status."""
    settings = withdraw_secrets(settings)
    database_url, redis_url = settings.require("database_url"), settings.require("redis_url")

    async def run(stop: asyncio.Event) -> None:
        database = Database(
            database_url,
            pool_size=CONNECTIONS["relay"].pool,
            overflow=CONNECTIONS["relay"].overflow,
            application="rota-relay",
            direct_url=settings.listen_database_url,
            session=SESSIONS["relay"],
        )
        event_log = PostgresEventLog(database)
        redis = connect(redis_url)
        relay = Relay(event_log, RedisPublisher(redis, route), PostgresJobIndex(database), RelayMetrics())
        lock = ExclusiveLock(database, RELAY_LOCK)
        metrics.serve(settings.metrics_port)
        await admitted(stop, database.prove_access, lambda: prove_access(redis, redis_url))

        async def maintain() -> None:
            while True:
                await event_log.ensure_partitions()
                await asyncio.sleep(60)

        async def be_seen() -> None:
            # Connected to in here: publishing depends on nobody else.
            async with coordination_for(settings, database) as coordination:
                await stay_visible(coordination, "relay")

        try:
            await run_until(
                stop,
                liveness=keep_running("liveness", be_seen),
                relay=keep_running("relay", lambda: run_while_held(lock, relay.run)),
                partitions=keep_running("partitions", maintain),
            )
        finally:
            await event_log.close()
            await database.close()
            await redis.aclose()

    return run_service("relay", run, log_level=settings.log_level)
