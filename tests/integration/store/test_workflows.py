"""Submitting, reading, cancelling and retrying workflows and batches: what the store does itself."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from rota_server.domain.workflows.workflow import EDGES_LIMIT, fold_workflow, head_of_workflow, member_id
from tests.integration.store.conftest import Stores

JOB = {"task": "noop"}


async def submit(client: httpx.AsyncClient, kind: str, value: Any, **headers: str) -> dict[str, Any]:
    answer = await client.post(f"/v1/{kind}", json=value, headers=headers)
    assert answer.status_code == 201, answer.text
    result: dict[str, Any] = answer.json()
    return result


def behind(*names: Any, **job: Any) -> dict[str, Any]:
    return {**JOB, "after": list(names), **job}


async def test_a_workflow_is_accepted_as_a_whole_and_shows_its_graph(client: httpx.AsyncClient):
    jobs = {"c": behind("a", {"job": "b", "outcome": "ended"}), "a": JOB, "b": behind("a")}
    flow = await submit(client, "workflows", {"name": "nightly", "jobs": jobs})
    assert (flow["state"], flow["total"], flow["counts"]) == ("running", 3, {"queued": 1, "waiting": 2})
    found = (await client.get(f"/v1/workflows/{flow['id']}")).json()
    assert {node: (job["state"], job["after"]) for node, job in found["jobs"].items()} == {
        "a": ("queued", []),
        "b": ("waiting", ["a"]),
        "c": ("waiting", ["a", "b"]),
    }
    job = (await client.get(f"/v1/jobs/{found['jobs']['c']['id']}")).json()
    assert job["id"] == str(member_id(UUID(flow["id"]), "c"))
    assert job["origin"] == {"kind": "workflow", "id": flow["id"], "name": "c"}
    assert [p["name"] for p in job["after"]] == ["a", "b"]


async def test_a_node_may_wait_for_a_job_outside_and_refer_to_results(client: httpx.AsyncClient):
    outside = (await client.post("/v1/jobs", json=JOB)).json()["id"]
    url = {"$result": "a", "path": "url"}
    jobs = {"a": behind(outside), "b": {"task": "http.request", "args": {"url": url}, "after": ["a"]}}
    flow = await submit(client, "workflows", {"name": "w", "jobs": jobs})
    found = (await client.get(f"/v1/workflows/{flow['id']}")).json()
    assert found["jobs"]["a"]["after"] == [outside]


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ([], None, "JSON object"),
        ({"jobs": {"a": JOB}}, "name", "printable"),
        ({"name": "w"}, "jobs", "object of jobs"),
        ({"name": "w", "jobs": {}}, "jobs", "1 to 5000"),
        ({"name": "w", "jobs": {"a": JOB}, "more": 1}, "more", "no such field"),
        ({"name": "w", "jobs": {"a b": JOB}}, "jobs.a b", "a name has"),
        ({"name": "w", "jobs": {"a": 1}}, "jobs.a", "a job is a JSON object"),
        ({"name": "w", "jobs": {"a": behind("x")}}, "jobs.a.after.0", "'x' is no job of this workflow"),
        ({"name": "w", "jobs": {"a": behind("a")}}, "jobs.a.after", "waits for itself"),
        ({"name": "w", "jobs": {"a": behind("b"), "b": behind("c"), "c": behind("a"), "d": JOB}}, None, "circle: "),
        ({"name": "w", "jobs": {"a": {"task": "http.request"}}}, "jobs.a.args.url", "Field required"),
        ({"name": "w", "jobs": {"a": {**JOB, "idempotency_key": "k"}}}, "jobs.a.idempotency_key", "the whole"),
        ({"name": "w", "jobs": {"a": {**JOB, "unique": {"key": "k"}}}}, "jobs.a.unique", "on its own"),
        (
            {"name": "w", "jobs": {"a": JOB, "b": behind("a", args={"x": {"$result": "z"}})}},
            "jobs.b.args.x",
            "not one of the jobs that this one waits for",
        ),
    ],
)
async def test_a_wrong_workflow_is_refused_with_place_and_reason(
    client: httpx.AsyncClient, value: Any, field: str | None, said: str
):
    answer = await client.post("/v1/workflows", json=value)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]
    if field is not None:
        assert answer.json()["field"] == field
    assert (await client.get("/v1/jobs")).json()["items"] == []


async def test_the_circle_is_shown_as_a_path(client: httpx.AsyncClient):
    jobs = {"in": behind("b"), "a": behind("c"), "b": behind("a"), "c": behind("b")}
    problem = (await client.post("/v1/workflows", json={"name": "w", "jobs": jobs})).json()
    assert problem["code"] == "circle"
    assert problem["detail"].endswith("3 jobs wait for each other in a circle: b → a → c → b")


async def test_absurd_counts_are_refused(client: httpx.AsyncClient):
    many = {f"n{number}": JOB for number in range(5001)}
    problem = (await client.post("/v1/workflows", json={"name": "w", "jobs": many})).json()
    assert (problem["field"], problem["status"]) == ("jobs", 422)
    side = 320
    assert side * side > EDGES_LIMIT
    first = {f"a{number}": JOB for number in range(side)}
    second = {f"b{number}": behind(*first) for number in range(side)}
    problem = (await client.post("/v1/workflows", json={"name": "w", "jobs": {**first, **second}})).json()
    assert (problem["code"], problem["status"]) == ("too-large", 413)
    problem = (await client.post("/v1/batches", json={"jobs": [JOB] * 10_001})).json()
    assert (problem["field"], problem["status"]) == ("jobs", 422)


async def test_a_batch_is_accepted_with_the_job_behind_it(client: httpx.AsyncClient):
    then = {"task": "noop", "args": {"totals": {"$result": "batch", "path": "counts"}}}
    batch = await submit(client, "batches", {"jobs": [JOB] * 30, "then": then, "name": "thirty"})
    assert (batch["state"], batch["total"], batch["counts"]) == ("running", 30, {"queued": 30})
    found = (await client.get(f"/v1/batches/{batch['id']}")).json()
    assert found["then"] == {"id": str(member_id(UUID(batch["id"]), "then")), "state": "waiting"}
    job = (await client.get(f"/v1/jobs/{found['then']['id']}")).json()
    assert job["after"] == [{"job": batch["id"], "name": "batch", "outcome": "ended"}]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "jobs"),
        ({"jobs": {}}, "jobs"),
        ({"jobs": []}, "jobs"),
        ({"jobs": [JOB, {"task": "unknown"}]}, "jobs.1.task"),
        ({"jobs": [JOB], "name": ""}, "name"),
        ({"jobs": [JOB], "then": 1}, "then"),
        ({"jobs": [JOB], "then": {"task": "unknown"}}, "then.task"),
        ({"jobs": [JOB], "then": behind()}, "then.after"),
        ({"jobs": [JOB], "then": behind("x")}, "then.after.0"),
    ],
)
async def test_a_wrong_batch_is_refused_with_its_place(client: httpx.AsyncClient, value: Any, field: str):
    answer = await client.post("/v1/batches", json=value)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


@pytest.mark.parametrize(
    ("kind", "value"),
    [("workflows", {"name": "w", "jobs": {"a": JOB, "b": behind("a")}}), ("batches", {"jobs": [JOB, JOB]})],
)
async def test_a_repeated_submission_answers_the_first_one(client: httpx.AsyncClient, kind: str, value: Any):
    posts = [client.post(f"/v1/{kind}", json=value, headers={"Idempotency-Key": "one"}) for _ in range(3)]
    answers = await asyncio.gather(*posts)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len((await client.get("/v1/jobs")).json()["items"]) == 2
    other = await client.post(f"/v1/{kind}", json={**value, "name": "other"}, headers={"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["code"]) == (409, "key-reused")


async def test_lists_are_filtered_by_name_and_state(client: httpx.AsyncClient):
    ids = [(await submit(client, "workflows", {"name": name, "jobs": {"a": JOB}}))["id"] for name in ("x", "y", "x")]
    found = (await client.get("/v1/workflows", params={"name": "x"})).json()["items"]
    assert [flow["id"] for flow in found] == [ids[2], ids[0]]
    assert (await client.get("/v1/workflows", params={"state": "failed"})).json()["items"] == []
    assert (await client.get("/v1/workflows", params={"state": "odd"})).status_code == 422
    assert (await client.get("/v1/workflows", params={"odd": "1"})).status_code == 422
    page = (await client.get("/v1/workflows", params={"limit": 2})).json()
    rest = (await client.get("/v1/workflows", params={"cursor": page["next_cursor"]})).json()
    assert [flow["id"] for flow in page["items"] + rest["items"]] == ids[::-1]


async def test_the_jobs_of_a_batch_are_listed_by_their_origin(client: httpx.AsyncClient):
    batch = await submit(client, "batches", {"jobs": [JOB] * 3, "then": JOB})
    await submit(client, "batches", {"jobs": [JOB]})
    found = (await client.get("/v1/jobs", params={"origin": batch["id"]})).json()["items"]
    assert {job["origin"]["name"] for job in found} == {"0", "1", "2"}
    for wrong in ({"origin": "x"}, {"origin": batch["id"], "schedule": "s"}):
        answer = await client.get("/v1/jobs", params=wrong)
        assert (answer.status_code, answer.json()["field"]) == (422, "origin")


async def test_a_cancellation_is_recorded_once_and_the_doc_is_the_streams_fold(
    client: httpx.AsyncClient, stores: Stores
):
    flow = await submit(client, "workflows", {"name": "w", "jobs": {"a": JOB, "b": behind("a")}})
    for _ in range(2):
        answer = await client.post(f"/v1/workflows/{flow['id']}/cancel", json={"reason": "enough"})
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelling")
    assert (await client.post(f"/v1/workflows/{flow['id']}/retry")).status_code == 409
    identity = UUID(flow["id"])
    events = [recorded.event for recorded in await stores.parts.log.read_stream(identity)]
    assert [type(event).__name__ for event in events] == ["WorkflowSubmitted", "WorkflowCancelRequested"]
    workflow = fold_workflow(events)
    assert workflow is not None
    row = (await stores.parts.resources.get([identity]))[identity]
    assert (row.doc, row.active) == (head_of_workflow(workflow, identity).doc, True)


async def test_what_has_nothing_to_retry_and_what_is_not_there_are_refused(client: httpx.AsyncClient):
    flow = await submit(client, "workflows", {"name": "w", "jobs": {"a": JOB}})
    assert (await client.post(f"/v1/workflows/{flow['id']}/retry")).status_code == 409
    assert (await client.get(f"/v1/batches/{flow['id']}")).status_code == 404
    assert (await client.get("/v1/workflows/nothing")).status_code == 404
    assert (await client.post("/v1/workflows/nothing/cancel")).status_code == 404


async def test_a_retry_lets_failed_jobs_run_and_those_behind_them_wait_in_one_unit(
    client: httpx.AsyncClient, stores: Stores
):
    jobs = {"a": JOB, "b": behind("a"), "c": JOB}
    flow = await submit(client, "workflows", {"name": "w", "jobs": jobs})
    ids = {node: job["id"] for node, job in (await client.get(f"/v1/workflows/{flow['id']}")).json()["jobs"].items()}
    for node in ("b", "a"):
        assert (await client.post(f"/v1/jobs/{ids[node]}/cancel")).status_code == 200
    answer = await client.post(f"/v1/workflows/{flow['id']}/retry", json={"reason": "again"})
    assert (answer.status_code, answer.json()["counts"]) == (200, {"queued": 2, "waiting": 1})
    units = set()
    for stream in (flow["id"], ids["a"], ids["b"]):
        last = (await stores.parts.log.read_stream(UUID(stream)))[-1]
        units.add((type(last.event).__name__, last.meta.unit))
    assert {name for name, _ in units} == {"WorkflowReopened", "JobRequeued"}
    assert len({unit for _, unit in units}) == 1


async def test_why_names_the_jobs_that_a_workflow_waits_for(client: httpx.AsyncClient):
    flow = await submit(client, "workflows", {"name": "nightly", "jobs": {"a": JOB, "b": behind("a")}})
    why = (await client.get(f"/v1/workflows/{flow['id']}/why")).json()
    assert [reason["code"] for reason in why["reasons"]] == ["running", "job_goes_on", "job_goes_on"]
    assert [reason["name"] for reason in why["reasons"][1:]] == ["a", "b"]
    assert "Job b is waiting: It waits for a to have succeeded" in why["summary"]
    assert (await client.get(f"/v1/batches/{flow['id']}/why")).status_code == 404
