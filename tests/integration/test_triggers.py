"""Triggers on PostgreSQL and Redis: each matching event makes one job, whatever happens to leaders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Position, Term, Version, event_stream_id
from rota_server.domain.jobs.events import EventPublished
from rota_server.domain.log import AppendResult, Meta, StreamWrite, Unit
from rota_server.domain.triggers.trigger import fold_trigger, triggered_job_id
from tests.integration.event_system import EVENT, JOB, STRUCTURED, EventSystem, event_system
from tests.waiting import until


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[EventSystem]:
    async with event_system(postgres_url, redis_url) as found:
        yield found


async def read_trigger(system: EventSystem, name: str = "paid") -> dict[str, Any]:
    return await system.get(f"/v1/triggers/{name}")


class HeldLog:
    """A log whose units of triggers stop on their way: before the log or, with `behind`, on the way back."""

    def __init__(self, log: PostgresEventLog, *, behind: bool) -> None:
        self._log = log
        self._behind = behind
        self.stopped = asyncio.Event()
        self.go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        if not any(unit.meta.actor.startswith("trigger:") for unit in units):
            return await self._log.append(units, fence=fence)
        results = await self._log.append(units, fence=fence) if self._behind else None
        self.stopped.set()
        await self.go_on.wait()
        return results if results is not None else await self._log.append(units, fence=fence)


async def test_a_published_event_makes_a_job_with_the_events_values(system: EventSystem):
    await system.leader()
    trigger = await system.trigger()
    (result,) = await system.publish(EVENT)
    job = await system.job(trigger)
    assert (job.spec.task, job.spec.args, job.spec.tags) == ("noop", {"user": 7}, {"order": "order e-1"})
    assert job.state == "queued"
    assert job.spec.origin is not None
    assert (job.spec.origin.kind, job.spec.origin.id) == ("trigger", trigger)
    meta = job.submitted_meta
    assert (meta.causation_id, meta.correlation_id) == (str(result["position"]), "e-1")
    assert (meta.actor, meta.term, meta.depth) == ("trigger:paid", 1, 1)


async def test_the_chain_can_be_followed_from_either_end(system: EventSystem):
    await system.leader()
    trigger = await system.trigger()
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {**STRUCTURED, "traceparent": traceparent, "rota-correlation-id": "story-9"}
    position = (await system.client.post("/v1/events", json=EVENT, headers=headers)).json()["position"]
    job = await system.job(trigger)
    read = (await system.client.get(f"/v1/jobs/{job.id}")).json()
    stream = str(event_stream_id("/shop", "e-1"))
    assert read["caused_by"] == {"event": {"position": position, "stream_id": stream}, "trigger": str(trigger)}
    assert read["trace_id"] == traceparent.split("-")[1]
    story = (await system.client.get("/v1/events", params={"correlation": "story-9"})).json()["items"]
    assert [event["type"] for event in story] == ["EventPublished", "JobSubmitted"]


async def test_an_event_that_comes_again_makes_no_second_job(system: EventSystem):
    await system.leader()
    trigger = await system.trigger()
    await system.publish(EVENT, EVENT)
    await system.publish(EVENT, {**EVENT, "id": "e-2"}, {**EVENT, "source": "/other"})
    await system.job(trigger, "e-2")
    await system.job(trigger, source="/other")
    log = await system.log.read(Position(0), 1000)
    assert sum(type(recorded.event).__name__ == "JobSubmitted" for recorded in log) == 3


@pytest.mark.parametrize("behind", [False, True], ids=["before the commit", "behind the commit"])
async def test_a_leader_killed_between_event_and_job_leaves_exactly_one_job(system: EventSystem, *, behind: bool):
    held = HeldLog(system.log, behind=behind)
    first = await system.leader(event_log=held)
    trigger = await system.trigger()
    await system.publish(*({**EVENT, "id": f"e-{n}"} for n in range(50)))
    await held.stopped.wait()
    await first.stop()
    await system.leader()
    for number in range(50):
        await system.job(trigger, f"e-{number}")
    types = [type(r.event).__name__ for r in await system.log.read(Position(0), 1000)]
    assert types.count("JobSubmitted") == 50


async def test_a_successor_takes_the_events_as_the_trigger_was_when_they_were_published(system: EventSystem):
    held = HeldLog(system.log, behind=False)
    first = await system.leader(event_log=held)
    trigger = await system.trigger()
    await system.publish({**EVENT, "id": "before"})
    await held.stopped.wait()
    await system.client.post("/v1/triggers/paid/pause", json={"reason": "later"})
    await system.publish({**EVENT, "id": "while paused"})
    await system.client.post("/v1/triggers/paid/resume")
    await system.client.patch("/v1/triggers/paid", json={"match": {"type": "order.lost"}})
    await system.publish({**EVENT, "id": "no longer"}, {**EVENT, "id": "changed", "type": "order.lost"})
    await first.stop()
    await system.leader()
    await system.job(trigger, "before")
    await system.job(trigger, "changed")
    for event_id in ("while paused", "no longer"):
        assert await system.log.read_stream(triggered_job_id(trigger, "/shop", event_id)) == []


async def test_events_from_before_the_trigger_make_no_jobs(system: EventSystem):
    await system.publish({**EVENT, "id": "early"})
    trigger = await system.trigger()
    await system.publish({**EVENT, "id": "late"})
    await system.leader()
    await system.job(trigger, "late")
    assert await system.log.read_stream(triggered_job_id(trigger, "/shop", "early")) == []


async def test_an_event_that_does_not_fit_is_recorded_with_the_reason_and_not_too_often(system: EventSystem):
    await system.leader()
    trigger = await system.trigger()
    await system.publish({**EVENT, "data": {}})
    await until(lambda: _failed(system, 1), what="the failure")
    found = await read_trigger(system)
    assert found["last_failure"]["event_id"] == "e-1"
    assert found["last_failure"]["reason"] == "args.user: the event has no data.user.id"
    await system.publish(*({**EVENT, "id": f"bad-{n}", "data": 1} for n in range(30)), {**EVENT, "id": "good"})
    await system.job(trigger, "good")
    history = await system.log.read_stream(trigger)
    assert [type(r.event).__name__ for r in history] == ["TriggerCreated", "TriggerFailed"]
    rows = await system.client.get(f"/v1/triggers/{trigger}")
    assert rows.json()["failures"] == 1


async def _failed(system: EventSystem, count: int) -> bool:
    return bool((await read_trigger(system))["failures"] == count)


async def test_a_chain_of_triggers_comes_to_an_end(system: EventSystem):
    await system.leader()
    trigger = await system.trigger()
    stream = event_stream_id("/shop", "deep")
    event = EventPublished(id="deep", source="/shop", type="order.paid", data={"user": {"id": 1}})
    write = StreamWrite(stream_id=stream, expected_version=Version(0), events=[event], head=None)
    meta = Meta(actor="job:x", correlation_id="c", depth=16)
    await system.log.append([Unit(id=UUID(int=7), writes=[write], meta=meta)])
    await until(lambda: _failed(system, 1), what="the end of the chain")
    assert "chain of 16" in (await read_trigger(system))["last_failure"]["reason"]
    assert await system.log.read_stream(triggered_job_id(trigger, "/shop", "deep")) == []


async def test_the_row_is_the_fold_of_the_stream(system: EventSystem):
    await system.leader()
    trigger = await system.trigger(description="first")
    await system.client.patch("/v1/triggers/paid", json={"job": {**JOB, "queue": "mail"}, "description": None})
    await system.publish({**EVENT, "data": None})
    await until(lambda: _failed(system, 1), what="the failure")
    for action in ("pause", "resume", "archive"):
        assert (await system.client.post(f"/v1/triggers/paid/{action}", json={"reason": "r"})).status_code == 200
        row = (await system.inner.resources.get([trigger]))[trigger]
        assert row.doc == fold_trigger(await system.log.read_stream(trigger))
        assert row.active == (row.doc["state"] == "active")


async def test_a_delayed_job_counts_from_the_event(system: EventSystem):
    await system.leader()
    trigger = await system.trigger(job={"task": "noop", "delay": {"$event": "data.in"}})
    await system.publish({**EVENT, "data": {"in": 3600}})
    job = await system.job(trigger)
    assert job.state == "scheduled"
    assert job.run_at is not None
    published = (await system.log.read_stream(event_stream_id("/shop", "e-1")))[0].recorded_at
    assert (job.run_at - published).total_seconds() == 3600
    assert job.run_at > datetime.now(UTC)


async def test_an_outage_of_postgres_loses_no_event(system: EventSystem):
    class Flaky(HeldLog):
        failures = 3

        async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
            if any(unit.meta.actor.startswith("trigger:") for unit in units) and self.failures:
                self.failures -= 1
                raise Unavailable("away", server="postgres")
            return await self._log.append(units, fence=fence)

    await system.leader(event_log=Flaky(system.log, behind=False))
    trigger = await system.trigger()
    await system.publish(*({**EVENT, "id": f"e-{n}"} for n in range(5)))
    for number in range(5):
        await system.job(trigger, f"e-{number}")


async def test_an_event_that_is_too_much_work_is_set_aside_and_leader_and_other_triggers_go_on(system: EventSystem):
    leader = await system.leader()
    many = [{"numeric": [">", number + 2]} for number in range(199)]
    await system.trigger("many", match={"data.a": many})
    await system.trigger("much", match={"$or": [{"data.a": number} for number in range(2, 60)]})
    trigger = await system.trigger()
    await system.publish({**EVENT, "id": "big", "data": {"a": [1] * 120_000}}, EVENT)
    await system.job(trigger)
    await until(lambda: _is_told(system, "much"), what="the failure")
    failure = (await read_trigger(system, "much"))["last_failure"]
    assert (failure["event_id"], failure["reason"]) == ("big", "matching the event takes more than 200000 steps")
    assert (await read_trigger(system, "many"))["failures"] == 0
    assert not leader.task.done()
    assert (await system.client.post("/v1/triggers/much/archive")).status_code == 200
    await system.publish({**EVENT, "id": "big-2", "data": {"a": [1] * 120_000}}, {**EVENT, "id": "e-2"})
    await system.job(trigger, "e-2")


async def _is_told(system: EventSystem, name: str) -> bool:
    return (await read_trigger(system, name))["last_failure"] is not None
