"""What the store says of itself and of the system."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import httpx

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.domain.errors import Unavailable
from rota_server.domain.events import event_types
from rota_server.domain.ports.coordination import Member
from tests.integration.store.conftest import Stores, Submit


async def test_the_cluster_shows_members_leader_and_term(client: httpx.AsyncClient, stores: Stores):
    empty = (await client.get("/v1/cluster")).json()
    assert (empty["leader"], empty["term"]) == (None, None)
    coordination = PostgresCoordination(stores.database)
    async with (
        coordination.register("executor", "e1", {"host": "h", "id": "other"}),
        coordination.elect("s1", {"host": "h"}),
    ):
        cluster = (await client.get("/v1/cluster")).json()
        executors = (await client.get("/v1/executors")).json()
    assert (cluster["leader"]["id"], cluster["term"]) == ("s1", 1)
    assert [member["id"] for member in cluster["members"]["executor"]] == ["e1"]
    assert [member["id"] for member in cluster["members"]["scheduler"]] == ["s1"]
    assert cluster["members"]["store"] == []
    assert set(executors) == {"items", "next_cursor", "position"}
    (executor,) = executors["items"]
    assert (executor["id"], executor["host"]) == ("e1", "h")
    assert executor["since"]


class _Away:
    """Coordination that cannot be reached."""

    async def members(self, _role: str) -> Sequence[Member]:
        raise Unavailable("no quorum", server="zookeeper")

    async def leader(self) -> Member | None:
        raise Unavailable("no quorum", server="zookeeper")


async def test_without_coordination_jobs_go_on_and_the_cluster_is_unavailable(stores: Stores):
    client = await stores.client(change={"coordination": _Away()})
    assert (await client.get("/v1/cluster")).status_code == 503
    answer = await client.get("/v1/executors")
    assert (answer.status_code, "zookeeper" in answer.json()["detail"]) == (503, True)
    assert (await client.post("/v1/jobs", json={"task": "noop"})).status_code == 201
    assert (await client.get("/readyz")).status_code == 200


async def test_readiness_names_what_is_wrong(stores: Stores):
    assert (await (await stores.client()).get("/readyz")).json()["status"] == "ready"

    async def old() -> str:
        raise Unavailable("the schema is at 0000, not at 0001", server="postgres")

    async def hanging() -> str:
        await asyncio.Event().wait()
        return ""

    for check, said in ((old, "0000"), (hanging, "does not answer")):
        client = await stores.client(change={"ready": check})
        began = time.monotonic()
        answer = await client.get("/readyz")
        assert time.monotonic() - began < 6
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert said in answer.json()["detail"]
        assert (await client.get("/healthz")).status_code == 200


def value(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def test_metrics_count_requests_appends_and_the_system(client: httpx.AsyncClient, submit: Submit):
    for _ in range(3):
        await submit()
    await client.post("/v1/jobs", json={})
    await client.get("/nothing")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.text
    requests = "rota_http_requests_total"
    assert value(text, f'{requests}{{method="POST",route="/v1/jobs",status="201"}}') == 3
    assert value(text, f'{requests}{{method="POST",route="/v1/jobs",status="422"}}') == 1
    assert value(text, f'{requests}{{method="GET",route="other",status="404"}}') == 1
    assert value(text, 'rota_http_request_seconds_count{method="POST",route="/v1/jobs"}') == 4
    assert value(text, "rota_store_append_events_total") == 3
    assert value(text, "rota_log_position") == 3
    assert value(text, 'rota_jobs{state="queued"}') == 3
    assert value(text, "rota_store_log_up") == 1


async def test_metrics_are_answered_while_postgresql_is_away(stores: Stores):
    gone = Database("postgresql://rota:x@127.0.0.1:1/rota")

    async def count() -> Any:
        async with gone.begin():
            raise AssertionError("connected to nothing")

    text = (await (await stores.client(change={"count": count})).get("/metrics")).text
    assert value(text, "rota_store_log_up") == 0
    assert "\nrota_log_position " not in text
    await gone.close()


async def test_openapi_describes_every_route_and_resolves(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    calls = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert {
        ("post", "/v1/jobs"),
        ("post", "/v1/jobs/bulk"),
        ("get", "/v1/jobs"),
        ("get", "/v1/jobs/{id}"),
        ("get", "/v1/jobs/{id}/events"),
        ("get", "/v1/jobs/{id}/logs"),
        ("post", "/v1/jobs/{id}/cancel"),
        ("post", "/v1/jobs/{id}/retry"),
        ("post", "/v1/jobs/{id}/reschedule"),
        ("post", "/v1/jobs/actions"),
        ("get", "/v1/events"),
        ("get", "/v1/events/stream"),
        ("post", "/v1/events"),
        ("get", "/v1/executors"),
        ("get", "/v1/cluster"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
        ("get", "/asyncapi"),
    } <= calls
    references = set(re.findall(r'"#/components/schemas/(\w+)"', (await client.get("/openapi.json")).text))
    assert references <= set(document["components"]["schemas"])
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert operation["summary"]
            assert operation["description"]
    request = document["components"]["schemas"]["JobRequest"]
    assert request["additionalProperties"] is False
    assert request["required"] == ["task"]
    assert {"task", "retry", "delay", "tags"} <= set(request["properties"])


async def test_asyncapi_describes_the_streams_and_every_event(client: httpx.AsyncClient):
    answer = await client.get("/asyncapi")
    document = answer.json()
    assert document["asyncapi"] == "3.0.0"
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {"rota:feed", "rota:work:{queue}:{priority}", "rota:control"}
    schemas = document["components"]["schemas"]
    assert set(event_types()) <= set(schemas)
    references = set(re.findall(r'"#/components/schemas/(\w+)"', answer.text))
    assert references <= set(schemas)
    assert "request_digest" in schemas["JobSubmitted"]["properties"]
