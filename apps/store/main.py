"""The store's composition root."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from contextlib import AsyncExitStack
from ipaddress import ip_address
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from adapters.group_commit import GroupCommit
from adapters.postgres.clock import PostgresClock
from adapters.postgres.connection import Database
from adapters.postgres.event_log import PostgresEventLog
from adapters.postgres.job_index import PostgresJobIndex
from adapters.postgres.job_logs import PostgresJobLogs
from adapters.postgres.migrate import current_revision, expected_revision
from adapters.postgres.running_attempts import PostgresRunningAttempts
from adapters.postgres.task_catalog import PostgresTaskCatalog

from apps.coordination import coordination_for
from apps.service import keep_running, run_service, run_until
from apps.settings import Settings
from apps.store.event_routes import event_routes
from apps.store.guard import Guard, answer_error
from apps.store.job_routes import job_routes
from apps.store.jobs import Jobs, TaskNames
from apps.store.positions import Positions
from apps.store.problems import problem, problem_response
from apps.store.system_routes import system_routes
from domain.errors import Rejected, Unavailable
from domain.ports import Coordination
from observability.metrics import RequestMetrics, StoreGauges

GIVE_UP_SECONDS = 5.0
"""How long a request waits for a log that does not answer before it is told so."""

SHUTDOWN_SECONDS = 10
VERSION = "0.1.0"


def main(settings: Settings) -> int:
    """Serve until told to stop; the exit status, 2 when the settings are unsafe."""
    settings.require("database_url")
    if not _is_loopback(settings.host) and not settings.api_tokens and not settings.insecure:
        print(  # noqa: T201 - the last words before the exit
            f"The store does not listen on {settings.host} without authentication: set ROTA_API_TOKENS, or say "
            "--insecure if something else protects it.",
            file=sys.stderr,
        )
        return 2
    return run_service("store", lambda stop: _run(settings, stop), log_level=settings.log_level)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def _run(settings: Settings, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        database = Database(settings.require("database_url"), pool_size=8, application="rota-store")
        stack.push_async_callback(database.close)
        event_log = PostgresEventLog(database)
        stack.push_async_callback(event_log.close)
        clock = PostgresClock(database)
        coordination = await stack.enter_async_context(coordination_for(settings, database))
        app = _application(settings, database, event_log, clock, coordination, stop)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                access_log=False,
                log_config=None,
                server_header=False,
                lifespan="off",
                backlog=2048,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
                timeout_keep_alive=75,
            )
        )
        server.capture_signals = _no_signals  # type: ignore[method-assign] # signals are this process's own business
        await run_until(
            stop,
            serve=_serve(server, stop),
            clock=keep_running("clock", clock.keep),
            liveness=keep_running("liveness", lambda: _stay_visible(coordination, settings)),
            finish=lambda: _finish(server),
            keep={"serve"},
        )


def _application(
    settings: Settings,
    database: Database,
    event_log: PostgresEventLog,
    clock: PostgresClock,
    coordination: Coordination,
    stop: asyncio.Event,
) -> ASGIApp:
    commit = GroupCommit(event_log, give_up_seconds=GIVE_UP_SECONDS)
    catalog = PostgresTaskCatalog(database) if settings.unknown_tasks == "reject" else None
    index = PostgresJobIndex(database)
    positions = Positions(event_log)
    jobs = Jobs(event_log, commit, TaskNames(catalog), clock.now)

    async def ready() -> str:
        revision = await current_revision(database)
        if revision != expected_revision():
            raise Unavailable(f"the schema is at {revision}, not {expected_revision()}", server="the schema")
        return revision

    async def refresh(gauges: StoreGauges) -> None:
        gauges.log_position.set(await event_log.last_position())
        gauges.scheduler_position.set(await PostgresRunningAttempts(database).checkpoint())
        _, running, queued = await PostgresRunningAttempts(database).load()
        gauges.running.set(len(running))
        for (queue, priority), count in queued.items():
            gauges.queued.labels(queue, priority).set(count)

    app = FastAPI(title="Rota", version=VERSION, description="Jobs that are never lost, and their whole history.")
    app.add_exception_handler(HTTPException, _http_problem)  # type: ignore[arg-type]
    for expected in (Rejected, Unavailable, Exception):
        app.add_exception_handler(expected, answer_error)
    app.include_router(job_routes(jobs, index, event_log, PostgresJobLogs(database), positions))
    app.include_router(event_routes(event_log, commit, positions, stop))
    app.include_router(system_routes(coordination, positions, ready, refresh, _asyncapi))
    return Guard(
        app,
        tokens=settings.api_tokens,
        loopback_only=_is_loopback(settings.host),
        metrics=RequestMetrics(),
    )


def _asyncapi() -> dict[str, Any]:
    from adapters.redis.asyncapi import asyncapi_document  # noqa: PLC0415 - FastStream is large, and this is rarely asked for

    return asyncapi_document()


async def _http_problem(_request: Request, error: HTTPException) -> Response:
    """Starlette's own errors (no such path, no such method) as problems."""
    return problem_response(problem(error.status_code, str(error.detail)), dict(error.headers or {}))


async def _serve(server: uvicorn.Server, stop: asyncio.Event) -> None:
    try:
        await server.serve()
    except SystemExit as error:  # uvicorn's way to say that the port is taken
        raise OSError(f"can not listen on {server.config.host}:{server.config.port}") from error
    if not stop.is_set():
        raise OSError("the HTTP server has ended by itself")


async def _finish(server: uvicorn.Server) -> None:
    server.should_exit = True
    while server.started and server.servers:
        if not any(s.is_serving() for s in server.servers) and not server.server_state.connections:
            return
        await asyncio.sleep(0.05)


def _no_signals() -> Any:
    from contextlib import nullcontext  # noqa: PLC0415

    return nullcontext()


async def _stay_visible(coordination: Coordination, settings: Settings) -> None:
    while True:
        identity = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        info = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": VERSION,
            "listens": f"{settings.host}:{settings.port}",
        }
        async with coordination.register("store", identity, info) as registration:
            await registration.wait_lost()
