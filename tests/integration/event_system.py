"""A scheduler's system with a store: what the tests of triggers and subscriptions work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx

from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.apps.settings import Settings
from rota_server.apps.store.application import create_app
from rota_server.apps.store.main import compose
from rota_server.domain.jobs.job import Job, fold
from rota_server.domain.triggers.trigger import triggered_job_id
from tests.conftest import as_kind
from tests.integration.scheduler_system import Node, SchedulerSystem, scheduler_system
from tests.waiting import until

EVENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.paid", "data": {"user": {"id": 7}}}
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCHED = {"content-type": "application/cloudevents-batch+json"}
JOB = {"task": "noop", "args": {"user": {"$event": "data.user.id"}}, "tags": {"order": "order ${id}"}}


class EventSystem:
    """The system and a client of its store."""

    def __init__(self, inner: SchedulerSystem, client: httpx.AsyncClient) -> None:
        self.inner = inner
        self.log = inner.log
        self.client = client

    async def leader(self, **replaced: Any) -> Node:
        node = self.inner.node(PostgresCoordination(self.inner.database), **replaced)
        await node.leads()
        return node

    async def post(self, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
        answer = await self.client.post(path, json=body)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def trigger(self, name: str = "paid", **fields: Any) -> UUID:
        body = {"name": name, "match": {"type": "order.paid"}, "job": JOB, **fields}
        return UUID((await self.post("/v1/triggers", body, 201))["id"])

    async def publish(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        answer = await self.client.post("/v1/events", json=list(events), headers=BATCHED)
        assert answer.status_code in (200, 201), answer.text
        results: list[dict[str, Any]] = answer.json()["results"]
        return results

    async def job(self, trigger: UUID, event_id: str = "e-1", source: str = "/shop") -> Job:
        async def there() -> Job | None:
            return fold(await self.log.read_stream(triggered_job_id(trigger, source, event_id)))

        found: Job = await until(there, what=f"the job of event {event_id}")
        return found


@asynccontextmanager
async def event_system(postgres_url: str, redis_url: str) -> AsyncIterator[EventSystem]:
    async with scheduler_system(postgres_url, redis_url) as inner:
        database = Database(as_kind(postgres_url, "store"))
        settings = Settings(_env_file=None, database_url=postgres_url, unknown_tasks="accept")  # type: ignore[call-arg]
        log = PostgresEventLog(database, writer="store")
        parts = compose(settings, database, log, PostgresClock(database), PostgresCoordination(database))
        transport = httpx.ASGITransport(app=create_app(parts, asyncio.Event()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000") as client:
            yield EventSystem(inner, client)
        await log.close()
        await database.close()
