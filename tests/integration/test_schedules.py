"""Schedules on real servers: created over HTTP, ticked by the leader, their jobs in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.resource_index import PostgresResourceIndex
from rota_server.domain.jobs import commands as c
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.observability import tracing
from tests.integration.scheduler_system import SchedulerSystem, scheduler_system
from tests.integration.store.conftest import Stores, stores  # noqa: F401 - a fixture
from tests.waiting import until


@dataclass
class World:
    """A store without a server, and a leader."""

    client: httpx.AsyncClient
    system: SchedulerSystem

    async def create(self, **schedule: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/schedules", json={"job": {"task": "noop"}, **schedule})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def get(self, name: str, **query: Any) -> dict[str, Any]:
        answer = await self.client.get(f"/v1/schedules/{name}", params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.client.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return dict(answer.json())

    async def ticks(self, name: str, **query: Any) -> list[dict[str, Any]]:
        """All outcomes, oldest first."""
        items: list[dict[str, Any]] = []
        cursor = None
        while True:
            params = {"limit": 500, **query, **({} if cursor is None else {"cursor": cursor})}
            answer = await self.client.get(f"/v1/schedules/{name}/ticks", params=params)
            assert answer.status_code == 200, answer.text
            items += answer.json()["items"]
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                return items[::-1]

    async def wait_for_ticks(self, name: str, count: int, **query: Any) -> list[dict[str, Any]]:
        async def enough() -> list[dict[str, Any]] | None:
            found = await self.ticks(name, **query)
            return found if len(found) >= count else None

        return list(await until(enough, what=f"{count} outcomes of {name}"))

    async def system_row(self, name: str) -> ResourceRow:
        """The schedule's row."""
        return (await PostgresResourceIndex(self.system.database).by_name("schedule", [name]))[name]

    async def jobs(self, name: str) -> list[dict[str, Any]]:
        answer = await self.client.get("/v1/jobs", params={"schedule": name, "limit": 500})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])


@pytest.fixture
async def world(stores: Stores, postgres_url: str, redis_url: str) -> AsyncIterator[World]:  # noqa: F811
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(scheduler_system(postgres_url, redis_url))
        yield World(await stores.client(), system)


async def lead(world: World) -> None:
    await world.system.node(PostgresCoordination(world.system.database)).leads()


def ago(**delta: float) -> datetime:
    return datetime.now(UTC) - timedelta(**delta)


async def test_a_schedule_ticks_and_its_jobs_are_there(world: World):
    await lead(world)
    made = await world.create(name="often", every=0.5, job={"task": "noop", "tags": {"team": "a"}, "args": {}})
    assert made["state"] == "active"
    assert made["next_at"] is not None
    ticks = await world.wait_for_ticks("often", 4)
    assert {tick["outcome"] for tick in ticks} == {"ticked"}
    assert {tick["cause"] for tick in ticks} == {"due"}
    times = [datetime.fromisoformat(tick["utc"]) for tick in ticks]
    assert {b - a for a, b in pairwise(times)} == {timedelta(seconds=0.5)}
    jobs = await world.jobs("often")
    assert {tick["job_id"] for tick in ticks} <= {job["id"] for job in jobs}
    assert {job["state"] for job in jobs} == {"queued"}
    assert jobs[0]["tags"] == {"team": "a"}
    recorded = (await world.system.log.read_stream(made_id(jobs[-1])))[0]
    assert recorded.meta.term == 1
    assert recorded.meta.causation_id is not None


def made_id(job: dict[str, Any]) -> Any:
    from uuid import UUID

    return UUID(job["id"])


async def test_a_run_by_hand_makes_a_job_and_no_second_one_for_the_same_key(world: World):
    await world.create(name="yearly", cron="@yearly")
    headers = {"Idempotency-Key": "k1"}
    first = await world.client.post("/v1/schedules/yearly/run", headers=headers, json={"reason": "look"})
    again = await world.client.post("/v1/schedules/yearly/run", headers=headers)
    other = await world.client.post("/v1/schedules/yearly/run")
    assert [first.status_code, again.status_code, other.status_code] == [201, 200, 201]
    assert first.json()["job_id"] == again.json()["job_id"] != other.json()["job_id"]
    ticks = await world.ticks("yearly")
    assert [tick["cause"] for tick in ticks] == ["manual", "manual"]
    assert ticks[0]["reason"] == "look"
    job = await world.system.job(made_id({"id": first.json()["job_id"]}))
    assert job.spec.origin is not None
    assert job.spec.origin.kind == "schedule"


async def test_while_paused_nothing_ticks_and_all_of_it_is_one_event(world: World):
    await lead(world)
    await world.create(name="fast", every=0.5)
    await world.wait_for_ticks("fast", 1)
    paused = await world.post("/v1/schedules/fast/pause", reason="night")
    assert (paused["state"], paused["reason"]) == ("paused", "night")
    count = len(await world.ticks("fast"))

    async def two_seconds_over() -> bool:
        return datetime.now(UTC) > datetime.fromisoformat(paused["changed_at"]) + timedelta(seconds=1.6)

    await until(two_seconds_over)
    assert len(await world.ticks("fast")) == count
    await world.post("/v1/schedules/fast/resume")
    ticks = await world.wait_for_ticks("fast", count + 2)
    (skipped,) = [tick for tick in ticks if tick["outcome"] == "skipped"]
    assert skipped["reason"] == "paused"
    assert skipped["count"] in (3, 4)
    assert ticks[-1]["outcome"] == "ticked"


async def test_an_overlap_is_skipped_and_says_what_was_in_the_way(world: World):
    await lead(world)
    await world.create(name="slow", every=0.5, overlap="skip")
    ticks = await world.wait_for_ticks("slow", 3)
    assert [tick["outcome"] for tick in ticks[:3]] == ["ticked", "skipped", "skipped"]
    assert ticks[1]["reason"] == "overlap"
    assert ticks[1]["blocked_by"] == [ticks[0]["job_id"]]
    job_id = made_id({"id": ticks[0]["job_id"]})
    await world.system.command(job_id, c.StartAttempt(executor="e1"))
    await world.system.command(job_id, c.SucceedAttempt(attempt=1, executor="e1", result=None))
    after = await world.wait_for_ticks("slow", 2, outcome="ticked")
    assert len(await world.jobs("slow")) == len(after)


async def test_a_queued_tick_starts_when_the_job_before_it_ends(world: World):
    await lead(world)
    await world.create(name="queue", every=0.5, overlap="queue one")
    ticks = await world.wait_for_ticks("queue", 3)
    assert [tick["outcome"] for tick in ticks[:3]] == ["ticked", "queued", "skipped"]
    job_id = made_id({"id": ticks[0]["job_id"]})
    await world.system.command(job_id, c.StartAttempt(executor="e1"))
    await world.system.command(job_id, c.SucceedAttempt(attempt=1, executor="e1", result=None))
    (_, second, *_rest) = await world.wait_for_ticks("queue", 2, outcome="ticked")
    assert second["cause"] == "queued"
    assert second["utc"] == ticks[1]["utc"]
    await world.post("/v1/schedules/queue/archive")
    listed = (await world.client.get("/v1/schedules/queue/ticks", params={"limit": 500})).json()["items"]
    assert [tick["outcome"] for tick in listed if tick["utc"] == second["utc"]] == ["ticked"]
    assert {tick["outcome"] for tick in listed} == {"ticked", "skipped"}


@pytest.mark.parametrize("policy", ["cancel_running", "replace"])
async def test_a_running_job_is_asked_to_end_for_the_next_one(world: World, policy: str):
    await lead(world)
    await world.create(name="newest", every=1, overlap=policy)
    (first, *_) = await world.wait_for_ticks("newest", 1)
    job_id = made_id({"id": first["job_id"]})

    async def cancelled() -> bool:
        return (await world.system.job(job_id)).state == "cancelled"

    await until(cancelled, what="the cancellation of the first job")
    events = await world.system.log.read_stream(job_id)
    assert events[-1].event.cause == "replaced"  # type: ignore[attr-defined]
    ticks = await world.wait_for_ticks("newest", 2, outcome="ticked")
    assert ticks[1]["cause"] == ("queued" if policy == "cancel_running" else "due")


async def test_a_change_is_a_new_version_and_the_past_can_be_read(world: World):
    made = await world.create(name="report", cron="15 2 * * *", timezone="Europe/Berlin", owner="ops")
    changed = await world.client.patch(
        "/v1/schedules/report", json={"cron": "0 3 * * *", "reason": "later"}, headers={"Rota-Actor": "ada"}
    )
    assert changed.status_code == 200, changed.text
    now = changed.json()
    assert (now["revision"], now["cron"], now["owner"]) == (2, "0 3 * * *", "ops")
    assert (now["changed_by"], now["reason"]) == ("http:ada", "later")
    then = await world.get("report", at=made["position"])
    assert (then["revision"], then["cron"]) == (1, "15 2 * * *")
    unchanged = await world.client.patch("/v1/schedules/report", json={"cron": "0 3 * * *"})
    assert unchanged.json()["version"] == now["version"]


async def test_every_tick_begins_a_trace_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    await lead(world)
    made = await world.create(name="traced", every=0.5)
    ticks = await world.wait_for_ticks("traced", 3)

    def roots() -> dict[str, ReadableSpan]:
        spans = [span for span in exporter.get_finished_spans() if span.name == "scheduler.tick"]
        return {f"{span.context.trace_id:032x}": span for span in spans if span.context is not None}

    jobs = [(await world.client.get(f"/v1/jobs/{tick['job_id']}")).json() for tick in ticks]
    assert len({job["trace_id"] for job in jobs}) == len(ticks)
    for tick, job in zip(ticks, jobs, strict=True):
        # A tick can be read before its span has ended.
        root = await until(lambda trace=job["trace_id"]: roots().get(trace), what="the span of a tick")
        assert root.parent is None
        assert root.attributes is not None
        assert root.attributes["rota.job.id"] == tick["job_id"]
        assert root.attributes["rota.schedule.id"] == made["id"]
