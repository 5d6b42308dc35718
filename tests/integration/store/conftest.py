"""The store's application on a database of the test's own, with and without a real HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.apps.settings import Settings
from rota_server.apps.store.application import create_app
from rota_server.apps.store.http.connections import Limits
from rota_server.apps.store.http.server import StoreServer
from rota_server.apps.store.main import compose
from rota_server.apps.store.parts import Parts
from tests.conftest import as_kind

BASE_URL = "http://127.0.0.1:3000"
TASKS: dict[str, dict[str, Any]] = {"noop": {}}


@dataclass
class Stores:
    """Makes stores over one database.

    The parts have a store's rights; `others` writes and `database` reads as whoever else a test plays.
    """

    parts: Parts
    database: Database
    others: PostgresEventLog
    stack: AsyncExitStack

    async def client(self, *, change: dict[str, Any] | None = None, **options: Any) -> httpx.AsyncClient:
        """A client of an application without a server; `change` replaces parts, `options` go to create_app."""
        app = create_app(replace(self.parts, **(change or {})), asyncio.Event(), **options)
        transport = httpx.ASGITransport(app=app)
        return await self.stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url=BASE_URL))

    async def serve(
        self, stop: asyncio.Event | None = None, limits: Limits | None = None, **options: Any
    ) -> StoreServer:
        """A listening server, until the test ends."""
        app = create_app(self.parts, stop or asyncio.Event(), **options)
        server = StoreServer(app, "127.0.0.1", 0, limits=limits)
        await server.start()
        serving = asyncio.create_task(server.serve())

        async def end() -> None:
            await server.finish()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

        self.stack.push_async_callback(end)
        return server


@pytest.fixture
async def stores(postgres_url: str) -> AsyncIterator[Stores]:
    async with AsyncExitStack() as stack:
        database = Database(postgres_url)
        stack.push_async_callback(database.close)
        own = Database(as_kind(postgres_url, "store"))
        stack.push_async_callback(own.close)
        log = PostgresEventLog(own, writer="store")
        stack.push_async_callback(log.close)
        others = PostgresEventLog(database)
        stack.push_async_callback(others.close)
        await PostgresTaskCatalog(database).announce(TASKS)
        settings = Settings(_env_file=None, database_url=postgres_url)  # type: ignore[call-arg]
        parts = compose(settings, own, log, PostgresClock(own), PostgresCoordination(own))
        yield Stores(parts, database, others, stack)


@pytest.fixture
async def client(stores: Stores) -> httpx.AsyncClient:
    return await stores.client()


Submit = Callable[..., Any]


@pytest.fixture
def submit(client: httpx.AsyncClient) -> Submit:
    """Submit a job that must be accepted; its JSON."""

    async def submit_one(headers: dict[str, str] | None = None, **job: Any) -> dict[str, Any]:
        answer = await client.post("/v1/jobs", json={"task": "noop", **job}, headers=headers or {})
        assert answer.status_code == 201, answer.text
        result: dict[str, Any] = answer.json()
        return result

    return submit_one
