"""Triggers over HTTP: what is refused and where it is wrong, what may be repeated, what lists show."""

from __future__ import annotations

from typing import Any

import httpx

from tests.integration.store.conftest import Stores

GOOD: dict[str, Any] = {"name": "paid", "match": {"type": "order.paid"}, "job": {"task": "noop"}}


async def test_wrong_triggers_are_refused_with_the_field(client: httpx.AsyncClient, stores: Stores):
    url = {"task": "http.request", "args": {"url": "${data.url}", "method": "FETCH"}}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": "a b"}, "name"),
        ({"match": None}, "match"),
        ({"match": {}}, "match"),
        ({"match": {"data": {"n": [{"numeric": ["~", 1]}]}}}, "match.data.n.0.numeric.0"),
        ({"match": {"type": "x" * 40_000}}, "match"),
        ({"job": None}, "job"),
        ({"job": []}, "job"),
        ({"job": {}}, "job.task"),
        ({"job": {"task": "nobody.has.it"}}, "job.task"),
        ({"job": {"task": "noop", "args": {"a": {"$event": "Data"}}}}, "job.args.a"),
        ({"job": {"task": "noop", "args": {"a": {"$event": "data", "other": 1}}}}, "job.args.a"),
        ({"job": {"task": "noop", "args": "${data}"}}, "job.args"),
        ({"job": {"task": "noop", "tags": {"a": 5}}}, "job.tags.a"),
        ({"job": {"task": "noop", "tags": {"${type}!": "x"}}}, "job.tags.${type}!"),
        ({"job": {"task": "noop", "queue": "${data.queue}"}}, "job.queue"),
        ({"job": {"task": "noop", "delay": -1}}, "job.delay"),
        ({"job": {"task": "noop", "run_at": "2027-01-01T00:00:00Z"}}, "job.run_at"),
        ({"job": {"task": "noop", "run_at": {"$event": "time"}, "delay": 5}}, "job.delay"),
        ({"job": {"task": "noop", "after": []}}, "job.after"),
        ({"job": {"task": "noop", "idempotency_key": "k"}}, "job.idempotency_key"),
        ({"job": {"task": "noop", "unique": {"key": "k"}}}, "job.unique"),
        ({"job": url}, "job.args.method"),
        ({"job": {"task": "http.request", "args": {"method": "${data.method}"}}}, "job.args.url"),
        ({"job": {"task": "http.request", "args": {"url": "ftp://x"}}}, "job.args.url"),
        ({"description": 5}, "description"),
        ({"colour": "red"}, "colour"),
    ]
    for change, field in wrong:
        answer = await client.post("/v1/triggers", json={**GOOD, **change})
        assert 400 <= answer.status_code < 500, (change, answer.text)
        assert answer.json().get("field") == field, (change, answer.text)
    assert await stores.parts.log.last_position() == 0


async def test_templates_that_depend_on_the_event_are_accepted(client: httpx.AsyncClient):
    jobs: list[dict[str, Any]] = [
        {"task": "http.request", "args": {"url": {"$event": "data.url"}, "headers": {"x-user": "${data.user}"}}},
        {"task": "http.request", "args": {"url": "https://example.org/${id}", "json": {"$literal": {"$event": "x"}}}},
        {"task": "email.send", "args": {"to": {"$event": "data.to"}, "subject": "${type}", "text": "hello"}},
        {"task": "noop", "key": "user-${data.user}", "delay": {"$event": "data.in", "default": 0}},
        {"task": "noop", "run_at": {"$event": "data.at"}, "expires_at": {"$event": "data.until"}},
        {"task": "noop", "delay": 5, "priority": "high", "retry": {"max_attempts": 2}},
    ]
    for number, job in enumerate(jobs):
        answer = await client.post("/v1/triggers", json={**GOOD, "name": f"t{number}", "job": job})
        assert answer.status_code == 201, answer.text
        assert answer.json()["job"] == job


async def test_a_creation_may_be_repeated_and_a_name_is_taken_for_good(client: httpx.AsyncClient):
    first = await client.post("/v1/triggers", json=GOOD)
    again = await client.post("/v1/triggers", json=GOOD)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert first.headers["rota-position"] == "1"
    other = await client.post("/v1/triggers", json={**GOOD, "match": {"type": "other"}})
    assert (other.status_code, other.json()["code"]) == (409, "name-taken")
    assert (await client.post("/v1/triggers/paid/archive")).status_code == 200
    assert (await client.post("/v1/triggers", json=GOOD)).status_code == 409


async def test_a_trigger_is_changed_paused_resumed_and_archived_with_reasons(client: httpx.AsyncClient):
    made = (await client.post("/v1/triggers", json=GOOD)).json()
    changed = await client.patch("/v1/triggers/paid", json={"description": "new", "reason": "why"})
    assert (changed.json()["description"], changed.json()["version"]) == ("new", 2)
    same = await client.patch(f"/v1/triggers/{made['id']}", json={"description": "new"})
    assert same.json()["version"] == 2
    for action, state in (("pause", "paused"), ("pause", "paused"), ("resume", "active"), ("archive", "archived")):
        assert (await client.post(f"/v1/triggers/paid/{action}", json={"reason": "r"})).json()["state"] == state
    assert (await client.post("/v1/triggers/paid/resume")).json()["code"] == "archived"
    assert (await client.patch("/v1/triggers/paid", json={"description": "x"})).status_code == 409
    assert (await client.get("/v1/triggers/nobody")).status_code == 404
    events = (await client.get("/v1/events", params={"stream": made["id"]})).json()["items"]
    assert [event["type"] for event in events] == [
        "TriggerCreated",
        "TriggerChanged",
        "TriggerPaused",
        "TriggerResumed",
        "TriggerArchived",
    ]
    assert events[1]["data"]["reason"] == "why"
    assert events[1]["meta"]["actor"].startswith("http:")


async def test_triggers_are_listed_by_state_and_in_pages(client: httpx.AsyncClient):
    for number in range(5):
        await client.post("/v1/triggers", json={**GOOD, "name": f"t{number}"})
    await client.post("/v1/triggers/t2/pause")
    first = (await client.get("/v1/triggers", params={"limit": 3})).json()
    assert [one["name"] for one in first["items"]] == ["t4", "t3", "t2"]
    rest = (await client.get("/v1/triggers", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [one["name"] for one in rest["items"]] == ["t1", "t0"]
    assert rest["next_cursor"] is None
    paused = (await client.get("/v1/triggers", params={"state": "paused"})).json()["items"]
    assert [one["name"] for one in paused] == ["t2"]
    assert (await client.get("/v1/triggers", params={"state": "dead"})).json()["field"] == "state"
