"""Bulk submission: one result for each job, in order, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from rota_server.adapters.group_commit import GroupCommit
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Position
from rota_server.domain.log import Unit
from tests.integration.store.conftest import Stores


def jobs(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"task": "noop", "args": {"n": n}, **fields} for n in range(count)]


async def test_ten_thousand_jobs_are_accepted_and_one_more_is_not(client: httpx.AsyncClient, stores: Stores):
    answer = await client.post("/v1/jobs/bulk", json=jobs(10_000))
    results = answer.json()["results"]
    assert {result["status"] for result in results} == {201}
    assert len({result["id"] for result in results}) == 10_000
    assert answer.headers["rota-position"] == "10000"
    assert await stores.parts.log.last_position() == 10_000
    for count in (0, 10_001):
        refused = await client.post("/v1/jobs/bulk", json=jobs(count))
        assert (refused.status_code, refused.json()["code"]) == (422, "wrong-count")
    lines = "\n".join(json.dumps(job) for job in jobs(10_001))
    refused = await client.post("/v1/jobs/bulk", content=lines, headers={"content-type": "application/x-ndjson"})
    assert refused.status_code == 422
    assert await stores.parts.log.last_position() == 10_000


async def test_results_stand_in_the_order_of_the_jobs(client: httpx.AsyncClient):
    body = [*jobs(3), {"task": "nope"}, *jobs(2), 7]
    results = (await client.post("/v1/jobs/bulk", json=body)).json()["results"]
    assert [r["status"] for r in results] == [201, 201, 201, 422, 201, 201, 422]
    assert results[3]["problem"]["field"] == "task"
    for number in (0, 1, 2):
        job = (await client.get(f"/v1/jobs/{results[number]['id']}")).json()
        assert (job["args"], job["position"]) == ({"n": number}, results[number]["position"])


async def test_ndjson_takes_empty_lines_and_answers_a_broken_one_alone(client: httpx.AsyncClient):
    body = b'{"task":"noop"}\r\n\n{"task":\n{"task":"noop"}'
    answer = await client.post("/v1/jobs/bulk", content=body, headers={"content-type": "application/x-ndjson"})
    results = answer.json()["results"]
    assert [r["status"] for r in results] == [201, 400, 201]
    assert results[1]["problem"]["code"] == "malformed-json"


async def test_what_is_no_array_is_refused_as_a_whole(client: httpx.AsyncClient):
    for body, status in ((b'{"task":"noop"}', 422), (b"[{]", 400), (b"", 400)):
        answer = await client.post("/v1/jobs/bulk", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status


async def test_repeated_keys_within_one_request_are_handled_in_order(client: httpx.AsyncClient, stores: Stores):
    same, other = {"task": "noop", "idempotency_key": "k"}, {"task": "noop", "args": {"x": 1}, "idempotency_key": "k"}
    results = (await client.post("/v1/jobs/bulk", json=[same, other, same, {"task": "noop"}])).json()["results"]
    assert [r["status"] for r in results] == [201, 409, 200, 201]
    assert results[0]["id"] == results[2]["id"]
    assert results[1]["problem"]["field"] == "Idempotency-Key"
    assert await stores.parts.log.last_position() == 2
    alone = await client.post("/v1/jobs", json={"task": "noop"}, headers={"Idempotency-Key": "k"})
    assert (alone.status_code, alone.json()["id"]) == (200, results[0]["id"])


async def test_a_whole_request_may_be_repeated_when_its_jobs_have_keys(client: httpx.AsyncClient, stores: Stores):
    body = [{**job, "idempotency_key": f"k{n}"} for n, job in enumerate(jobs(1200))]
    first = (await client.post("/v1/jobs/bulk", json=body)).json()["results"]
    again = (await client.post("/v1/jobs/bulk", json=body)).json()["results"]
    assert {r["status"] for r in again} == {200}
    assert [r["id"] for r in again] == [r["id"] for r in first]
    assert await stores.parts.log.last_position() == 1200


async def test_one_key_for_the_whole_request_is_refused(client: httpx.AsyncClient):
    answer = await client.post("/v1/jobs/bulk", json=jobs(1), headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")


async def test_single_submissions_are_answered_while_a_bulk_request_is_under_way(client: httpx.AsyncClient):
    bulk = asyncio.create_task(client.post("/v1/jobs/bulk", json=jobs(10_000)))
    answered_before_the_bulk = 0
    while not bulk.done():
        assert (await client.post("/v1/jobs", json={"task": "noop"})).status_code == 201
        answered_before_the_bulk += not bulk.done()
    assert answered_before_the_bulk > 3
    assert {r["status"] for r in bulk.result().json()["results"]} == {201}


class _FailingLater:
    """A log that is gone after a number of calls."""

    def __init__(self, log: Any, calls: int) -> None:
        self._log = log
        self._calls = calls

    async def append(self, units: list[Unit], **options: Any) -> Any:
        self._calls -= 1
        if self._calls < 0:
            raise Unavailable("gone", server="postgres")
        return await self._log.append(units, **options)


async def test_when_the_log_goes_away_midway_each_job_says_what_became_of_it(stores: Stores):
    commit = GroupCommit(_FailingLater(stores.parts.log, 2), give_up_seconds=10)  # type: ignore[arg-type]
    client = await stores.client(change={"commit": commit})
    results = (await client.post("/v1/jobs/bulk", json=jobs(2000))).json()["results"]
    accepted = [r for r in results if r["status"] == 201]
    unknown = [r for r in results if r["status"] == 503]
    assert len(accepted) + len(unknown) == 2000
    assert accepted
    assert unknown
    recorded = await stores.parts.log.read_raw(Position(0), 3000)
    assert {r["id"] for r in accepted} <= {str(event.stream_id) for event in recorded}
