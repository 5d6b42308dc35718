"""Subscriptions on real servers: at least once, in order per job, whatever receivers and leaders do."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.events import AttemptError
from rota_server.domain.subscriptions.subscription import fold_subscription
from tests.integration.event_system import EventSystem, event_system
from tests.integration.webhook_receiver import Received, Receiver
from tests.waiting import until

FAST = {"max_attempts": 5, "initial": 0.05, "factor": 1, "jitter": 0}
ENDS = {"type": ["JobSubmitted", "AttemptStarted", "AttemptSucceeded"]}


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[EventSystem]:
    async with event_system(postgres_url, redis_url) as found:
        yield found


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = await Receiver().start()
    yield found
    await found.stop()


async def subscribe(system: EventSystem, receiver: Receiver, name: str = "hook", **fields: Any) -> dict[str, Any]:
    body = {"name": name, "url": receiver.url, "match": ENDS, "retry": FAST, **fields}
    return await system.post("/v1/subscriptions", body, 201)


async def run_job(system: EventSystem, job_id: UUID) -> None:
    await system.inner.command(job_id, c.StartAttempt(executor="e1"))
    await system.inner.command(job_id, c.SucceedAttempt(attempt=1, executor="e1", result=None))


def in_order(taken: list[Received]) -> dict[str, list[int]]:
    """The versions that each stream's events came with, repetitions left out."""
    versions: dict[str, list[int]] = {}
    for one in taken:
        of_stream = versions.setdefault(one.event["subject"], [])
        version = one.event["data"]["version"]
        if version not in of_stream:
            of_stream.append(version)
    return versions


async def test_a_jobs_events_arrive_in_order_as_signed_cloudevents(system: EventSystem, receiver: Receiver):
    await system.leader()
    made = await subscribe(system, receiver)
    (job_id,) = await system.inner.submit(task="report", tags={"team": "a"}, queue="q")
    await run_job(system, job_id)
    await until(lambda: len(receiver.taken) == 3, what="three deliveries")
    first = receiver.taken[0]
    event = first.event
    assert [one.event["type"] for one in receiver.taken] == [
        "rota.JobSubmitted",
        "rota.AttemptStarted",
        "rota.AttemptSucceeded",
    ]
    assert first.headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
    assert (event["specversion"], event["source"], event["subject"]) == ("1.0", "/rota", str(job_id))
    assert event["sequence"] == f"{int(event['id']):020d}"
    (stored,) = (await system.get("/v1/events", after=int(event["id"]) - 1, limit=1))["items"]
    assert {name: event["data"][name] for name in stored} == stored
    job = event["data"]["job"]
    assert (job["id"], job["task"], job["queue"], job["tags"]) == (str(job_id), "report", "q", {"team": "a"})
    content = f"{first.headers['webhook-id']}.{first.headers['webhook-timestamp']}.".encode() + first.body
    key = base64.b64decode(made["secret"].removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert first.headers["webhook-signature"] == f"v1,{signature}"


async def test_the_secret_is_shown_once_and_stands_nowhere_else(system: EventSystem, receiver: Receiver):
    await system.leader()
    made = await subscribe(system, receiver)
    secret = made["secret"].removeprefix("whsec_")
    texts = [str(await system.get("/v1/subscriptions/hook")), str(await system.get("/v1/subscriptions"))]
    texts += [str(await system.get("/v1/events", limit=1000))]
    rotated = await system.post("/v1/subscriptions/hook/secret", {"reason": "old"})
    texts.append(str({**rotated, "secret": None}))
    texts.append(str(await system.get("/v1/events", limit=1000)))
    for text in texts:
        assert secret not in text
        assert rotated["secret"].removeprefix("whsec_") not in text
    await system.inner.submit()
    await until(lambda: receiver.taken, what="a delivery")
    assert len(receiver.taken[0].headers["webhook-signature"].split()) == 2  # the old one signs as well for a day
    again = await system.post("/v1/subscriptions", {"name": "hook", "url": receiver.url, "match": ENDS, "retry": FAST})
    assert "secret" not in again


async def test_what_fails_is_tried_again_and_what_is_behind_it_waits(system: EventSystem, receiver: Receiver):
    failures = {"left": 3}

    def answer(received: Received) -> int:
        if received.event["type"] == "rota.JobSubmitted" and failures["left"]:
            failures["left"] -= 1
            return 500
        return 200

    receiver.answer = answer
    await system.leader()
    await subscribe(system, receiver)
    (job_id,) = await system.inner.submit()
    await run_job(system, job_id)
    await until(lambda: len(receiver.taken) == 3, what="three deliveries")
    types = [one.event["type"] for one in receiver.requests]
    assert types == ["rota.JobSubmitted"] * 4 + ["rota.AttemptStarted", "rota.AttemptSucceeded"]
    ids = {one.headers["webhook-id"] for one in receiver.requests[:4]}
    assert len(ids) == 1
    await until(lambda: _is(system, pending=0, dead=0), what="nothing left")


async def test_one_bad_stream_holds_up_no_other(system: EventSystem, receiver: Receiver):
    (bad,) = await system.inner.submit()
    receiver.answer = lambda received: 500 if received.event["subject"] == str(bad) else 200
    await system.leader()
    await subscribe(system, receiver, after=0, retry={**FAST, "initial": 3600, "maximum": 3600})
    good = await system.inner.submit(30)
    for job_id in (bad, *good):
        await run_job(system, job_id)
    await until(lambda: len(receiver.taken) == 90, what="the other streams' deliveries")
    assert all(versions == [1, 2, 3] for versions in in_order(receiver.taken).values())
    await until(lambda: _is(system, pending=3, dead=0), what="the bad stream's rows")
    last = max(receiver.positions())

    async def moved_on() -> bool:
        return bool((await system.get("/v1/subscriptions/hook"))["delivered_to"] >= last)

    await until(moved_on, what="the cursor's going on without the bad stream")


async def test_what_is_given_up_is_a_dead_letter_with_what_waited_for_it_and_can_be_delivered_anew(
    system: EventSystem, receiver: Receiver
):
    receiver.answer = lambda _: 500
    await system.leader()
    made = await subscribe(system, receiver, retry={**FAST, "max_attempts": 3, "initial": 0.3})
    (job_id,) = await system.inner.submit()
    await until(lambda: receiver.requests, what="the first attempt")
    await run_job(system, job_id)
    await until(lambda: _is(system, dead=3, pending=0), what="three dead letters")
    dead = (await system.get("/v1/subscriptions/hook/dead"))["items"]
    assert [one["attempts"] for one in dead] == [3, 0, 0]
    assert dead[0]["error"] == "500: said"
    assert f"position {dead[0]['position']}" in dead[1]["error"]
    receiver.answer = lambda _: 200
    assert (await system.post("/v1/subscriptions/hook/redeliver", {"reason": "fixed"}))["redelivered"] == 3
    await until(lambda: len(receiver.taken) == 3, what="the redelivery")
    assert in_order(receiver.taken) == {str(job_id): [1, 2, 3]}
    await until(lambda: _is(system, dead=0, pending=0), what="no dead letters")
    row = (await system.inner.resources.get([UUID(made["id"])]))[UUID(made["id"])]
    assert row.doc == fold_subscription(await system.log.read_stream(row.id))


async def test_a_receiver_that_is_slow_or_dies_gets_everything_in_order(system: EventSystem, receiver: Receiver):
    answers = {"slow": 2}

    def answer(_: Received) -> int | None:
        if answers["slow"]:
            answers["slow"] -= 1
            return None
        return 200

    receiver.answer = answer
    await system.leader()
    await subscribe(system, receiver, timeout=0.3, retry={**FAST, "max_attempts": 100})
    ids = await system.inner.submit(10)
    await until(lambda: len(receiver.taken) >= 5, what="some deliveries")
    await receiver.stop()
    for job_id in ids:
        await run_job(system, job_id)
    await until(lambda: _some_pending(system), what="failures")
    await receiver.start()
    await until(lambda: sum(map(len, in_order(receiver.taken).values())) == 30, what="all deliveries")
    assert all(versions == [1, 2, 3] for versions in in_order(receiver.taken).values())


async def test_a_leader_killed_in_the_middle_loses_nothing_and_keeps_the_order(system: EventSystem, receiver: Receiver):
    hung = asyncio.Event()

    def answer(received: Received) -> int | None:
        if len(receiver.requests) > 40 and not hung.is_set():
            return None
        return 500 if len(receiver.requests) % 7 == 0 else 200

    receiver.answer = answer
    first = await system.leader()
    await subscribe(system, receiver, retry={**FAST, "max_attempts": 100})
    ids = await system.inner.submit(40)
    for job_id in ids[:20]:
        await run_job(system, job_id)
    await until(lambda: receiver.open >= 5, what="deliveries on their way")
    await first.stop()
    hung.set()
    await system.leader()
    for job_id in ids[20:]:
        await run_job(system, job_id)
    await until(lambda: sum(map(len, in_order(receiver.taken).values())) == 120, what="all deliveries")
    assert all(versions == [1, 2, 3] for versions in in_order(receiver.taken).values())
    repeated = len(receiver.taken) - 120
    assert repeated <= 256


async def test_a_pause_leaves_nothing_out(system: EventSystem, receiver: Receiver):
    await system.leader()
    await subscribe(system, receiver)
    await system.inner.submit()
    await until(lambda: len(receiver.taken) == 1, what="the first delivery")
    await system.post("/v1/subscriptions/hook/pause", {"reason": "r"})
    await system.inner.submit(5)
    await subscribe(system, receiver, "other", url=f"{receiver.url}/other")
    await system.inner.submit(queue="marker")
    await until(lambda: any(one.path == "/hook/other" for one in receiver.taken), what="the other's delivery")
    assert sum(one.path == "/hook" for one in receiver.taken) == 1
    await system.post("/v1/subscriptions/hook/resume")
    await until(lambda: sum(one.path == "/hook" for one in receiver.taken) == 7, what="the rest")


async def test_only_what_is_wanted_is_delivered(system: EventSystem, receiver: Receiver):
    await system.leader()
    match = {"type": ["AttemptFailed", "JobSubmitted"], "tags": {"team": ["a", {"prefix": "b"}]}, "queue": "mail"}
    await subscribe(system, receiver, match=match)
    await system.inner.submit(queue="mail")
    await system.inner.submit(queue="other", tags={"team": "a"})
    (wanted,) = await system.inner.submit(queue="mail", tags={"team": "bees"})
    await system.inner.command(wanted, c.StartAttempt(executor="e"))
    error = AttemptError(type="ValueError", message="no")
    await system.inner.command(wanted, c.FailAttempt(attempt=1, executor="e", error=error))
    await until(lambda: len(receiver.taken) == 2, what="two deliveries")
    assert [one.event["type"] for one in receiver.taken] == ["rota.JobSubmitted", "rota.AttemptFailed"]
    last = await system.log.last_position()
    await until(lambda: _is(system, lag=0), what="the end of the log")
    assert len(receiver.requests) == 2
    assert last > Position(5)


async def test_binary_mode_puts_the_attributes_into_headers(system: EventSystem, receiver: Receiver):
    await system.leader()
    await subscribe(system, receiver, mode="binary")
    (job_id,) = await system.inner.submit()
    await until(lambda: receiver.taken, what="a delivery")
    (one,) = receiver.taken
    assert (one.headers["ce-type"], one.headers["ce-subject"]) == ("rota.JobSubmitted", str(job_id))
    assert (one.headers["ce-source"], one.headers["content-type"]) == ("/rota", "application/json")
    assert one.event["stream_id"] == str(job_id)


async def test_addresses_that_must_not_be_asked_are_not(system: EventSystem, receiver: Receiver):
    await system.leader(refuse_private=True)
    await subscribe(system, receiver, retry={**FAST, "max_attempts": 1})
    await system.inner.submit()
    await until(lambda: _is(system, dead=1), what="the dead letter")
    (dead,) = (await system.get("/v1/subscriptions/hook/dead"))["items"]
    assert dead["error"] == "127.0.0.1 is not a public address"
    assert receiver.requests == []


async def test_wrong_subscriptions_are_refused_with_the_field(system: EventSystem):
    await system.leader()
    good = {"name": "n", "url": "https://example.org/hook", "match": {"type": "JobDead"}}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": "a b"}, "name"),
        ({"url": "ftp://example.org"}, "url"),
        ({"url": "https://user:pass@example.org"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": "http://[::ffff:169.254.169.254]/"}, "url"),
        ({"url": "http://2852039166/"}, "url"),
        ({"url": "http://[fd00:ec2::23]/"}, "url"),
        ({"url": "http://metadata.google.internal/"}, "url"),
        ({"url": "http://example.org:99999/"}, "url"),
        ({"url": "http://[::1/"}, "url"),
        ({"url": "http://:80/"}, "url"),
        ({"match": {}}, "match"),
        ({"match": {"source": "x"}}, "match.source"),
        ({"mode": "batched"}, "mode"),
        ({"retry": {"max_attempts": 0}}, "retry.max_attempts"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "1"}, "timeout"),
        ({"secret": "whsec_short"}, "secret"),
        ({"after": -1}, "after"),
        ({"colour": "red"}, "colour"),
    ]
    for change, field in wrong:
        answer = await system.client.post("/v1/subscriptions", json={**good, **change})
        assert 400 <= answer.status_code < 500, (change, answer.text)
        assert answer.json()["field"] == field


async def _is(system: EventSystem, **wanted: int) -> bool:
    found = await system.get("/v1/subscriptions/hook")
    return all(found[name] == value for name, value in wanted.items())


async def _some_pending(system: EventSystem) -> bool:
    return bool((await system.get("/v1/subscriptions/hook"))["pending"] > 0)
