"""Workflows and batches with a leader: their ends, their cancellation, their retry, whoever leads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.apps.settings import Settings
from rota_server.apps.store.application import create_app
from rota_server.apps.store.main import compose
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.events import AttemptError
from rota_server.domain.workflows.workflow import fold_workflow, head_of_workflow
from tests.integration.scheduler_system import Node, SchedulerSystem, scheduler_system
from tests.waiting import until

JOB = {"task": "noop", "retry": {"max_attempts": 1}}


@dataclass
class World:
    """A leader, a store, and a test that plays the executors."""

    system: SchedulerSystem
    client: httpx.AsyncClient

    def lead(self) -> Node:
        return self.system.node(PostgresCoordination(self.system.database))

    async def submit(self, kind: str, **value: Any) -> str:
        answer = await self.client.post(f"/v1/{kind}", json=value)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def act(self, path: str) -> None:
        answer = await self.client.post(path)
        assert answer.status_code == 200, answer.text

    async def get(self, kind: str, workflow: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.get(f"/v1/{kind}/{workflow}")).json()
        return found

    async def nodes(self, workflow: str) -> dict[str, UUID]:
        return {node: UUID(job["id"]) for node, job in (await self.get("workflows", workflow))["jobs"].items()}

    async def is_in(self, state: str, kind: str, workflow: str) -> dict[str, Any]:
        async def found() -> dict[str, Any] | None:
            view = await self.get(kind, workflow)
            return view if view["state"] == state else None

        view: dict[str, Any] = await until(found, timeout_seconds=30, what=f"{kind} {state}")
        return view

    async def ends(self, job_id: UUID, *, well: bool = True, result: Any = None) -> None:
        await self.system.in_state("queued", [job_id])
        started = await self.system.command(job_id, c.StartAttempt(executor="e1"))
        end: c.Command = c.SucceedAttempt(attempt=started.attempt, executor="e1", result=result)
        if not well:
            error = AttemptError(type="ValueError", message="no")
            end = c.FailAttempt(attempt=started.attempt, executor="e1", error=error)
        await self.system.command(job_id, end)

    async def types(self, workflow: str) -> list[str]:
        return await self.system.types(UUID(workflow))

    async def check_fold(self, workflow: str) -> None:
        identity = UUID(workflow)
        events = [recorded.event for recorded in await self.system.log.read_stream(identity)]
        folded = fold_workflow(events)
        assert folded is not None
        row = (await self.system.resources.get([identity]))[identity]
        head = head_of_workflow(folded, identity)
        assert (row.doc, row.active) == (head.doc, head.active)


@pytest.fixture
async def world(postgres_url: str, redis_url: str) -> AsyncIterator[World]:
    async with scheduler_system(postgres_url, redis_url) as system:
        await PostgresTaskCatalog(system.database).announce({"noop": {}})
        settings = Settings(_env_file=None, database_url=postgres_url)  # type: ignore[call-arg]
        coordination = PostgresCoordination(system.database)
        parts = compose(settings, system.database, system.log, PostgresClock(system.database), coordination)
        transport = httpx.ASGITransport(app=create_app(parts, asyncio.Event()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000", timeout=30) as client:
            yield World(system, client)


def behind(*names: Any, **job: Any) -> dict[str, Any]:
    return {**JOB, "after": list(names), **job}


DIAMOND = {"a": JOB, "b": behind("a"), "c": behind("a"), "d": behind("b", "c")}


async def test_a_workflow_runs_in_order_and_has_succeeded_when_all_have(world: World):
    await world.lead().leads()
    flow = await world.submit("workflows", name="w", jobs=DIAMOND)
    ids = await world.nodes(flow)
    for node in ("a", "c", "b", "d"):
        assert (await world.get("workflows", flow))["state"] == "running"
        await world.ends(ids[node])
    view = await world.is_in("succeeded", "workflows", flow)
    assert view["counts"] == {"succeeded": 4}
    assert view["ended_at"] is not None
    assert await world.types(flow) == ["WorkflowSubmitted", "WorkflowEnded"]
    await world.check_fold(flow)


async def test_a_failed_workflow_is_retried_where_it_failed(world: World):
    await world.lead().leads()
    flow = await world.submit("workflows", name="w", jobs=DIAMOND)
    ids = await world.nodes(flow)
    await world.ends(ids["a"])
    await world.ends(ids["c"])
    await world.ends(ids["b"], well=False)
    view = await world.is_in("failed", "workflows", flow)
    assert view["counts"] == {"succeeded": 2, "failed": 1, "cancelled": 1}
    await world.act(f"/v1/workflows/{flow}/retry")
    await world.ends(ids["b"])
    await world.ends(ids["d"])
    await world.is_in("succeeded", "workflows", flow)
    assert await world.types(flow) == ["WorkflowSubmitted", "WorkflowEnded", "WorkflowReopened", "WorkflowEnded"]
    assert await world.system.types(ids["a"]) == ["JobSubmitted", "AttemptStarted", "AttemptSucceeded"]
    await world.check_fold(flow)


async def test_what_a_success_leaves_out_is_no_failure(world: World):
    await world.lead().leads()
    jobs = {
        "a": JOB,
        "undo": behind({"job": "a", "outcome": "failed"}),
        "report": behind({"job": "a", "outcome": "ended"}),
    }
    flow = await world.submit("workflows", name="w", jobs=jobs)
    ids = await world.nodes(flow)
    await world.ends(ids["a"])
    await world.ends(ids["report"])
    view = await world.is_in("succeeded", "workflows", flow)
    assert view["counts"] == {"succeeded": 2, "cancelled": 1}


async def test_a_cancelled_workflow_ends_all_that_has_not_ended_and_starts_nothing(world: World):
    await world.lead().leads()
    jobs = {"a": JOB, "b": JOB, "undo": behind({"job": "b", "outcome": "failed"}), "c": behind("a")}
    flow = await world.submit("workflows", name="w", jobs=jobs)
    ids = await world.nodes(flow)
    await world.system.in_state("queued", [ids["a"], ids["b"]])
    await world.system.command(ids["a"], c.StartAttempt(executor="e1"))
    await world.act(f"/v1/workflows/{flow}/cancel")
    await world.system.in_state("cancelled", [ids["b"], ids["undo"], ids["c"]])

    async def asked() -> bool:
        return (await world.system.job(ids["a"])).cancel_requested

    await until(asked, what="the request to end the running job")
    assert (await world.get("workflows", flow))["state"] == "cancelling"
    await world.system.command(ids["a"], c.ConfirmCancel(attempt=1, executor="e1"))
    view = await world.is_in("cancelled", "workflows", flow)
    assert view["counts"] == {"cancelled": 4}
    await world.check_fold(flow)


async def test_a_job_that_is_retried_by_itself_reopens_its_workflow(world: World):
    await world.lead().leads()
    flow = await world.submit("workflows", name="w", jobs={"a": JOB})
    job_id = (await world.nodes(flow))["a"]
    await world.ends(job_id, well=False)
    await world.is_in("failed", "workflows", flow)
    await world.act(f"/v1/jobs/{job_id}/retry")
    await world.is_in("running", "workflows", flow)
    await world.ends(job_id)
    await world.is_in("succeeded", "workflows", flow)
    await world.check_fold(flow)


async def test_what_happened_while_nobody_led_the_next_leader_records(world: World):
    node = world.lead()
    await node.leads()
    ended = await world.submit("workflows", name="w", jobs={"a": JOB, "b": behind("a")})
    cancelled = await world.submit("batches", jobs=[JOB] * 20, then=JOB)
    ids = await world.nodes(ended)
    await world.ends(ids["a"])
    await world.system.in_state("queued", [ids["b"]])
    await node.stop()
    await world.ends(ids["b"])
    await world.act(f"/v1/batches/{cancelled}/cancel")
    await world.lead().leads()
    await world.is_in("succeeded", "workflows", ended)
    view = await world.is_in("cancelled", "batches", cancelled)
    assert view["then"]["state"] == "cancelled"


async def test_the_job_behind_a_batch_runs_at_its_end_and_a_job_may_wait_for_a_workflow(world: World):
    await world.lead().leads()
    batch = await world.submit("batches", jobs=[JOB] * 40, then=JOB)
    flow = await world.submit("workflows", name="w", jobs={"a": JOB})
    answer = await world.client.post("/v1/jobs", json=behind(flow, {"job": batch, "outcome": "failed"}))
    waiting = UUID(answer.json()["id"])
    page = (await world.client.get("/v1/jobs", params={"limit": 100})).json()["items"]
    members = [UUID(job["id"]) for job in page if (job["origin"] or {}).get("id") == batch]
    assert len(members) == 40
    for number, job_id in enumerate(members):
        await world.ends(job_id, well=number > 0)
    view = await world.is_in("failed", "batches", batch)
    assert view["counts"] == {"succeeded": 39, "failed": 1}
    await world.system.in_state("queued", [UUID(view["then"]["id"])])
    assert (await world.system.job(waiting)).state == "waiting"
    await world.ends((await world.nodes(flow))["a"])
    await world.system.in_state("queued", [waiting])


async def test_the_job_behind_a_batch_is_retried_with_it(world: World):
    await world.lead().leads()
    batch = await world.submit("batches", jobs=[JOB], then=JOB)
    (member,) = (await world.client.get("/v1/jobs", params={"origin": batch})).json()["items"]
    await world.ends(UUID(member["id"]))
    view = await world.is_in("succeeded", "batches", batch)
    then = UUID(view["then"]["id"])
    await world.ends(then, well=False)
    await world.act(f"/v1/batches/{batch}/retry")
    await world.ends(then)
    view = await world.is_in("succeeded", "batches", batch)
    assert view["then"]["state"] == "succeeded"
    assert await world.types(batch) == ["BatchSubmitted", "BatchEnded", "BatchReopened", "BatchEnded"]
    await world.check_fold(batch)


async def test_a_workflow_on_a_queue_with_limits_takes_its_turns(world: World):
    await world.lead().leads()
    answer = await world.client.patch("/v1/queues/slow", json={"concurrency": 1})
    assert answer.status_code == 200, answer.text
    parts = {node: {**JOB, "queue": "slow"} for node in ("a", "b", "c")}
    flow = await world.submit("workflows", name="w", jobs={**parts, "last": behind("a", "b", "c", queue="slow")})
    batch = await world.submit("batches", jobs=[{**JOB, "queue": "slow"}] * 2, then={**JOB, "queue": "slow"})
    ended = 0

    async def one_is_queued() -> list[UUID]:
        rows = (await world.client.get("/v1/jobs", params={"queue": "slow", "state": "queued"})).json()["items"]
        assert len(rows) <= 1, "two at a time"
        return [UUID(row["id"]) for row in rows]

    while ended < 7:
        (job_id,) = await until(one_is_queued, what="the next job's turn")
        await world.ends(job_id)
        ended += 1
    await world.is_in("succeeded", "workflows", flow)
    view = await world.is_in("succeeded", "batches", batch)
    assert view["then"]["state"] == "succeeded"
