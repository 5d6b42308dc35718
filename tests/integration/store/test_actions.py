"""Cancel, retry, reschedule: one job by its id, or all that match a filter."""

from __future__ import annotations

import asyncio

import httpx

from rota_server.domain.jobs import commands as c
from tests.integration.store.conftest import Stores, Submit
from tests.integration.store.test_reading import FAIL, START, SUCCEED, advance


async def test_a_waiting_job_is_cancelled_at_once_with_reason_and_actor(client: httpx.AsyncClient, submit: Submit):
    job = await submit(delay=100)
    answer = await client.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "wrong"}, headers={"Rota-Actor": "bob"})
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["reason"], answer.json()["version"]) == ("cancelled", "wrong", 2)
    assert answer.headers["rota-position"] == "2"
    last = (await client.get(f"/v1/jobs/{job['id']}/events")).json()["items"][-1]
    assert (last["type"], last["meta"]["actor"]) == ("JobCancelled", "http:bob")


async def test_cancelling_twice_changes_nothing_more(client: httpx.AsyncClient, submit: Submit):
    job = await submit()
    first = await client.post(f"/v1/jobs/{job['id']}/cancel")
    again = await client.post(f"/v1/jobs/{job['id']}/cancel")
    assert again.status_code == 200
    assert again.json() == first.json()


async def test_a_running_job_gets_a_request(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    job = await submit()
    await advance(stores, job["id"], START)
    answer = (await client.post(f"/v1/jobs/{job['id']}/cancel")).json()
    assert (answer["state"], answer["cancel_requested"]) == ("running", True)


async def test_an_ended_job_can_not_be_cancelled(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    job = await submit()
    await advance(stores, job["id"], START, SUCCEED)
    answer = await client.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.status_code == 409
    assert "succeeded" in answer.json()["detail"]


async def test_a_failed_job_is_retried_and_a_queued_one_is_not(
    client: httpx.AsyncClient, stores: Stores, submit: Submit
):
    job = await submit()
    assert (await client.post(f"/v1/jobs/{job['id']}/retry")).status_code == 409
    await advance(stores, job["id"], START, FAIL)
    answer = await client.post(f"/v1/jobs/{job['id']}/retry", json={"reason": "fixed"})
    assert (answer.json()["state"], answer.json()["reason"]) == ("queued", "fixed")


async def test_a_job_gets_another_time(client: httpx.AsyncClient, submit: Submit):
    job = await submit()
    answer = await client.post(f"/v1/jobs/{job['id']}/reschedule", json={"run_at": "2037-01-01T09:00:00Z"})
    assert answer.json()["state"] == "scheduled"
    assert answer.json()["run_at"].startswith("2037-01-01T09:00:00")


WRONG_OPTIONS = [
    ("cancel", {"reason": 5}, "reason"),
    ("cancel", {"reason": "x" * 1001}, "reason"),
    ("cancel", {"why": "x"}, "why"),
    ("cancel", {"reason": "a\x00"}, "reason"),
    ("reschedule", {}, "run_at"),
    ("reschedule", {"run_at": "2037-01-01T09:00:00"}, "run_at"),
    ("reschedule", {"run_at": 5}, "run_at"),
]


async def test_wrong_options_of_an_action_are_named(client: httpx.AsyncClient, submit: Submit):
    job = await submit()
    for path, body, field in WRONG_OPTIONS:
        answer = await client.post(f"/v1/jobs/{job['id']}/{path}", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert (await client.get("/v1/jobs")).json()["position"] == 1


WRONG_ACTIONS = [
    ({}, "action"),
    ({"action": "delete", "filter": {"state": "queued"}}, "action"),
    ({"action": ["cancel"], "filter": {"state": "queued"}}, "action"),
    ({"action": "cancel"}, "filter"),
    ({"action": "cancel", "filter": {}}, "filter"),
    ({"action": "cancel", "filter": []}, "filter"),
    ({"action": "cancel", "filter": {"limit": "5"}}, "filter.limit"),
    ({"action": "cancel", "filter": {"sate": "queued"}}, "filter.sate"),
    ({"action": "cancel", "filter": {"state": ["queued"]}}, "filter.state"),
    ({"action": "cancel", "filter": {"state": "asleep"}}, "filter.state"),
    ({"action": "cancel", "filter": {"tag": {"a": "b"}}}, "filter.tag"),
    ({"action": "cancel", "filter": {"tag": [5]}}, "filter.tag"),
    ({"action": "cancel", "filter": {"queue": 5}}, "filter.queue"),
    ({"action": "cancel", "filter": {"queue": "a"}, "dry_run": 1}, "dry_run"),
    ({"action": "cancel", "filter": {"queue": "a"}, "run_at": "2037-01-01T00:00:00Z"}, "run_at"),
    ({"action": "reschedule", "filter": {"queue": "a"}}, "run_at"),
]


async def test_an_action_that_is_not_understood_touches_no_job(client: httpx.AsyncClient, submit: Submit):
    await submit()
    for body, field in WRONG_ACTIONS:
        answer = await client.post("/v1/jobs/actions", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field), body
    assert (await client.get("/v1/jobs")).json()["position"] == 1


async def test_an_action_on_many_hits_those_that_match(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    many = [{"task": "noop", "queue": "mail", "tags": {"n": str(n % 2)}} for n in range(450)]
    await client.post("/v1/jobs/bulk", json=many)
    other = await submit()
    wanted = {"action": "cancel", "filter": {"queue": "mail", "tag": "n:1"}, "reason": "stop"}
    counted = (await client.post("/v1/jobs/actions", json={**wanted, "dry_run": True})).json()
    assert (counted["matched"], counted["done"], counted["dry_run"]) == (225, 0, True)
    assert await stores.parts.log.last_position() == 451
    answer = await client.post("/v1/jobs/actions", json=wanted)
    assert answer.json() == {"dry_run": False, "matched": 225, "done": 225, "refused": 0, "complete": True}
    assert answer.headers["rota-position"] == str(451 + 225)
    states = (await client.get("/v1/jobs?state=cancelled&limit=500")).json()["items"]
    assert len(states) == 225
    assert {job["reason"] for job in states} == {"stop"}
    assert (await client.get(f"/v1/jobs/{other['id']}")).json()["state"] == "queued"


async def test_an_action_counts_whom_the_rules_refuse(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    done, waiting = await submit(), await submit()
    await advance(stores, done["id"], START, SUCCEED)
    answer = (await client.post("/v1/jobs/actions", json={"action": "cancel", "filter": {"task": "noop"}})).json()
    assert (answer["matched"], answer["done"], answer["refused"]) == (2, 1, 1)
    assert (await client.get(f"/v1/jobs/{waiting['id']}")).json()["state"] == "cancelled"


async def test_a_filter_by_a_schedule_hits_nothing_else(client: httpx.AsyncClient, submit: Submit):
    await submit()
    body = {"action": "cancel", "filter": {"schedule": "nightly"}}
    assert (await client.post("/v1/jobs/actions", json=body)).json()["matched"] == 0
    assert (await client.get("/v1/jobs?state=queued")).json()["items"]


async def test_who_changes_one_job_at_once_meets_no_conflict(client: httpx.AsyncClient, submit: Submit):
    job = await submit()
    paths = ["reschedule"] * 8 + ["cancel"] * 4
    bodies = {"reschedule": {"run_at": "2037-01-01T00:00:00Z"}, "cancel": {}}
    answers = await asyncio.gather(*(client.post(f"/v1/jobs/{job['id']}/{path}", json=bodies[path]) for path in paths))
    assert {a.status_code for a in answers} <= {200, 409}
    assert all(a.status_code == 200 for a, path in zip(answers, paths, strict=True) if path == "cancel")
    history = (await client.get(f"/v1/jobs/{job['id']}/events")).json()["items"]
    assert [e["version"] for e in history] == list(range(1, len(history) + 1))
    assert [e["type"] for e in history].count("JobCancelled") == 1


async def test_a_lost_attempt_keeps_the_cancellation(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    job = await submit()
    await advance(stores, job["id"], START)
    await client.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "enough"})
    await advance(stores, job["id"], c.LoseAttempt(attempt=1, reason="gone"))
    assert (await client.get(f"/v1/jobs/{job['id']}")).json()["state"] == "cancelled"
