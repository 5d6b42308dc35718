"""Limits with a real leader: lines, pauses and changes, leaders that change; and what `why` says of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from uuid_utils.compat import uuid7

from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.apps.settings import Settings
from rota_server.apps.store.application import create_app
from rota_server.apps.store.main import compose
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.events import AttemptError
from rota_server.domain.jobs.spec import After, JobSpec, Predecessor
from rota_server.domain.log import Meta, Unit
from tests.integration.scheduler_system import SchedulerSystem, scheduler_system
from tests.waiting import until

WAITING = 600.0


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
    async with AsyncExitStack() as stack:
        transport = httpx.ASGITransport(app=create_app(parts, asyncio.Event()))
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000"))


async def submit(store: httpx.AsyncClient, count: int = 1, **job: Any) -> list[UUID]:
    results = (await store.post("/v1/jobs/bulk", json=[{"task": "noop", **job}] * count)).json()["results"]
    return [UUID(result["id"]) for result in results]


async def limit(store: httpx.AsyncClient, queue: str = "q", **settings: Any) -> None:
    answer = await store.patch(f"/v1/queues/{queue}", json=settings)
    assert answer.status_code == 200, answer.text


async def states(system: SchedulerSystem, ids: list[UUID]) -> list[str]:
    rows = await system.index.get(ids)
    return [rows[job_id].state for job_id in ids]


async def reasons(store: httpx.AsyncClient, job_id: UUID) -> dict[str, Any]:
    answer = await store.get(f"/v1/jobs/{job_id}/why")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["summary"]
    return {reason["code"]: reason for reason in found["reasons"]}


async def run(system: SchedulerSystem, job_id: UUID) -> None:
    await system.command(job_id, c.StartAttempt(executor="e1"))


async def end(system: SchedulerSystem, job_id: UUID) -> None:
    await system.command(job_id, c.SucceedAttempt(attempt=1, executor="e1", result=None))


async def settle(system: SchedulerSystem, ids: list[UUID], dispatched: int) -> list[UUID]:
    """Wait until exactly so many are dispatched or run, and the leader has seen all; these."""

    async def enough() -> bool:
        found = await states(system, ids)
        return sum(state in ("queued", "running") for state in found) == dispatched

    await until(enough, what=f"{dispatched} dispatched jobs")
    return [i for i, s in zip(ids, await states(system, ids), strict=True) if s in ("queued", "running")]


async def test_a_concurrency_limit_lets_the_next_start_when_one_ends(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    await system.node(PostgresCoordination(system.database)).leads()
    await limit(store, concurrency=2)
    ids = await submit(store, 5, queue="q")
    first = await settle(system, ids, 2)
    for job_id in first:
        await run(system, job_id)
    waiting = next(job_id for job_id in ids if job_id not in first)

    async def explained() -> bool:
        why = await reasons(store, waiting)
        return "concurrency" in why and all(holder["executor"] == "e1" for holder in why["concurrency"]["holders"])

    await until(explained, what="the explanation by the two that run")
    why = await reasons(store, waiting)
    assert {holder["job"] for holder in why["concurrency"]["holders"]} == {str(job_id) for job_id in first}
    assert why["line"]["ahead"] in range(3)
    await end(system, first[0])
    await until(lambda: _count(system, ids, "queued", 1), what="the third job")
    assert sum(state == "running" for state in await states(system, ids)) == 1


async def _count(system: SchedulerSystem, ids: list[UUID], state: str, number: int) -> bool:
    return sum(found == state for found in await states(system, ids)) == number


async def test_each_key_has_its_own_limit_and_a_place_in_its_line(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    await system.node(PostgresCoordination(system.database)).leads()
    await limit(store, concurrency_per_key=1)
    a, b = await submit(store, 3, queue="q", key="a"), await submit(store, 1, queue="q", key="b")
    await settle(system, [*a, *b], 2)
    assert await states(system, [a[0], *b]) == ["queued", "queued"]

    async def explained() -> bool:
        why = await reasons(store, a[2])
        return "concurrency_per_key" in why and why["line"]["ahead"] == 1

    await until(explained, what="the explanation by the key's limit")


async def test_a_rate_limit_holds_jobs_back_and_tells_until_when(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    await system.node(PostgresCoordination(system.database)).leads()
    await limit(store, rate={"limit": 2, "per": WAITING})
    ids = await submit(store, 3, queue="q")
    for job_id in await settle(system, ids, 2):
        await run(system, job_id)
        await end(system, job_id)
    (left,) = [i for i, s in zip(ids, await states(system, ids), strict=True) if s == "waiting"]
    await until(lambda: _has(store, left, "rate"), what="the explanation by the rate")
    until_when = datetime.fromisoformat((await reasons(store, left))["rate"]["until"])
    assert until_when > datetime.now(UTC) + timedelta(seconds=WAITING / 2)
    await limit(store, rate=None)
    await system.in_state("queued", [left])


async def _has(store: httpx.AsyncClient, job_id: UUID, code: str) -> bool:
    return code in await reasons(store, job_id)


async def test_a_pause_takes_back_what_has_not_started_and_says_who_set_it(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    ids = await submit(store, 4, queue="q")
    assert await states(system, ids) == ["queued"] * 4
    await run(system, ids[0])
    await limit(store, paused=True, reason="the provider is down")
    await system.node(PostgresCoordination(system.database)).leads()
    await system.in_state("waiting", ids[1:])
    assert await states(system, ids[:1]) == ["running"]
    assert (await system.types(ids[1])) == ["JobSubmitted", "JobHeld"]
    late = await submit(store, 1, queue="q")
    assert await states(system, late) == ["waiting"]
    why = await reasons(store, late[0])
    assert (why["paused"]["by"], why["paused"]["because"]) == ("http:anonymous", "the provider is down")
    assert why["line"]["ahead"] == 3
    await limit(store, paused=False)
    await system.in_state("queued", [*ids[1:], *late])


async def test_a_lower_limit_takes_back_what_has_not_started(system: SchedulerSystem, store: httpx.AsyncClient) -> None:
    await system.node(PostgresCoordination(system.database)).leads()
    await limit(store, concurrency=5)
    ids = await submit(store, 5, queue="q")
    await settle(system, ids, 5)
    await limit(store, concurrency=2)
    await settle(system, ids, 2)


async def test_limits_hold_across_a_change_of_leaders(system: SchedulerSystem, store: httpx.AsyncClient) -> None:
    await limit(store, concurrency=3, rate={"limit": 4, "per": WAITING})
    ids = await submit(store, 8, queue="q", key="k")
    node = system.node(PostgresCoordination(system.database))
    await node.leads()
    dispatched = await settle(system, ids, 3)
    await run(system, dispatched[0])
    await node.stop()
    await run(system, dispatched[1])
    await end(system, dispatched[0])
    await system.node(PostgresCoordination(system.database)).leads()
    await settle(system, ids, 3)
    for job_id in [i for i, s in zip(ids, await states(system, ids), strict=True) if s == "queued"]:
        await run(system, job_id)
    ended = [i for i, s in zip(ids, await states(system, ids), strict=True) if s == "running"]
    for job_id in ended:
        await end(system, job_id)
    left = [i for i, s in zip(ids, await states(system, ids), strict=True) if s == "waiting"]
    await until(lambda: _has(store, left[0], "rate"), what="the end of the rate")
    assert sum(state == "succeeded" for state in await states(system, ids)) == 4


async def test_a_delayed_and_a_failed_job_of_a_limited_queue_join_the_line(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    await system.node(PostgresCoordination(system.database)).leads()
    await limit(store, concurrency=1)
    (holder,) = await submit(store, 1, queue="q")
    await system.in_state("queued", [holder])
    await run(system, holder)
    (delayed,) = await submit(store, 1, queue="q", delay=0.3)
    assert "not_due" in await reasons(store, delayed)
    await system.in_state("waiting", [delayed])
    retry = {"max_attempts": 3, "initial": 0.2, "jitter": 0}
    await end(system, holder)
    await system.in_state("queued", [delayed])
    (failing,) = await submit(store, 1, queue="q", retry=retry)
    await run(system, delayed)
    await end(system, delayed)
    await system.in_state("queued", [failing])
    await run(system, failing)
    error = AttemptError(type="ValueError", message="no")
    await system.command(failing, c.FailAttempt(attempt=1, executor="e1", error=error))
    assert "retry" in await reasons(store, failing)
    await system.in_state("queued", [failing])
    assert (await system.types(failing))[-2:] == ["JobHeld", "JobDispatched"]


async def test_a_hundred_keys_are_emptied_one_job_at_a_time_each(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    await system.node(PostgresCoordination(system.database)).leads()
    await limit(store, concurrency_per_key=1)
    ids: list[UUID] = []
    for number in range(100):
        ids += await submit(store, 3, queue="q", key=f"k{number}")
    done: set[UUID] = set()
    while len(done) < len(ids):
        rows = await system.index.get(ids)
        queued = [row for row in rows.values() if row.state == "queued"]
        assert len({row.key for row in queued}) == len(queued), "two jobs of a key at once"
        for row in queued:
            await run(system, row.id)
            await end(system, row.id)
            done.add(row.id)
        if not queued:
            await until(lambda: _any_queued(system, ids), what="the next jobs")


async def _any_queued(system: SchedulerSystem, ids: list[UUID]) -> bool:
    return "queued" in await states(system, ids)


# -- why, for everything else ------------------------------------------------------------------------------------------


async def test_why_names_who_is_missing_for_a_queued_job(system: SchedulerSystem, store: httpx.AsyncClient) -> None:
    (job_id,) = await submit(store, 1, queue="q")
    assert "no_executor" in await reasons(store, job_id)
    coordination = PostgresCoordination(system.database)
    async with coordination.register("executor", "e1", {"queues": ["q"], "slots": 4, "tasks": ["other"]}):
        await until(lambda: _has(store, job_id, "no_executor_for_task"), what="the executor")
        async with coordination.register("executor", "e2", {"queues": ["q"], "slots": 4, "tasks": ["noop"]}):
            await until(lambda: _has(store, job_id, "waits_for_slot"), what="the executor that knows the task")


async def test_why_says_that_nobody_leads(system: SchedulerSystem, store: httpx.AsyncClient) -> None:
    (job_id,) = await submit(store, 1, queue="q", key="k")
    why = await reasons(store, job_id)
    assert {"line", "no_leader"} <= set(why)


async def test_why_names_the_missing_predecessor(system: SchedulerSystem, store: httpx.AsyncClient) -> None:
    (first,) = await submit(store)
    after = After(predecessors=(Predecessor(id=first, name="first"),))
    (second,) = await system.submit(after=after)
    why = await reasons(store, second)
    assert (why["predecessor"]["job"], why["predecessor"]["now"]) == (str(first), "queued")


async def test_why_tells_how_a_job_ended(system: SchedulerSystem, store: httpx.AsyncClient) -> None:
    good, bad, unwanted = await submit(store, 3, retry={"max_attempts": 1})
    for job_id in (good, bad):
        await run(system, job_id)
    assert "running" in await reasons(store, good)
    await end(system, good)
    error = AttemptError(type="ValueError", message="no such order")
    await system.command(bad, c.FailAttempt(attempt=1, executor="e1", error=error))
    await store.post(f"/v1/jobs/{unwanted}/cancel", json={"reason": "by mistake"}, headers={"Rota-Actor": "ada"})
    assert "succeeded" in await reasons(store, good)
    failed = (await reasons(store, bad))["failed"]
    assert (failed["attempts"], failed["error"]["message"]) == (1, "no such order")
    cancelled = (await reasons(store, unwanted))["cancelled"]
    assert (cancelled["by"], cancelled["because"]) == ("http:ada", "by mistake")
    (late,) = await system.submit(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await system.node(PostgresCoordination(system.database)).leads()
    await system.in_state("expired", [late])
    assert (await reasons(store, late))["expired"]["was"] == "queued"


async def test_why_of_a_job_that_is_none(system: SchedulerSystem, store: httpx.AsyncClient) -> None:
    assert (await store.get(f"/v1/jobs/{UUID(int=5)}/why")).status_code == 404
    assert (await store.get("/v1/jobs/what/why")).status_code == 404


async def test_a_job_that_was_dispatched_as_its_queue_became_managed_is_taken_back(
    system: SchedulerSystem, store: httpx.AsyncClient
) -> None:
    """The leader itself may submit a job (a tick) without knowing yet what holds for its queue."""
    node = system.node(PostgresCoordination(system.database))
    await node.leads()
    await limit(store, paused=True)
    leading = node.scheduler.leading
    assert leading is not None
    await until(lambda: "q" in leading.state.managed, what="the leader's knowledge of the pause")
    now = datetime.now(UTC)
    job_id = uuid7()
    events = decide(None, c.SubmitJob(spec=JobSpec(task="noop", queue="q")), now)
    meta = Meta(actor="test")
    write, _ = write_for(None, job_id, events, meta, now)
    term = (await PostgresCoordination(system.database).leader()).info["term"]  # type: ignore[union-attr]
    await system.log.append([Unit(id=uuid7(), writes=[write], meta=meta)], fence=term)
    await system.in_state("waiting", [job_id])


# -- why a schedule did or did not tick --------------------------------------------------------------------------------


async def why_tick(store: httpx.AsyncClient, name: str, at: datetime | None = None) -> dict[str, Any]:
    params = {} if at is None else {"at": at.isoformat()}
    answer = await store.get(f"/v1/schedules/{name}/why", params=params)
    assert answer.status_code == 200, answer.text
    return {reason["code"]: reason for reason in answer.json()["reasons"]}


async def ticks(store: httpx.AsyncClient, name: str, **params: str) -> list[dict[str, Any]]:
    return list((await store.get(f"/v1/schedules/{name}/ticks", params=params)).json()["items"])


async def test_why_tells_what_became_of_each_nominal_time(system: SchedulerSystem, store: httpx.AsyncClient) -> None:
    schedule = {"name": "s", "every": 1, "overlap": "skip", "job": {"task": "noop"}}
    assert (await store.post("/v1/schedules", json=schedule)).status_code == 201
    assert {"not_due", "no_leader"} <= set(await why_tick(store, "s"))
    await system.node(PostgresCoordination(system.database)).leads()
    await until(lambda: ticks(store, "s", outcome="skipped", reason="overlap"), what="a tick skipped for overlap")
    (ticked, *_) = await ticks(store, "s", outcome="ticked")
    (skipped, *_) = await ticks(store, "s", outcome="skipped")
    why = await why_tick(store, "s", datetime.fromisoformat(ticked["utc"]))
    assert why["ticked"]["job_id"] == ticked["job_id"]
    why = await why_tick(store, "s", datetime.fromisoformat(skipped["utc"]))
    assert why["skipped_overlap"]["blocked_by"] == [ticked["job_id"]]
    body = {"reason": "holidays"}
    await store.post("/v1/schedules/s/pause", json=body, headers={"Rota-Actor": "ada"})
    assert (await why_tick(store, "s"))["paused"]["because"] == "holidays"
    in_the_pause = datetime.fromisoformat(ticked["utc"]) + timedelta(seconds=60)
    while in_the_pause > datetime.now(UTC):
        in_the_pause -= timedelta(seconds=1)
    await until(lambda: datetime.now(UTC) > in_the_pause + timedelta(seconds=2), what="a nominal time in the pause")
    in_the_pause += timedelta(seconds=1)
    assert {"owed", "paused"} <= set(await why_tick(store, "s", in_the_pause))
    await store.post("/v1/schedules/s/resume", json={})
    await until(lambda: ticks(store, "s", outcome="skipped", reason="paused"), what="a tick skipped for the pause")
    (paused, *_) = await ticks(store, "s", outcome="skipped", reason="paused")
    why = await why_tick(store, "s", datetime.fromisoformat(paused["utc"]))
    assert why["skipped_paused"]["by"] == "http:ada"
    between = datetime.fromisoformat(ticked["utc"]) + timedelta(milliseconds=500)
    assert "no_nominal_time" in await why_tick(store, "s", between)
    assert "not_due" in await why_tick(store, "s", datetime.fromisoformat(ticked["utc"]) + timedelta(hours=1))
    await store.post("/v1/schedules/s/archive", json={})
    assert "archived" in await why_tick(store, "s")
    assert (await store.get("/v1/schedules/none/why")).status_code == 404
    assert (await store.get("/v1/schedules/s/why", params={"at": "now"})).status_code == 422
