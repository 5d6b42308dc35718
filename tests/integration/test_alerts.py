"""Whom a queue or a task names is told once of each job that has failed for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from rota_server.adapters.postgres.leader_projection import PostgresRunningAttempts
from rota_server.adapters.postgres.tables import checkpoints
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.events import AttemptError
from rota_server.domain.jobs.job import Job, fold
from rota_server.domain.jobs.retry import RetryPolicy
from tests.integration.event_system import EventSystem, event_system
from tests.waiting import until

ONCE = RetryPolicy(max_attempts=1)
ALERT = {"email": ["ops@example.org"], "webhook": {"$secret": "hook", "prefix": "https://example.org/"}}


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[EventSystem]:
    async with event_system(postgres_url, redis_url) as found:
        yield found


async def fail(system: EventSystem, job_id: UUID, said: str = "out of paper", *, retryable: bool = True) -> None:
    """One attempt of the job, which fails."""
    attempt = (await read(system, job_id)).attempt + 1
    await system.inner.command(job_id, c.StartAttempt(executor="e1"))
    error = AttemptError(type="PrinterError", message=said)
    await system.inner.command(job_id, c.FailAttempt(attempt=attempt, executor="e1", error=error, retryable=retryable))


async def read(system: EventSystem, job_id: UUID) -> Job:
    job = fold(await system.log.read_stream(job_id))
    assert job is not None
    return job


async def alerts(system: EventSystem) -> list[dict[str, Any]]:
    """All jobs that are alerts, oldest first."""
    jobs = (await system.get("/v1/jobs", limit=500))["items"]
    return [job for job in reversed(jobs) if "alert-of" in job["tags"]]


async def change(system: EventSystem, queue: str, **settings: Any) -> dict[str, Any]:
    answer = await system.client.patch(f"/v1/queues/{queue}", json=settings)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_final_failure_is_told_by_mail_and_webhook_and_other_ends_are_not(system: EventSystem):
    assert (await change(system, "printing", alert={**ALERT, "queue": "ops"}))["alert"] == {**ALERT, "queue": "ops"}
    await system.leader()
    (failed,) = await system.inner.submit(task="print", queue="printing", retry=ONCE, tags={"floor": "2"})
    (retried,) = await system.inner.submit(task="print", queue="printing")
    (elsewhere,) = await system.inner.submit(task="print", queue="copying", retry=ONCE)
    for job_id in (retried, elsewhere, failed):
        await fail(system, job_id)

    async def both() -> list[dict[str, Any]] | None:
        found = await alerts(system)
        return found if len(found) == 2 else None

    told = {alert["task"]: alert for alert in await until(both, what="two alerts")}
    for alert in told.values():
        assert (alert["queue"], alert["tags"]["alert-of"], alert["state"]) == ("ops", str(failed), "queued")
    mail, hook = told["email.send"]["args"], told["http.request"]["args"]
    assert mail["to"] == ["ops@example.org"]
    assert f"rota why {failed}" in mail["text"]
    assert "PrinterError: out of paper" in mail["text"]
    assert hook["url"] == ALERT["webhook"]
    about = hook["json"]["job"]
    assert (about["id"], about["task"], about["tags"]) == (str(failed), "print", {"floor": "2"})
    assert about["error"] == {"type": "PrinterError", "message": "out of paper"}
    first = (await system.get(f"/v1/jobs/{told['email.send']['id']}/events"))["items"][0]
    assert (first["meta"]["actor"], first["meta"]["correlation_id"]) == ("alert:printing", str(failed))


async def test_each_failure_is_told_once_whatever_leaders_do(system: EventSystem):
    await change(system, "printing", alert={"email": "ops@example.org"})
    first = await system.leader()
    (job_id,) = await system.inner.submit(task="print", queue="printing", retry=ONCE)
    await fail(system, job_id)
    await until(lambda: _count(system, 1), what="the first alert")
    await first.stop()
    await system.leader()
    await system.inner.command(job_id, c.RetryJob(reason="again"))
    await fail(system, job_id, "jammed")
    await until(lambda: _count(system, 2), what="the second alert")
    one, other = await alerts(system)
    assert "out of paper" in one["args"]["text"]
    assert "jammed" in other["args"]["text"]


async def test_an_alert_that_fails_alerts_nobody(system: EventSystem):
    await change(system, "printing", alert={"email": "ops@example.org", "queue": "printing"})
    await system.leader()
    (job_id,) = await system.inner.submit(task="print", queue="printing", retry=ONCE)
    await fail(system, job_id)
    await until(lambda: _count(system, 1), what="the alert")
    (alert,) = await alerts(system)
    await fail(system, UUID(alert["id"]), retryable=False)
    assert (await read(system, UUID(alert["id"]))).state == "failed"
    (later,) = await system.inner.submit(task="print", queue="printing", retry=ONCE)
    await fail(system, later)
    await until(lambda: _count(system, 2), what="the next job's alert")
    assert {one["tags"]["alert-of"] for one in await alerts(system)} == {str(job_id), str(later)}


async def test_alerts_begin_and_end_with_the_setting(system: EventSystem):
    await system.leader()
    during, after = await system.inner.submit(2, task="print", queue="printing", retry=ONCE)
    await change(system, "printing", alert={"email": "ops@example.org"})
    await fail(system, during)
    await until(lambda: _count(system, 1), what="the alert")
    assert (await change(system, "printing", alert=None))["alert"] is None
    await fail(system, after)
    await change(system, "printing", alert={"email": "ops@example.org"})
    (last,) = await system.inner.submit(task="print", queue="printing", retry=ONCE)
    await fail(system, last)
    await until(lambda: _count(system, 2), what="the last alert")
    told = {alert["tags"]["alert-of"] for alert in await alerts(system)}
    assert {str(during), str(last)} == told


@pytest.mark.parametrize(
    ("alert", "field"),
    [
        ({}, "alert"),
        ({"queue": "ops"}, "alert"),
        ({"email": "nobody"}, "alert.email"),
        ({"email": ["a@example.org", "b\n@example.org"]}, "alert.email"),
        ({"webhook": "http://example.org:65536/"}, "alert.webhook"),
        ({"webhook": {"$secret": "../x"}}, "alert.webhook"),
        ({"email": "a@example.org", "queue": "two words"}, "alert.queue"),
        ({"sms": "1"}, "alert.sms"),
    ],
)
async def test_an_alert_that_could_not_be_told_is_refused(system: EventSystem, alert: dict[str, Any], field: str):
    answer = await system.client.patch("/v1/queues/printing", json={"alert": alert})
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


async def _count(system: EventSystem, count: int) -> bool:
    return len(await alerts(system)) == count


async def announce(system: EventSystem, **alerts: Any) -> None:
    """Announce the task `print` as declared with this alert."""
    await PostgresTaskCatalog(system.inner.database).announce({"print": {"parameters": {}, **alerts}})


async def test_a_tasks_alert_is_told_beside_its_queues_and_no_place_twice(system: EventSystem):
    both = {"email": ["team@example.org", "ops@example.org"], "webhook": "https://example.org/", "queue": "team"}
    await announce(system, alert=both)
    await change(system, "printing", alert={"email": "ops@example.org", "webhook": "https://example.org/"})
    await system.leader()
    (alone,) = await system.inner.submit(task="print", queue="copying", retry=ONCE)
    (queued,) = await system.inner.submit(task="print", queue="printing", retry=ONCE)
    for job_id in (alone, queued):
        await fail(system, job_id)
    await until(lambda: _count(system, 5), what="the alerts")
    told = {
        (one["tags"]["alert-of"], one["queue"], str(one["args"].get("to") or one["args"]["url"]))
        for one in await alerts(system)
    }
    assert told == {
        (str(alone), "team", str(both["email"])),
        (str(alone), "team", "https://example.org/"),
        (str(queued), "default", "ops@example.org"),
        (str(queued), "default", "https://example.org/"),
        (str(queued), "team", "['team@example.org']"),
    }


async def test_a_tasks_alert_is_told_once_whatever_leaders_do(system: EventSystem):
    await announce(system, alert={"email": "team@example.org"})
    first = await system.leader()
    checkpoint = await PostgresRunningAttempts(system.inner.database).checkpoint()
    (job_id,) = await system.inner.submit(task="print", queue="printing", retry=ONCE)
    await fail(system, job_id)
    await until(lambda: _count(system, 1), what="the first alert")
    await first.stop()
    # The successor begins before the failure, as if the first had died before it noted how far it was.
    async with system.inner.database.begin() as connection:
        await connection.execute(update(checkpoints).values(position=checkpoint))
    await system.leader()
    (later,) = await system.inner.submit(task="print", queue="printing", retry=ONCE)
    await fail(system, later)
    await until(lambda: _count(system, 2), what="the next job's alert")
    assert [one["tags"]["alert-of"] for one in await alerts(system)] == [str(job_id), str(later)]


async def test_an_alert_in_the_catalogue_that_cannot_be_told_stops_nobody(system: EventSystem):
    wrong: list[Any] = ["ops", 5, {}, {"email": 5}, {"sms": "1"}, {"webhook": "x"}, {"email": "a@b.c", "queue": ["q"]}]
    names = {f"odd-{n}": {"alert": alert} for n, alert in enumerate(wrong)}
    await PostgresTaskCatalog(system.inner.database).announce({**names, "print": {"alert": {"email": "a@example.org"}}})
    await system.leader()
    for name in names:
        (job_id,) = await system.inner.submit(task=name, queue="printing", retry=ONCE)
        await fail(system, job_id)
    (right,) = await system.inner.submit(task="print", queue="printing", retry=ONCE)
    await fail(system, right)
    await until(lambda: _count(system, 1), what="the alert")
    assert (await alerts(system))[0]["tags"]["alert-of"] == str(right)
