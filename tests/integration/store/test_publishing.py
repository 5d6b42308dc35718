"""Publishing events: CloudEvents 1.0, binary, structured and batched; once for each source and id."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx

from rota_server.adapters.group_commit import GroupCommit
from rota_server.domain.ids import Position, event_stream_id
from rota_server.domain.jobs.events import EventPublished
from tests.integration.store.conftest import Stores

STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCHED = {"content-type": "application/cloudevents-batch+json"}
EVENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.paid"}


async def recorded(stores: Stores) -> list[EventPublished]:
    events = [r.event for r in await stores.parts.log.read(Position(0), 100)]
    assert all(isinstance(event, EventPublished) for event in events)
    return events  # type: ignore[return-value]


async def test_a_structured_event_is_recorded_whole(client: httpx.AsyncClient, stores: Stores):
    whole = {
        **EVENT,
        "subject": "order/7",
        "time": "2026-05-01T10:00:00.5+02:00",
        "datacontenttype": "application/json",
        "dataschema": "https://example.org/order",
        "data": {"total": 12.5, "lines": [1, 2]},
        "region": "eu",
        "retries": 3,
        "test": True,
    }
    answer = await client.post("/v1/events", json=whole, headers=STRUCTURED)
    assert answer.status_code == 201
    assert answer.json() == {"status": 201, "id": "e-1", "source": "/shop", "position": 1}
    assert answer.headers["rota-position"] == "1"
    (event,) = await recorded(stores)
    assert event.time is not None
    assert event.time.isoformat() == "2026-05-01T10:00:00.500000+02:00"
    assert (event.subject, event.data) == ("order/7", {"total": 12.5, "lines": [1, 2]})
    assert event.extensions == {"region": "eu", "retries": 3, "test": True}
    (raw,) = await stores.parts.log.read_raw(Position(0), 1)
    assert raw.stream_id == event_stream_id("/shop", "e-1")


async def test_a_binary_event_carries_json_text_or_bytes(client: httpx.AsyncClient, stores: Stores):
    bodies = [
        ("application/json; charset=utf-8", b'{"a":[1]}', {"a": [1]}, None),
        ("text/plain", "grüße".encode(), "grüße", None),
        ("image/png", b"\x89PNG\x00", None, base64.b64encode(b"\x89PNG\x00").decode()),
    ]
    for number, (kind, body, data, encoded) in enumerate(bodies):
        headers = {
            "content-type": kind,
            "ce-specversion": "1.0",
            "ce-id": str(number),
            "ce-source": "/s%2520p",
            "ce-type": "t",
            "ce-region": "K%C3%B6ln",
        }
        answer = await client.post("/v1/events", content=body, headers=headers)
        assert answer.status_code == 201, answer.text
        event = (await recorded(stores))[-1]
        assert (event.source, event.extensions) == ("/s%20p", {"region": "Köln"})
        assert (event.data, event.data_base64, event.datacontenttype) == (data, encoded, kind)


async def test_a_batch_answers_each_event_and_a_repeated_one_with_the_first(client: httpx.AsyncClient, stores: Stores):
    batch = [EVENT, {**EVENT, "id": "e-2"}, EVENT, {**EVENT, "source": "/other"}]
    answer = await client.post("/v1/events", json=batch, headers=BATCHED)
    assert answer.status_code == 201
    results = answer.json()["results"]
    assert [r["status"] for r in results] == [201, 201, 200, 201]
    assert results[2]["position"] == results[0]["position"]
    assert len(await recorded(stores)) == 3
    again = await client.post("/v1/events", json=batch, headers=BATCHED)
    assert again.status_code == 200
    assert {r["status"] for r in again.json()["results"]} == {200}


async def test_twenty_at_once_record_one_event(stores: Stores):
    two = [await stores.client(), await stores.client(change={"commit": GroupCommit(stores.parts.log)})]
    answers = await asyncio.gather(*(two[n % 2].post("/v1/events", json=EVENT, headers=STRUCTURED) for n in range(20)))
    assert sorted(a.status_code for a in answers) == [200] * 19 + [201]
    assert {a.json()["position"] for a in answers} == {1}


async def test_wrong_events_are_named_and_nothing_is_recorded(client: httpx.AsyncClient, stores: Stores):
    wrong: list[tuple[Any, str]] = [
        ({**EVENT, "specversion": "0.3"}, "specversion"),
        ({**EVENT, "id": ""}, "id"),
        ({**EVENT, "id": 5}, "id"),
        ({name: value for name, value in EVENT.items() if name != "source"}, "source"),
        ({**EVENT, "type": "x" * 1025}, "type"),
        ({**EVENT, "time": "2026-05-01T10:00:00"}, "time"),
        ({**EVENT, "Region": "eu"}, "Region"),
        ({**EVENT, "region": {"a": 1}}, "region"),
        ({**EVENT, "number": 2**31}, "number"),
        ({**EVENT, "ratio": 1.5}, "ratio"),
        ({**EVENT, "data": 1, "data_base64": "AA=="}, "data"),
        ({**EVENT, "data_base64": "%%"}, "data_base64"),
        ({**EVENT, "data": "a\x00"}, "data"),
        ({**EVENT, "data": "x" * (256 * 1024)}, "data"),
        ({**EVENT, **{f"x{n}": "y" for n in range(51)}}, None),
    ]
    for body, field in wrong:
        answer = await client.post("/v1/events", content=json.dumps(body), headers=STRUCTURED)
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.json().get("field") == field
    second = [EVENT, {**EVENT, "id": ""}]
    answer = await client.post("/v1/events", content=json.dumps(second), headers=BATCHED)
    assert answer.json()["field"] == "1.id"
    for batch in ({}, [EVENT] * 1001):
        answer = await client.post("/v1/events", content=json.dumps(batch), headers=BATCHED)
        assert answer.status_code == 422
    for headers, field in (
        ({"content-type": "application/json"}, "Content-Type"),
        ({"ce-specversion": "1.0", "ce-source": "/s", "ce-type": "t"}, "ce-id"),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s%00", "ce-type": "t"}, "ce-source"),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-x": "%00"}, "ce-x"),
    ):
        answer = await client.post("/v1/events", content=b"{}", headers=headers)
        assert answer.json()["field"] == field
    assert await stores.parts.log.last_position() == 0
