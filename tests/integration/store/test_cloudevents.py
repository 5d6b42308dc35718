"""What CloudEvents 1.0.2 requires of its HTTP binding and JSON format, point by point."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

from rota_server.domain.ids import Position
from rota_server.domain.jobs.events import EventPublished
from tests.integration.store.conftest import Stores

STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCHED = {"content-type": "application/cloudevents-batch+json"}
EVENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.paid"}
HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}


async def last(stores: Stores) -> EventPublished:
    event = (await stores.parts.log.read(Position(0), 100))[-1].event
    assert isinstance(event, EventPublished)
    return event


async def refused(client: httpx.AsyncClient, content: bytes, headers: Any, status: int = 422) -> Any:
    answer = await client.post("/v1/events", content=content, headers=headers)
    assert answer.status_code == status, (content[:100], answer.text)
    return answer.json().get("field")


async def test_required_attributes_are_required_in_every_mode(client: httpx.AsyncClient):
    for name in ["specversion", "id", "source", "type"]:
        without = {other: value for other, value in EVENT.items() if other != name}
        assert await refused(client, json.dumps(without).encode(), STRUCTURED) == name
        assert await refused(client, json.dumps({**EVENT, name: None}).encode(), STRUCTURED) == name
        assert await refused(client, json.dumps({**EVENT, name: ""}).encode(), STRUCTURED) == name
        assert await refused(client, json.dumps([EVENT, without]).encode(), BATCHED) == f"1.{name}"
        headers = {header: value for header, value in HEADERS.items() if header != f"ce-{name}"}
        assert await refused(client, b"", headers) == f"ce-{name}"


async def test_nothing_is_invented(client: httpx.AsyncClient, stores: Stores):
    await client.post("/v1/events", json=EVENT, headers=STRUCTURED)
    event = await last(stores)
    assert (event.time, event.datacontenttype, event.data, event.extensions) == (None, None, None, None)


async def test_attributes_have_the_types_of_the_specification(client: httpx.AsyncClient):
    for attribute, value in [
        ("source", "not a reference"),
        ("dataschema", "/relative"),
        ("dataschema", "https://example.org/s#fragment"),
        ("datacontenttype", "json"),
        ("time", "yesterday"),
        ("time", 1714550400),
        ("subject", ""),
        ("subject", "line\nbreak"),
        ("id", "\u0085"),
        ("type", "a\uffff"),
        ("specversion", 1.0),
        ("specversion", "1.1"),
        ("Upper", "x"),
        ("with_underscore", "x"),
        ("with-hyphen", "x"),
        ("ratio", 1.5),
        ("whole", 1.0),
        ("large", 2**31),
        ("small", -(2**31) - 1),
        ("nested", {}),
        ("listed", []),
        ("broken", "a\u0007"),
    ]:
        assert await refused(client, json.dumps({**EVENT, attribute: value}).encode(), STRUCTURED) == attribute


async def test_extensions_may_be_texts_integers_and_booleans_and_null_is_unset(
    client: httpx.AsyncClient, stores: Stores
):
    given = {"a": "x", "b": 2**31 - 1, "c": -(2**31), "d": False, "e": None, "f": ""}
    assert (await client.post("/v1/events", json={**EVENT, **given}, headers=STRUCTURED)).status_code == 201
    assert (await last(stores)).extensions == {name: value for name, value in given.items() if name != "e"}


async def test_a_name_that_is_there_twice_is_refused(client: httpx.AsyncClient):
    for body in [
        b'{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1,"a":2}}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":[{"b":{"\\u0061":1,"a":2}}]}',
    ]:
        assert await refused(client, body, STRUCTURED) in ("id", "a")
        assert await refused(client, b"[%b]" % body, BATCHED) in ("id", "a")


async def test_a_name_that_is_there_twice_in_binary_data_is_refused(client: httpx.AsyncClient):
    assert await refused(client, b'{"a":1,"a":1}', {**HEADERS, "content-type": "application/json"}) == "a"


async def test_numbers_that_json_does_not_have_or_nobody_can_keep_are_refused(client: httpx.AsyncClient):
    for number in [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"123456789012345678901234567890"]:
        body = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"n":%b}}' % number
        assert await refused(client, body, STRUCTURED) == "data.n"


async def test_base64_is_strict(client: httpx.AsyncClient):
    for encoded in ["%%", "AA", "AA=", "AB==", "A A=", "AA==\n", "_w==", 5, None, ["AA=="], {}]:
        assert (
            await refused(client, json.dumps({**EVENT, "data_base64": encoded}).encode(), STRUCTURED) == "data_base64"
        )


async def test_data_and_data_base64_exclude_each_other(client: httpx.AsyncClient):
    for data in (1, None, ""):
        body = {**EVENT, "data": data, "data_base64": "AA=="}
        assert await refused(client, json.dumps(body).encode(), STRUCTURED) == "data"


async def test_data_that_is_declared_as_no_json_is_a_text(client: httpx.AsyncClient, stores: Stores):
    xml = {**EVENT, "datacontenttype": "application/xml"}
    assert await refused(client, json.dumps({**xml, "data": {"a": 1}}).encode(), STRUCTURED) == "data"
    assert (await client.post("/v1/events", json={**xml, "data": "<a/>"}, headers=STRUCTURED)).status_code == 201
    assert (await last(stores)).data == "<a/>"
    hal = {**EVENT, "id": "2", "datacontenttype": "application/hal+json; charset=utf-8", "data": {"a": 1}}
    assert (await client.post("/v1/events", json=hal, headers=STRUCTURED)).status_code == 201


async def test_a_json_text_stays_a_text(client: httpx.AsyncClient, stores: Stores):
    await client.post("/v1/events", json={**EVENT, "data": '{"a": 1}'}, headers=STRUCTURED)
    assert (await last(stores)).data == '{"a": 1}'


async def test_a_batch_may_be_empty(client: httpx.AsyncClient):
    answer = await client.post("/v1/events", json=[], headers=BATCHED)
    assert (answer.status_code, answer.json()) == (200, {"results": []})


async def test_formats_that_are_not_known_are_not_taken_for_binary(client: httpx.AsyncClient):
    for kind in ("application/cloudevents", "application/cloudevents+avro", "application/cloudevents-batch+avro"):
        assert await refused(client, b"x", {**HEADERS, "content-type": kind}, 415) == "Content-Type"
    latin = {"content-type": "application/cloudevents+json; charset=iso-8859-1"}
    assert await refused(client, json.dumps(EVENT).encode(), latin, 415) == "Content-Type"
    good = {"content-type": 'Application/CloudEvents+JSON; charset="UTF-8"'}
    assert (await client.post("/v1/events", content=json.dumps(EVENT), headers=good)).status_code == 201


async def test_header_values_are_unquoted_and_percent_decoded_once(client: httpx.AsyncClient, stores: Stores):
    for value, text in [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        (b"%e2%82%ac", "€"),
        (b"%41", "A"),
        (b'"quoted \\"value\\" \\\\"', 'quoted "value" \\'),
        (b'a"b c"d', "ab cd"),
        (b"%2541", "%41"),
        (b"plain text", "plain text"),
    ]:
        headers = [(name.encode(), given.encode()) for name, given in {**HEADERS, "ce-id": value.hex()}.items()]
        answer = await client.post("/v1/events", content=b"", headers=[*headers, (b"CE-Extra", value)])
        assert answer.status_code == 201, answer.text
        assert (await last(stores)).extensions == {"extra": text}


async def test_headers_that_can_not_be_right_are_refused(client: httpx.AsyncClient):
    for name, value in [
        (b"ce-x", b"%C0%A0"),
        (b"ce-x", b"%FF"),
        (b"ce-x", b"%E2%82"),
        (b"ce-x", b"100%"),
        (b"ce-x", b"%zz"),
        (b"ce-x", b"%00"),
        (b"ce-x", b"%0A"),
        (b"ce-x", b"%7F"),
        (b"ce-x", b"caf\xe9"),
        (b"ce-with-hyphen", b"a"),
        (b"ce-data", b"a"),
        (b"ce-datacontenttype", b"text/plain"),
        (b"ce-id", b"2"),
        (b"ce-", b"a"),
    ]:
        headers = [(header.encode(), given.encode()) for header, given in HEADERS.items()]
        assert await refused(client, b"", [*headers, (name, value)]) == name.decode()


async def test_a_binary_body_is_kept_byte_for_byte(client: httpx.AsyncClient, stores: Stores):
    for kind, body in [
        ("application/octet-stream", bytes(range(256))),
        ("text/plain; charset=iso-8859-1", "grüße".encode("latin-1")),
        ("text/plain", b"\xff\xfe"),
        ("text/csv", b"a\x00b"),
        ("application/xml", "<a>ü</a>\r\n".encode()),
        ("", b"\x01\x02"),
    ]:
        unique = {**HEADERS, "ce-id": body[:8].hex()}
        headers = {**unique, "content-type": kind} if kind else unique
        assert (await client.post("/v1/events", content=body, headers=headers)).status_code == 201
        event = await last(stores)
        assert event.data_base64 is not None
        assert base64.b64decode(event.data_base64) == body
        assert event.datacontenttype == (kind or None)


async def test_a_text_is_kept_as_text_and_byte_for_byte(client: httpx.AsyncClient, stores: Stores):
    body = "\ufeffgrüße\r\n\t €".encode()
    await client.post("/v1/events", content=body, headers={**HEADERS, "content-type": "text/plain; charset=UTF-8"})
    event = await last(stores)
    assert isinstance(event.data, str)
    assert event.data.encode() == body
