"""What may be left out or said otherwise in requests, and refusals in words that a user can do something with."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

JOB = {"task": "noop"}
TRIGGER = {"match": {"type": "paid", "source": "/shop", "data": {"amount": 5}}, "job": JOB}


async def test_a_trigger_needs_no_name_and_its_request_can_be_repeated(client: httpx.AsyncClient) -> None:
    first = await client.post("/v1/triggers", json=TRIGGER)
    again = await client.post("/v1/triggers", json=TRIGGER)
    other = await client.post("/v1/triggers", json={**TRIGGER, "match": {"type": "sent"}})
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert first.json()["id"] == again.json()["id"] != other.json()["id"]
    assert (await client.get(f"/v1/triggers/{first.json()['name']}")).json()["id"] == first.json()["id"]


@pytest.mark.parametrize("kind", ["triggers", "subscriptions"])
async def test_a_name_that_could_be_an_id_is_refused(client: httpx.AsyncClient, kind: str) -> None:
    body = {"triggers": TRIGGER, "subscriptions": {"url": "https://example.org/", "match": {"type": "JobDead"}}}[kind]
    answer = await client.post(f"/v1/{kind}", json={**body, "name": str(uuid4())})
    assert (answer.status_code, answer.json()["field"]) == (422, "name")


@pytest.mark.parametrize(
    ("words", "kept"), [("return existing", "return"), ("keep latest", "keep_latest"), ("Keep-Latest", "keep_latest")]
)
async def test_the_policies_of_unique_jobs_may_be_written_in_words(
    client: httpx.AsyncClient, words: str, kept: str
) -> None:
    answer = await client.post("/v1/jobs", json={**JOB, "unique": {"key": "words", "on_conflict": words}})
    assert (answer.status_code, answer.json()["unique"]["on_conflict"]) == (201, kept)


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "words"),
    [
        ("POST", "/v1/jobs", {**JOB, "retry": 5}, "retry", "must be a JSON object"),
        ("POST", "/v1/jobs", {**JOB, "tags": [1]}, "tags", "must be a JSON object"),
        ("POST", "/v1/jobs", {**JOB, "unique": "k"}, "unique", "must be a JSON object"),
        ("POST", "/v1/jobs", {**JOB, "after": [5]}, "after.0", "must be a JSON object"),
        ("POST", "/v1/jobs", {**JOB, "queue": "a b"}, "queue", "must have 1 to 100 letters"),
        ("POST", "/v1/jobs", {**JOB, "key": ""}, "key", "must have 1 to 200 printable characters"),
        ("POST", "/v1/jobs", {**JOB, "tags": {"a b": "c"}}, "tags.a b", "must have 1 to 64 letters"),
        ("POST", "/v1/jobs", {"task": "no spaces"}, "task", "must begin with a letter"),
        ("PATCH", "/v1/queues/default", {"rate": "100/m"}, "rate", "must be a JSON object"),
        ("POST", "/v1/schedules", {"name": "a b", "every": 60, "job": JOB}, "name", "must have 1 to 100 letters"),
    ],
)
async def test_refusals_speak_of_json_and_not_of_classes_and_expressions(
    client: httpx.AsyncClient, method: str, path: str, body: Any, field: str, words: str
) -> None:
    answer = await client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.json()["detail"].startswith(f"{field}: {words}")
