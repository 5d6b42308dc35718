"""What executors have announced of their tasks, and what a submission is told by it."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from tests.integration.store.conftest import Stores

FETCH: dict[str, Any] = {
    "queue": "web",
    "parameters": {"url": True, "timeout": False},
    "any_keyword": False,
    "types": {"url": ["string"]},
}


@pytest.fixture
async def announced(stores: Stores) -> None:
    tasks = {
        "shop.fetch": FETCH,
        "shop.any": {"parameters": {"first": True}, "any_keyword": True},
        "shop.odd": {"retry": {"initial_delay": 1}, "parameters": {}},
    }
    await PostgresTaskCatalog(stores.database).announce(tasks)


async def refused(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **job: Any) -> tuple[str, str, str]:
    answer = await client.post("/v1/jobs", json=job, headers=headers or {})
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    return problem["code"], problem["field"], problem["detail"]


@pytest.mark.usefixtures("announced")
async def test_a_task_with_any_keyword_takes_any_argument(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"task": "shop.any", "args": {"first": 1, "second": 2}})
    assert answer.status_code == 201


@pytest.mark.usefixtures("announced")
async def test_misspelt_names_get_the_one_that_was_meant(client: httpx.AsyncClient) -> None:
    assert await refused(client, task="shop.fech") == (
        "unknown-task",
        "task",
        "task: no executor has announced 'shop.fech'; did you mean 'shop.fetch'?",
    )
    assert (await refused(client, task="http.requst"))[2].endswith("did you mean 'http.request'?")
    assert (await refused(client, task="zebra"))[2] == "task: no executor has announced 'zebra'"
    assert await refused(client, task="shop.fetch", args={"url": "x", "timeot": 1}) == (
        "unknown-field",
        "args.timeot",
        "args.timeot: shop.fetch does not take it; did you mean 'timeout'?",
    )


@pytest.mark.usefixtures("announced")
async def test_ten_thousand_misspelt_jobs_do_not_hold_the_store_up(client: httpx.AsyncClient, stores: Stores) -> None:
    many: dict[str, Any] = {f"a.task.with.quite.some.name.{number}": {} for number in range(2000)}
    await PostgresTaskCatalog(stores.database).announce(many)
    jobs = [{"task": f"b.task.with.quite.some.name.{number}"} for number in range(10_000)]
    assert (await client.post("/v1/jobs/bulk", json=jobs[:1])).status_code == 200
    began = time.thread_time()
    answer = await client.post("/v1/jobs/bulk", json=jobs)
    assert {result["status"] for result in answer.json()["results"]} == {422}
    assert time.thread_time() - began < 10


@pytest.mark.usefixtures("announced")
async def test_keywords_that_a_program_may_have_meant_as_arguments_are_refused(client: httpx.AsyncClient) -> None:
    keywords = {"Rota-Keywords": "delay,timeout"}
    job: dict[str, Any] = {"task": "shop.fetch", "args": {"url": "x"}, "timeout": 9}
    code, field, detail = await refused(client, keywords, **job)
    assert (code, field) == ("ambiguous", "timeout")
    assert "is an argument of shop.fetch and an option of jobs" in detail
    for headers in ({}, {"Rota-Keywords": "delay"}, {"Rota-Keywords": ",\x7f," * 300}):
        assert (await client.post("/v1/jobs", json=job, headers=headers)).status_code == 201
    both = {**job, "args": {"url": "x", "timeout": 1}}
    assert (await client.post("/v1/jobs", json=both, headers=keywords)).status_code == 201


@pytest.mark.usefixtures("announced")
async def test_an_argument_given_as_an_option_is_told_so(client: httpx.AsyncClient, stores: Stores) -> None:
    await PostgresTaskCatalog(stores.database).announce({"shop.key": {"parameters": {"key": True}}})
    assert await refused(client, task="shop.key", key="a") == (
        "missing",
        "args.key",
        "args.key: shop.key needs it; key was given as the option of the job",
    )


@pytest.mark.usefixtures("announced")
async def test_a_declaration_that_no_job_can_have_is_told_as_such(client: httpx.AsyncClient) -> None:
    code, field, detail = await refused(client, task="shop.odd")
    assert (code, field) == ("wrong-declaration", "retry.initial_delay")
    assert "so the task shop.odd is declared" in detail
    assert (await refused(client, task="shop.odd", retry={"initial": -1}))[0] in (
        "wrong-declaration",
        "invalid-argument",
    )
    assert (await refused(client, task="shop.odd", priority="urgent"))[:2] == ("invalid-argument", "priority")


@pytest.mark.usefixtures("announced")
async def test_tasks_can_be_read_with_their_parameters_and_defaults(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/tasks")).json()["items"]
    assert [task["name"] for task in listed] == sorted(task["name"] for task in listed)
    assert {"http.request", "shop.fetch"} <= {task["name"] for task in listed}
    assert (await client.get("/v1/tasks/shop.fetch")).json() == {
        "name": "shop.fetch",
        "builtin": False,
        "parameters": [
            {"name": "url", "required": True, "types": ["string"]},
            {"name": "timeout", "required": False, "types": []},
        ],
        "any_argument": False,
        "defaults": {"queue": "web"},
    }
    assert (await client.get("/v1/tasks/http.request")).json()["builtin"] is True
    missing = await client.get("/v1/tasks/shop.fech")
    assert (missing.status_code, missing.json()["detail"]) == (
        404,
        "no executor has announced this task; did you mean 'shop.fetch'?",
    )
