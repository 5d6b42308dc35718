"""An event that this version cannot read, as a newer one would write it: one stream is set aside, the rest goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import httpx
import pytest
from uuid_utils.compat import uuid7

from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.server_info import database_facts
from rota_server.adapters.redis.work_queue import RedisWorkQueue
from rota_server.apps.settings import Settings
from rota_server.apps.store.application import create_app
from rota_server.apps.store.main import compose
from rota_server.domain.events import Event, unreadable_types
from rota_server.domain.ids import Version
from rota_server.domain.jobs.job import head_of
from rota_server.domain.log import Meta, StreamWrite, Unit
from tests.integration.scheduler_system import SchedulerSystem, scheduler_system
from tests.waiting import until

NEWER = Meta(actor="newer")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTeleported(Event):
    """A type of a version to come. Not registered here."""

    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted(Event):
    """A shape of a version to come, which this one must not read as its own."""

    schema = 99
    what: str


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[SchedulerSystem]:
    async with scheduler_system(postgres_url, redis_url) as found:
        yield found


@pytest.fixture
async def store(system: SchedulerSystem, postgres_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(_env_file=None, database_url=postgres_url, unknown_tasks="accept")  # type: ignore[call-arg]
    clock = PostgresClock(system.database)
    await clock.sample()
    parts = compose(settings, system.database, system.log, clock, PostgresCoordination(system.database))
    transport = httpx.ASGITransport(app=create_app(parts, asyncio.Event()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000") as client:
        yield client


async def write_newer(system: SchedulerSystem, job_id: UUID, event: Event) -> None:
    """Append to the job's stream as a newer version might."""
    job = await system.job(job_id)
    write = StreamWrite(stream_id=job_id, expected_version=job.version, events=[event], head=head_of(job))
    await system.log.append([Unit(id=uuid7(), writes=[write], meta=NEWER)])


async def test_the_leader_goes_on_and_decides_nothing_about_the_one_job(system: SchedulerSystem) -> None:
    strange, timed = await system.submit(2, run_at=await _soon(system))
    await write_newer(system, strange, JobTeleported(where="Mars"))
    (new,) = [uuid7()]
    write = StreamWrite(stream_id=new, expected_version=0, events=[JobSubmitted(what="?")], head=None)  # type: ignore[arg-type]
    await system.log.append([Unit(id=uuid7(), writes=[write], meta=NEWER)])
    node = system.node(PostgresCoordination(system.database))
    await node.leads()
    await system.in_state("queued", [timed])
    (later,) = await system.submit(run_at=await _soon(system))
    await system.in_state("queued", [later])
    assert await system.types(strange) == ["JobSubmitted", "UnreadableEvent"]
    assert not node.task.done()
    queue = RedisWorkQueue(system.redis, ["default"], "e1")
    await until(lambda: _takes(queue, timed), what="the job's dispatch")


async def test_the_store_shows_the_job_as_far_as_it_can_be_read_and_refuses_commands(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    strange, other = await system.submit(2)
    await write_newer(system, strange, JobTeleported(where="Mars"))
    shown = (await store.get(f"/v1/jobs/{strange}")).json()
    assert (shown["state"], shown["version"]) == ("queued", 2)
    assert "JobTeleported" in shown["unreadable"]
    why = (await store.get(f"/v1/jobs/{strange}/why")).json()
    assert [reason["code"] for reason in why["reasons"]] == ["unreadable"]
    refused = await store.post(f"/v1/jobs/{strange}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "unreadable")
    listed = {job["id"]: job for job in (await store.get("/v1/jobs")).json()["items"]}
    assert listed.keys() == {str(strange), str(other)}
    events = (await store.get(f"/v1/jobs/{strange}/events")).json()["items"]
    assert events[1]["type"] == "JobTeleported"
    assert events[1]["data"] == {"where": "Mars"}
    cancelled = await store.post(f"/v1/jobs/{other}/cancel")
    assert cancelled.status_code == 200
    facts = await database_facts(system.database)
    assert unreadable_types(facts.event_schemas) == ["JobTeleported"]
    assert (await store.get("/readyz")).status_code == 200


async def test_a_job_whose_submission_cannot_be_read_is_shown_as_its_row_says(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    (other,) = await system.submit()
    submitted, strange, mute = await system.job(other), uuid7(), uuid7()
    head = replace(head_of(submitted), queue="mail", tags={"team": "a"}, state="hibernating")
    for job_id, event in ((strange, JobSubmitted(what="?")), (mute, JobTeleported(where="Mars"))):
        write = StreamWrite(stream_id=job_id, expected_version=Version(0), events=[event], head=head)
        await system.log.append([Unit(id=uuid7(), writes=[write], meta=NEWER)])
    listed = (await store.get("/v1/jobs")).json()["items"]
    assert [job["id"] for job in listed] == [str(mute), str(strange), str(other)]
    assert listed[1] == (await store.get(f"/v1/jobs/{strange}")).json()
    shown = {name: listed[1][name] for name in ("task", "queue", "tags", "state", "version", "args")}
    assert shown == {
        "task": "noop", "queue": "mail", "tags": {"team": "a"}, "state": "waiting", "version": 1, "args": {},
    }  # fmt: skip
    assert "JobSubmitted" in listed[1]["unreadable"]
    assert "JobTeleported" in listed[0]["unreadable"]
    assert listed[2]["unreadable"] is None
    for job_id in (strange, mute):
        why = (await store.get(f"/v1/jobs/{job_id}/why")).json()
        assert [reason["code"] for reason in why["reasons"]] == ["unreadable"]
        refused = await store.post(f"/v1/jobs/{job_id}/cancel")
        assert (refused.status_code, refused.json()["code"]) == (409, "unreadable")
        assert len((await store.get(f"/v1/jobs/{job_id}/events")).json()["items"]) == 1
    assert (await store.get(f"/v1/jobs/{strange}?at=1")).status_code in (404, 409)
    assert 'rota_unreadable_events_total{where="store"}' in (await store.get("/metrics")).text
    assert (await store.get("/readyz")).json()["unreadable"] >= 2


async def _takes(queue: RedisWorkQueue, job_id: UUID) -> bool:
    return any(item.job_id == job_id for item in await queue.take(10))


async def _soon(system: SchedulerSystem) -> Any:
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(seconds=0.5)
