"""CloudEvents 1.0 over HTTP: binary, structured and batched content mode.

Source: CloudEvents specification 1.0.2 and its HTTP protocol binding.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request

from apps.store.intake import load_json, parse_instant
from apps.store.requests import read_body
from domain.errors import Rejected
from domain.events import EventPublished

BATCH_LIMIT = 1000
DATA_LIMIT_BYTES = 256 * 1024
CONTEXT = frozenset({"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"})
EXTENSION = re.compile(r"^[a-z0-9]{1,64}$")


async def read_events(request: Request) -> list[EventPublished]:
    """The events of a request in any of the three modes. Raises Rejected that names the attribute."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_body(request)
    if kind == "application/cloudevents-batch+json":
        values = load_json(body)
        if not isinstance(values, list) or not 1 <= len(values) <= BATCH_LIMIT:
            raise Rejected(f"a batch is a JSON array of 1 to {BATCH_LIMIT} events", code="wrong-type")
        events = [_structured(value, f"{index}.") for index, value in enumerate(values)]
        names = {(event.source, event.id) for event in events}
        if len(names) != len(events):
            raise Rejected("two events of the batch have the same source and id", field="id", code="invalid-argument")
        return events
    if kind == "application/cloudevents+json":
        return [_structured(load_json(body), "")]
    if "ce-specversion" in request.headers:
        return [_binary(request, kind, body)]
    raise Rejected("not a CloudEvent: neither a cloudevents content type nor ce- headers", code="media-type")


def _structured(value: Any, prefix: str) -> EventPublished:
    if not isinstance(value, dict):
        raise Rejected("an event is a JSON object", field=prefix.rstrip(".") or None, code="wrong-type")
    if "data" in value and "data_base64" in value:
        raise Rejected("data and data_base64 exclude each other", field=f"{prefix}data", code="invalid-argument")
    attributes = {name: part for name, part in value.items() if name not in ("data", "data_base64")}
    encoded = value.get("data_base64")
    if encoded is not None:
        try:
            base64.b64decode(encoded, validate=True)
        except (ValueError, TypeError):
            raise Rejected("not base64", field=f"{prefix}data_base64", code="invalid-argument") from None
    return _event(attributes, value.get("data"), encoded, prefix)


def _binary(request: Request, kind: str, body: bytes) -> EventPublished:
    attributes = {
        name[3:].lower(): unquote(text) for name, text in request.headers.items() if name.lower().startswith("ce-")
    }
    if kind:
        attributes["datacontenttype"] = request.headers["content-type"]
    if not body:
        return _event(attributes, None, None, "ce-")
    if kind == "application/json" or kind.endswith("+json"):
        return _event(attributes, load_json(body), None, "ce-")
    if kind.startswith("text/"):
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise Rejected("the body is not UTF-8", field="data", code="invalid-argument") from None
        if "\x00" in text:
            raise Rejected("data: contains a NUL", field="data", code="invalid-text")
        return _event(attributes, text, None, "ce-")
    return _event(attributes, None, base64.b64encode(body).decode(), "ce-")


def _event(attributes: dict[str, Any], data: Any, encoded: str | None, prefix: str) -> EventPublished:
    if attributes.get("specversion") != "1.0":
        raise Rejected("specversion must be 1.0", field=f"{prefix}specversion", code="invalid-argument")
    texts = {name: _text(attributes, name, prefix) for name in CONTEXT - {"specversion"}}
    for name in ("id", "source", "type"):
        if texts[name] is None:
            raise Rejected(f"{name} is needed", field=f"{prefix}{name}", code="missing")
    extensions = {}
    for name, value in attributes.items():
        if name in CONTEXT:
            continue
        if not EXTENSION.match(name) or not isinstance(value, str | int | bool):
            raise Rejected(
                "extension attributes are lower-case letters and digits, with plain values",
                field=f"{prefix}{name}"[:120],
                code="invalid-argument",
            )
        extensions[name] = value
    time = texts.pop("time")
    try:
        instant = None if time is None else parse_instant(time)
    except ValueError as error:
        raise Rejected(f"time: {error}", field=f"{prefix}time", code="invalid-argument") from None
    return EventPublished(
        id=texts["id"] or "",
        source=texts["source"] or "",
        type=texts["type"] or "",
        subject=texts["subject"],
        time=instant,
        datacontenttype=texts["datacontenttype"],
        dataschema=texts["dataschema"],
        data=data,
        data_base64=encoded,
        extensions=extensions or None,
    )


def _text(attributes: dict[str, Any], name: str, prefix: str) -> str | None:
    value = attributes.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= 1024 or "\x00" in value:
        raise Rejected(
            f"{name} must be a text of 1 to 1024 characters", field=f"{prefix}{name}", code="invalid-argument"
        )
    return value
