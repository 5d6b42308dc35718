"""Submitting one job: what is answered, what is in the log, and what a repeated request gets."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import httpx

from rota_server.adapters.group_commit import GroupCommit
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Position
from rota_server.domain.jobs.events import JobSubmitted
from tests.integration.store.conftest import Stores, Submit

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_job_reads_as_the_contract_has_it(client: httpx.AsyncClient):
    asked = {
        "task": "http.request",
        "args": {"method": "POST", "url": "https://example.org/hook", "json": {"a": 1}},
        "queue": "mail",
        "priority": "high",
        "run_at": "2037-01-01T09:00:00+01:00",
        "delay": 0,
        "timeout": 60,
        "expires_at": None,
        "tags": {"team": "billing"},
        "retry": {
            "max_attempts": 7,
            "backoff": "linear",
            "initial": 1.5,
            "factor": 2,
            "maximum": 3600,
            "jitter": 0,
        },
    }
    answer = await client.post("/v1/jobs", json=asked)
    assert answer.status_code == 201
    job = answer.json()
    assert {name: job[name] for name in asked if name not in ("delay", "run_at")} == {
        name: value for name, value in asked.items() if name not in ("delay", "run_at")
    }
    assert datetime.fromisoformat(job["run_at"]) == datetime.fromisoformat("2037-01-01T09:00:00+01:00")
    assert job["state"] == "scheduled"
    assert (job["attempt"], job["version"], job["position"]) == (0, 1, 1)
    for name in ("dispatched_at", "started_at", "finished_at", "result", "error", "executor", "trace_id"):
        assert job[name] is None
    assert datetime.fromisoformat(job["submitted_at"]).utcoffset() == timedelta(0)
    assert answer.headers["rota-position"] == "1"
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert UUID(job["id"]).version == 7


async def test_a_job_says_how_often_it_may_be_lost_and_whether_it_may_be_handed_back(client: httpx.AsyncClient):
    asked = {"task": "noop", "retry": {"max_attempts": 1, "max_losses": 0}, "idempotent": True}
    job = (await client.post("/v1/jobs", json=asked)).json()
    assert (job["retry"]["max_losses"], job["idempotent"], job["losses"]) == (0, True, 0)


async def test_the_answer_is_what_the_log_has(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    job = await submit(args={"a": [1, "ü", None, 1.5]})
    (event,) = await stores.parts.log.read(Position(0), 10)
    assert isinstance(event.event, JobSubmitted)
    assert (str(event.stream_id), event.version, event.position) == (job["id"], 1, 1)
    assert event.event.spec.args == {"a": [1, "ü", None, 1.5]}
    assert (await client.get(f"/v1/jobs/{job['id']}")).json() == job


async def test_an_immediate_job_is_queued_and_dispatched_at_once(submit: Submit):
    job = await submit()
    assert job["state"] == "queued"
    assert job["dispatched_at"] == job["submitted_at"]


async def test_a_delay_counts_from_the_submission(submit: Submit):
    job = await submit(delay=90)
    waits = datetime.fromisoformat(job["run_at"]) - datetime.fromisoformat(job["submitted_at"])
    assert abs(waits.total_seconds() - 90) < 5
    assert job["state"] == "scheduled"


async def test_the_actor_request_and_trace_are_kept_in_the_meta(client: httpx.AsyncClient, submit: Submit):
    headers = {
        "Rota-Actor": "alice",
        "X-Request-Id": "r-1",
        "traceparent": TRACE,
        "Rota-Correlation-Id": "order-7",
    }
    job = await submit(headers=headers)
    (event,) = (await client.get(f"/v1/jobs/{job['id']}/events")).json()["items"]
    unit = event["meta"].pop("unit")
    assert UUID(unit).version == 7
    assert event["meta"] == {
        "actor": "http:alice",
        "request_id": "r-1",
        "traceparent": TRACE,
        "correlation_id": "order-7",
    }
    assert job["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_every_answer_has_a_request_id(client: httpx.AsyncClient):
    given = await client.get("/healthz", headers={"X-Request-Id": "mine"})
    made = await client.get("/nothing", headers={"X-Request-Id": "not valid"})
    assert given.headers["x-request-id"] == "mine"
    assert len(made.headers["x-request-id"]) == 16


async def test_an_unusable_traceparent_is_ignored(submit: Submit):
    assert (await submit(headers={"traceparent": "00-nonsense"}))["trace_id"] is None


async def test_a_repeated_key_gets_the_first_job(client: httpx.AsyncClient):
    body = {"task": "noop", "args": {"a": 1, "b": 2}, "delay": 5}
    first = await client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k 1"})
    reordered = {"delay": 5, "args": {"b": 2, "a": 1}, "task": "noop"}
    again = await client.post("/v1/jobs", json=reordered, headers={"Idempotency-Key": "k 1"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.json()["idempotency_key"] == "k 1"
    assert again.headers["rota-position"] == first.headers["rota-position"]


async def test_a_key_used_for_another_request_is_a_conflict(client: httpx.AsyncClient, stores: Stores):
    await client.post("/v1/jobs", json={"task": "noop"}, headers={"Idempotency-Key": "k"})
    other = await client.post("/v1/jobs", json={"task": "noop", "args": {"x": 1}}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409
    assert other.json()["field"] == "Idempotency-Key"
    assert await stores.parts.log.last_position() == 1


async def test_twenty_at_once_with_one_key_make_one_job_in_two_stores(stores: Stores):
    two = [await stores.client(), await stores.client(change={"commit": GroupCommit(stores.parts.log)})]
    headers = {"Idempotency-Key": "the same"}
    answers = await asyncio.gather(
        *(two[n % 2].post("/v1/jobs", json={"task": "noop"}, headers=headers) for n in range(20))
    )
    assert sorted(a.status_code for a in answers) == [200] * 19 + [201]
    assert len({a.json()["id"] for a in answers}) == 1
    assert await stores.parts.log.last_position() == 1


async def test_a_task_announced_a_moment_ago_is_accepted(client: httpx.AsyncClient, stores: Stores):
    refused = await client.post("/v1/jobs", json={"task": "new.task"})
    assert (refused.status_code, refused.json()["field"]) == (422, "task")
    await PostgresTaskCatalog(stores.database).announce({"new.task": {}})
    accepted = await client.post("/v1/jobs", json={"task": "new.task"})
    assert accepted.status_code == 201


async def test_any_task_is_accepted_when_the_settings_say_so(stores: Stores):
    client = await stores.client(change={"catalog": None})
    assert (await client.post("/v1/jobs", json={"task": "whatever"})).status_code == 201


async def test_what_a_task_was_declared_with_applies_where_the_job_is_silent(client: httpx.AsyncClient, stores: Stores):
    options = {"queue": "mail", "timeout": 30, "priority": "low", "retry": {"max_attempts": 2, "initial": 9}}
    await PostgresTaskCatalog(stores.database).announce({"declared": options})
    silent = (await client.post("/v1/jobs", json={"task": "declared"})).json()
    explicit = {"task": "declared", "queue": "other", "timeout": 5, "retry": {"max_attempts": 4}}
    loud = (await client.post("/v1/jobs", json=explicit)).json()
    assert (silent["queue"], silent["timeout"], silent["priority"]) == ("mail", 30, "low")
    assert (silent["retry"]["max_attempts"], silent["retry"]["initial"]) == (2, 9)
    assert (loud["queue"], loud["timeout"], loud["priority"]) == ("other", 5, "low")
    assert (loud["retry"]["max_attempts"], loud["retry"]["initial"]) == (4, 9)


async def test_a_job_may_say_otherwise_whether_its_task_may_be_repeated(client: httpx.AsyncClient, stores: Stores):
    await PostgresTaskCatalog(stores.database).announce({"declared": {"idempotent": True}})
    said = [{}, {"idempotent": False}, {"idempotent": True}]
    jobs = [(await client.post("/v1/jobs", json={"task": "declared", **one})).json() for one in said]
    assert [job["idempotent"] for job in jobs] == [True, False, True]
    refused = await client.post("/v1/jobs", json={"task": "declared", "idempotent": "yes"})
    assert (refused.status_code, refused.json()["field"]) == (422, "idempotent")


async def test_while_postgresql_is_away_a_submission_is_told_so_in_bounded_time(stores: Stores):
    gone = Database("postgresql://rota:x@127.0.0.1:1/rota")
    log = PostgresEventLog(gone)
    change = {"log": log, "commit": GroupCommit(log, give_up_seconds=0.5), "catalog": None}
    client = await stores.client(change=change)
    began = asyncio.get_running_loop().time()
    answer = await client.post("/v1/jobs", json={"task": "noop"})
    assert asyncio.get_running_loop().time() - began < 5
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "unknown" in answer.json()["detail"]
    assert "rota-position" not in answer.headers
    await log.close()
    await gone.close()


class _RefusingLog:
    """A log whose append fails after it has been asked."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def append(self, *_: object, **__: object) -> None:
        raise self._error


async def test_an_append_that_fails_never_answers_success(stores: Stores):
    for error, status in ((Unavailable("no", server="postgres"), 503), (ValueError("a surprise"), 500)):
        commit = GroupCommit(_RefusingLog(error), give_up_seconds=0.1)  # type: ignore[arg-type]
        client = await stores.client(change={"commit": commit})
        for path, body in (("/v1/jobs", {"task": "noop"}), ("/v1/jobs/bulk", [{"task": "noop"}])):
            answer = await client.post(path, json=body)
            assert answer.status_code == status
            assert "surprise" not in answer.text
            assert "Traceback" not in answer.text
    assert await stores.parts.log.last_position() == 0


async def test_an_internal_error_gives_a_request_id_to_look_up(stores: Stores, caplog):
    async def broken() -> str:
        raise ValueError("secret detail")

    client = await stores.client(change={"ready": broken})
    answer = await client.get("/readyz", headers={"X-Request-Id": "find-me"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "find-me" in answer.json()["detail"]
    assert "secret detail" not in answer.text
    assert "find-me" in caplog.text


async def test_ids_differ_without_a_key(client: httpx.AsyncClient):
    answers = await asyncio.gather(*(client.post("/v1/jobs", json={"task": "noop"}) for _ in range(50)))
    assert len({a.json()["id"] for a in answers}) == 50
    assert sorted(int(a.headers["rota-position"]) for a in answers) == list(range(1, 51))


async def test_a_job_that_does_not_exist_is_not_found(client: httpx.AsyncClient):
    for job_id in (str(uuid4()), "nonsense", "%00"):
        answer = await client.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 404
        assert answer.json()["field"] == "id"
