"""Submitting jobs that wait for others, and letting them go by hand."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.integration.store.conftest import Submit


async def refused(client: httpx.AsyncClient, **job: Any) -> dict[str, Any]:
    answer = await client.post("/v1/jobs", json={"task": "noop", **job})
    assert answer.status_code == 422, answer.text
    problem: dict[str, Any] = answer.json()
    return problem


async def test_a_job_with_predecessors_waits_and_shows_them(submit: Submit, client: httpx.AsyncClient):
    first, second = await submit(), await submit()
    waiting = [first["id"], {"job": second["id"], "outcome": "ended", "name": "b"}]
    job = await submit(after=waiting, after_mode="any", on_failure="hold")
    assert job["state"] == "waiting"
    assert job["after"] == [
        {"job": first["id"], "name": first["id"], "outcome": "succeeded"},
        {"job": second["id"], "name": "b", "outcome": "ended"},
    ]
    assert (job["after_mode"], job["on_failure"]) == ("any", "hold")
    assert (await client.get(f"/v1/jobs/{job['id']}")).json() == job


async def test_an_empty_list_of_predecessors_is_none(submit: Submit):
    job = await submit(after=[])
    assert (job["state"], job["after"]) == ("queued", None)


@pytest.mark.parametrize(
    ("after", "field"),
    [
        ([str(uuid4())], "after.0"),
        (["no-id"], "after.0"),
        ([{"job": str(uuid4()), "outcome": "expired"}], "after.0.outcome"),
        ([{"outcome": "ended"}], "after.0.job"),
        ([7], "after.0"),
        ({"job": "x"}, "after"),
        (["x"] * 5001, "after"),
    ],
)
async def test_what_can_not_be_waited_for_is_refused_with_its_place(client: httpx.AsyncClient, after: Any, field: str):
    assert (await refused(client, after=after))["field"] == field


async def test_the_second_of_two_predecessors_that_are_one_is_refused(submit: Submit, client: httpx.AsyncClient):
    first, second = await submit(), await submit()
    assert (await refused(client, after=[first["id"], {"job": first["id"]}]))["field"] == "after.1"
    named = [{"job": first["id"], "name": "a"}, {"job": second["id"], "name": "a"}]
    assert (await refused(client, after=named))["field"] == "after.1"


async def test_in_bulk_an_unknown_predecessor_costs_its_own_job_only(submit: Submit, client: httpx.AsyncClient):
    first = await submit()
    jobs = [{"task": "noop", "after": [first["id"]]}, {"task": "noop", "after": [first["id"], str(uuid4())]}]
    results = (await client.post("/v1/jobs/bulk", json=jobs)).json()["results"]
    assert [result["status"] for result in results] == [201, 422]
    assert results[1]["problem"]["field"] == "after.1"


async def test_a_waiting_job_is_let_go_by_hand_and_only_one_that_waits(submit: Submit, client: httpx.AsyncClient):
    first = await submit()
    job = await submit(after=[first["id"]])
    answer = await client.post(f"/v1/jobs/{job['id']}/release", json={"reason": "no need to wait"})
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    events = (await client.get(f"/v1/jobs/{job['id']}/events")).json()["items"]
    assert events[1]["type"] == "JobDispatched"
    assert (events[1]["data"]["reason"], events[1]["data"]["note"]) == ("manual", "no need to wait")
    assert (await client.post(f"/v1/jobs/{first['id']}/release")).status_code == 409


async def test_more_predecessors_in_one_request_than_are_looked_up_are_refused(client: httpx.AsyncClient):
    jobs = [{"task": "noop", "after": [str(UUID(int=20 * n + k)) for k in range(20)]} for n in range(5001)]
    answer = await client.post("/v1/jobs/bulk", json=jobs)
    assert (answer.status_code, answer.json()["field"]) == (413, "after")
