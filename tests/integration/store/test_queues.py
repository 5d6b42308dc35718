"""Queues over HTTP: settings and their history, what is refused, and jobs that wait because of them."""

from __future__ import annotations

from typing import Any

import pytest

from rota_server.domain.admission.queues import KIND, QueueChanged, head_of_queue, settings_of
from rota_server.domain.ids import Position, resource_id
from tests.integration.store.conftest import Stores


async def test_settings_are_kept_with_who_and_why_and_equal_their_history(stores: Stores) -> None:
    client = await stores.client()
    answer = await client.patch(
        "/v1/queues/mail",
        json={"concurrency": 5, "rate": {"limit": 100, "per": 60, "burst": 20}, "reason": "the provider"},
        headers={"Rota-Actor": "ada"},
    )
    assert answer.status_code == 200
    assert answer.headers["rota-position"] == "1"
    assert answer.json()["rate"] == {"limit": 100, "per": 60.0, "burst": 20}
    paused = (await client.patch("/v1/queues/mail", json={"paused": True, "reason": "down"})).json()
    assert (paused["paused"], paused["paused_by"], paused["pause_reason"]) == (True, "http:anonymous", "down")
    assert paused["concurrency"] == 5
    again = await client.patch("/v1/queues/mail", json={"paused": True})
    assert again.json()["version"] == 2, "what is so already is not written again"
    resumed = (await client.patch("/v1/queues/mail", json={"paused": False, "rate": None})).json()
    assert (resumed["paused_by"], resumed["rate"], resumed["version"]) == (None, None, 3)
    history = await stores.parts.log.read_stream(resource_id(KIND, "mail"))
    assert [recorded.meta.actor for recorded in history] == ["http:ada", "http:anonymous", "http:anonymous"]
    row = (await stores.parts.resources.by_name(KIND, ["mail"]))["mail"]
    last = history[-1].event
    assert isinstance(last, QueueChanged)
    assert head_of_queue("mail", settings_of(last)).doc == row.doc


async def test_jobs_of_a_limited_queue_and_jobs_with_a_key_wait_for_the_leader(stores: Stores) -> None:
    client = await stores.client()
    direct = (await client.post("/v1/jobs", json={"task": "shell.run", "args": {"command": ["true"]}})).json()
    keyed = {"task": "shell.run", "args": {"command": ["true"]}, "key": "customer"}
    waits = (await client.post("/v1/jobs", json=keyed)).json()
    assert (direct["state"], waits["state"], waits["key"]) == ("queued", "waiting", "customer")
    await client.patch("/v1/queues/slow", json={"concurrency": 1})
    slow = {"task": "shell.run", "args": {"command": ["true"]}, "queue": "slow"}
    # The store may not know yet; the log does, and the store asks again.
    assert (await client.post("/v1/jobs", json=slow)).json()["state"] == "waiting"
    bulk = (await client.post("/v1/jobs/bulk", json=[slow] * 3 + [keyed])).json()["results"]
    states = [(await client.get(f"/v1/jobs/{result['id']}")).json()["state"] for result in bulk]
    assert states == ["waiting"] * 4
    queue = (await client.get("/v1/queues/slow")).json()
    assert (queue["waiting"], queue["depth"], queue["oldest_at"] is not None) == (4, 4, True)
    names = [queue["name"] for queue in (await client.get("/v1/queues")).json()["items"]]
    assert names == ["default", "slow"]


async def test_a_store_that_has_not_heard_of_a_limit_does_not_dispatch_past_it(stores: Stores) -> None:
    one, two = await stores.client(), await stores.client()
    job = {"task": "shell.run", "args": {"command": ["true"]}, "queue": "q"}
    assert (await one.post("/v1/jobs", json=job)).json()["state"] == "queued"
    await two.patch("/v1/queues/q", json={"paused": True})
    assert (await one.post("/v1/jobs", json=job)).json()["state"] == "waiting"
    await two.patch("/v1/queues/q", json={"paused": False})
    await stores.parts.log.wait_for_append(Position(3), 5)
    assert (await two.post("/v1/jobs", json=job)).status_code == 201


async def test_a_waiting_job_is_cancelled_and_retried_into_its_line(stores: Stores) -> None:
    client = await stores.client()
    job = (await client.post("/v1/jobs", json={"task": "shell.run", "args": {"command": ["true"]}, "key": "k"})).json()
    cancelled = (await client.post(f"/v1/jobs/{job['id']}/cancel", json={})).json()
    assert cancelled["state"] == "cancelled"
    assert (await client.get("/v1/queues/default")).json()["waiting"] == 0
    assert (await client.post(f"/v1/jobs/{job['id']}/retry", json={})).json()["state"] == "waiting"
    assert (await client.get("/v1/queues/default")).json()["waiting"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": "5"}, "concurrency"),
        ({"concurrency": 1e99}, "concurrency"),
        ({"concurrency_per_key": -1}, "concurrency_per_key"),
        ({"rate": {"limit": 0}}, "rate.limit"),
        ({"rate": {"limit": 5, "per": 0}}, "rate.per"),
        ({"rate": {"limit": 5, "per": 1, "burst": 0}}, "rate.burst"),
        ({"rate": {"limit": 5, "every": 1}}, "rate.every"),
        ({"rate": 5}, "rate"),
        ({"paused": "yes"}, "paused"),
        ({"colour": "red"}, "colour"),
        ({"paused": True, "reason": "x" * 1001}, "reason"),
    ],
)
async def test_what_is_wrong_with_settings_is_named(stores: Stores, body: dict[str, Any], field: str) -> None:
    client = await stores.client()
    answer = await client.patch("/v1/queues/q", json=body)
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert (await client.get("/v1/queues/q")).json()["version"] == 0


async def test_a_change_without_a_setting_and_a_name_that_is_none_are_refused(stores: Stores) -> None:
    client = await stores.client()
    assert (await client.patch("/v1/queues/q", json={})).status_code == 422
    assert (await client.patch("/v1/queues/q", json=[])).status_code == 422
    assert (await client.get("/v1/queues/not%20a%20name")).status_code == 404
    for key in ("", "x" * 201, "a\x1fb", 7):
        job = {"task": "shell.run", "args": {"command": ["true"]}, "key": key}
        answer = await client.post("/v1/jobs", json=job)
        assert (answer.status_code, answer.json()["field"]) == (422, "key")
