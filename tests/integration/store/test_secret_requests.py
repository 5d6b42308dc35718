"""Secrets by reference over HTTP: what is taken, what is refused, and what is warned of."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

NAMED = {"$secret": "billing-token", "prefix": "Bearer "}
REQUEST: dict[str, Any] = {"task": "http.request", "args": {"url": "https://example.org/", "headers": {"A": NAMED}}}
PLAIN: dict[str, Any] = {"task": "noop", "args": {"headers": {"Authorization": "Bearer abcdefgh"}}}


async def test_a_job_keeps_the_reference_also_where_a_built_in_task_wants_a_text(client: httpx.AsyncClient):
    answer = await client.post("/v1/jobs", json=REQUEST)
    assert (answer.status_code, answer.json()["args"]) == (201, REQUEST["args"])
    assert "rota-warning" not in answer.headers
    url = {"$secret": "hook", "prefix": "https://example.org/"}
    for job in (
        {"task": "http.request", "args": {"url": url}},
        {"task": "shell.run", "args": {"command": ["x"], "env": {"T": NAMED}, "stdin": NAMED}},
        {"task": "email.send", "args": {"to": "a@example.org", "subject": "s", "text": {"$secret": "a"}}},
        {"task": "noop", "args": {"a": [NAMED]}},
    ):
        assert (await client.post("/v1/jobs", json=job)).status_code == 201


async def test_references_that_can_never_be_resolved_are_refused_with_the_field(client: httpx.AsyncClient):
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"task": "noop", "args": {"a": {"$secret": "../x"}}}, "args.a.$secret"),
        ({"task": "noop", "args": {"a": {"$secret": "x", "prefx": "y"}}}, "args.a"),
        ({"task": "noop", "args": {"$secret": "x"}}, "args"),
        ({"task": "event.publish", "args": {"type": "t", "source": "/s", "data": NAMED}}, "args"),
        (
            {"task": "http.request", "args": {"url": "https://a/", "method": "FETCH", "headers": {"A": NAMED}}},
            "args.method",
        ),
    ]
    for job, field in wrong:
        answer = await client.post("/v1/jobs", json=job)
        assert (answer.status_code, answer.json()["field"]) == (422, field), job


async def test_a_trigger_names_secrets_and_its_events_do_not(client: httpx.AsyncClient):
    trigger = {"name": "paid", "match": {"type": "order.paid"}, "job": REQUEST}
    assert (await client.post("/v1/triggers", json=trigger)).status_code == 201
    args = {"url": "https://example.org/", "headers": {"A": NAMED}, "json": {"$event": "data"}}
    trigger = {**trigger, "name": "templated", "job": {"task": "http.request", "args": args}}
    assert (await client.post("/v1/triggers", json=trigger)).status_code == 201
    for name in ({"$event": "data.secret"}, "${data.secret}"):
        args = {"url": "https://example.org/", "json": {"$secret": name}}
        refused = await client.post("/v1/triggers", json={**trigger, "job": {"task": "http.request", "args": args}})
        assert (refused.status_code, refused.json()["field"]) == (422, "job.args.json.$secret")


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/v1/jobs", PLAIN, "args.headers.Authorization"),
        ("/v1/jobs/bulk", [{"task": "noop"}, PLAIN], "1.args.headers.Authorization"),
        ("/v1/schedules", {"name": "n", "every": 3600, "job": PLAIN}, "job.args.headers.Authorization"),
        ("/v1/workflows", {"name": "w", "jobs": {"a": PLAIN}}, "jobs.a.args.headers.Authorization"),
        ("/v1/triggers", {"name": "t", "match": {"type": "t"}, "job": PLAIN}, "job.args.headers.Authorization"),
    ],
)
async def test_what_looks_like_a_secret_is_accepted_with_a_warning(
    client: httpx.AsyncClient, path: str, body: Any, place: str
):
    answer = await client.post(path, json=body)
    assert answer.status_code < 300, answer.text
    assert f": {place};" in answer.headers["rota-warning"]
    assert "abcdefgh" not in answer.headers["rota-warning"]
