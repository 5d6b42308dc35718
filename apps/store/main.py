"""The store's composition root: which adapters, which address, how it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_address

from rota_server.adapters.group_commit import GroupCommit
from rota_server.adapters.postgres.blocks import blocks
from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.deliveries import PostgresDeliveries
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.exclusive import INBOX_LOCK, ExclusiveLock, run_while_held
from rota_server.adapters.postgres.inbox import PostgresInbox
from rota_server.adapters.postgres.inbox_bell import InboxBell
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.adapters.postgres.job_logs import PostgresJobLogs
from rota_server.adapters.postgres.leader_projection import PostgresRunningAttempts
from rota_server.adapters.postgres.limit_facts import PostgresLimitFacts
from rota_server.adapters.postgres.migrate import current_revision, expected_revision, older_than
from rota_server.adapters.postgres.queue_figures import PostgresQueueCounts
from rota_server.adapters.postgres.resource_index import PostgresResourceIndex
from rota_server.adapters.postgres.sessions import SESSIONS
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.adapters.postgres.unique_keys import forget_unique_keys
from rota_server.adapters.redis.asyncapi import asyncapi_document
from rota_server.apps.connections import CONNECTIONS
from rota_server.apps.coordination import coordination_for, stay_visible
from rota_server.apps.secrecy import withdraw_secrets
from rota_server.apps.service import admitted, keep_running, run_service, run_until
from rota_server.apps.settings import Settings
from rota_server.apps.store.application import create_app
from rota_server.apps.store.http.server import StoreServer
from rota_server.apps.store.inbox.mover import InboxMover
from rota_server.apps.store.jobs.handlers import Jobs
from rota_server.apps.store.parts import Parts, SystemCounts
from rota_server.apps.version import VERSION
from rota_server.domain.errors import Unavailable
from rota_server.domain.ports.coordination import Coordination

log = logging.getLogger("rota.store")

GIVE_UP_SECONDS = 5.0
"""How long a request waits for a log that does not answer before it is told so."""

STATES_SECONDS = 60.0
"""How old the numbers of jobs in each state may be: counting them reads the whole table."""


def main(settings: Settings) -> int:
    """Serve until told to stop; the exit status, 2 when the settings are unsafe or incomplete."""
    settings = withdraw_secrets(settings)
    settings.require("database_url")
    if not is_loopback(settings.host) and not settings.api_tokens and not settings.insecure:
        print(  # noqa: T201 - the last words before the exit
            f"The store does not listen on {settings.host} without authentication: set ROTA_API_TOKENS, or say "
            "--insecure if something else protects it.",
            file=sys.stderr,
        )
        return 2
    return run_service("store", lambda stop: run(settings, stop), log_level=settings.log_level)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises OSError when the address cannot be listened on."""
    async with AsyncExitStack() as stack:
        database = Database(
            settings.require("database_url"),
            pool_size=CONNECTIONS["store"].pool,
            overflow=CONNECTIONS["store"].overflow,
            application="rota-store",
            direct_url=settings.listen_database_url,
            session=SESSIONS["store"],
        )
        stack.push_async_callback(database.close)
        event_log = PostgresEventLog(database, writer="store")
        stack.push_async_callback(event_log.close)
        clock = PostgresClock(database)
        coordination = await stack.enter_async_context(coordination_for(settings, database))
        parts = compose(settings, database, event_log, clock, coordination)
        app = create_app(
            parts,
            stop,
            tokens=settings.api_tokens,
            loopback_only=is_loopback(settings.host),
            allowed_hosts=settings.allowed_hosts,
        )
        bell = InboxBell(database, PostgresInbox(database))
        stack.push_async_callback(bell.close)
        # Appends of its own, repeated until their outcome is known: nobody waits for an answer.
        own = replace(parts, commit=GroupCommit(event_log))
        mover, lock = InboxMover(Jobs(own), parts.inbox, bell), ExclusiveLock(database, INBOX_LOCK)
        await admitted(stop, database.prove_access)
        server = StoreServer(app, settings.host, settings.port)
        await server.start()
        log.info("the store listens on %s", server.url)
        await run_until(
            stop,
            serve=server.serve(),
            clock=keep_running("clock", clock.keep),
            inbox=keep_running("inbox", lambda: run_while_held(lock, mover.run)),
            unique=keep_running("unique keys", lambda: forget_unique_keys(database)),
            liveness=keep_running("liveness", lambda: stay_visible(coordination, "store", url=server.url)),
            finish=server.finish,
            keep={"serve"},
        )


def compose(
    settings: Settings,
    database: Database,
    event_log: PostgresEventLog,
    clock: PostgresClock,
    coordination: Coordination,
) -> Parts:
    """The application's parts on PostgreSQL."""

    async def ready() -> str:
        revision = await current_revision(database)
        if older_than(revision, expected_revision()):
            raise Unavailable(f"the schema is at {revision}, not at {expected_revision()}", server="postgres")
        for block in await blocks(database):
            if block.what == "writing":
                raise Unavailable(str(block), server="postgres")
        return str(revision)

    return Parts(
        log=event_log,
        commit=GroupCommit(event_log, give_up_seconds=GIVE_UP_SECONDS),
        index=PostgresJobIndex(database),
        resources=PostgresResourceIndex(database),
        queues=PostgresQueueCounts(database),
        limits=PostgresLimitFacts(database),
        deliveries=PostgresDeliveries(database),
        logs=PostgresJobLogs(database),
        inbox=PostgresInbox(database),
        catalog=PostgresTaskCatalog(database) if settings.unknown_tasks == "reject" else None,
        coordination=coordination,
        now=clock.now,
        ready=ready,
        count=_Counting(database, event_log).count,
        obstacles=lambda: blocks(database),
        asyncapi=lambda: asyncapi_document(VERSION),
    )


class _Counting:
    """Counts the system for the metrics, the expensive part seldom."""

    def __init__(self, database: Database, event_log: PostgresEventLog) -> None:
        self._index = PostgresJobIndex(database)
        self._running = PostgresRunningAttempts(database)
        self._inbox = PostgresInbox(database)
        self._log = event_log
        self._database = database
        self._states: dict[str, int] = {}
        self._states_at = float("-inf")

    async def count(self) -> SystemCounts:
        if time.monotonic() - self._states_at > STATES_SECONDS:
            self._states = await self._index.state_counts()
            self._states_at = time.monotonic()
        scheduler_position, running, queued = await self._running.load()
        return SystemCounts(
            log_position=await self._log.last_position(),
            scheduler_position=scheduler_position,
            running=len(running),
            queued=queued,
            states=self._states,
            inbox=await self._inbox.state(),
            obstacles=await blocks(self._database),
        )
