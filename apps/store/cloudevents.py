"""CloudEvents 1.0 over HTTP: binary, structured and batched content mode.

Source: CloudEvents specification 1.0.2 and its HTTP protocol binding.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.requests import Request

from apps.store.intake import parse_instant
from apps.store.json_body import check_depth, load_json, shown
from apps.store.requests import read_body
from domain.errors import Rejected
from domain.events import EventPublished

BATCH_LIMIT = 1000
DATA_LIMIT_BYTES = 256 * 1024
TEXT_LIMIT_CHARS = 1024
EXTENSIONS_LIMIT = 50
CONTEXT = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
NAMES = frozenset({*CONTEXT, "specversion"})
EXTENSION = re.compile(r"[a-z0-9]{1,64}")
INTEGERS = range(-(2**31), 2**31)
BATCHED = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"


async def read_events(request: Request) -> tuple[list[EventPublished], bool]:
    """The events of a request in any of the three modes, and whether it was a batch.

    Raises Rejected that names the attribute.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == BATCHED:
        values = load_json(await read_body(request))
        if not isinstance(values, list) or not 1 <= len(values) <= BATCH_LIMIT:
            raise Rejected(f"a batch must be a JSON array of 1 to {BATCH_LIMIT} events", code="wrong-type")
        return [_structured(value, f"{index}.") for index, value in enumerate(values)], True
    if kind == STRUCTURED:
        return [_structured(load_json(await read_body(request)), "")], False
    if "ce-specversion" in request.headers:
        return [_binary(request, kind, await read_body(request))], False
    message = f"Content-Type: must be {STRUCTURED} or {BATCHED}, or the headers ce-specversion, ce-id ... be there"
    raise Rejected(message, field="Content-Type", code="media-type")


def _structured(value: Any, prefix: str) -> EventPublished:
    if not isinstance(value, dict):
        raise Rejected("an event must be a JSON object", field=prefix.rstrip(".") or None, code="wrong-type")
    if "data" in value and "data_base64" in value:
        message = f"{prefix}data: excludes data_base64"
        raise Rejected(message, field=f"{prefix}data", code="invalid-argument")
    attributes = {name: part for name, part in value.items() if name not in ("data", "data_base64")}
    encoded = value.get("data_base64")
    if encoded is not None:
        try:
            base64.b64decode(encoded, validate=True)
        except (ValueError, TypeError):
            message = f"{prefix}data_base64: not base64"
            raise Rejected(message, field=f"{prefix}data_base64", code="invalid-argument") from None
    return _event(attributes, value.get("data"), encoded, prefix)


def _binary(request: Request, kind: str, body: bytes) -> EventPublished:
    attributes = {name[3:]: unquote(text) for name, text in request.headers.items() if name.startswith("ce-")}
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
            raise Rejected("data: is not UTF-8", field="data", code="invalid-text") from None
        if "\x00" in text:
            raise Rejected("data: contains a NUL", field="data", code="invalid-text")
        return _event(attributes, text, None, "ce-")
    return _event(attributes, None, base64.b64encode(body).decode(), "ce-")


def _event(attributes: dict[str, Any], data: Any, encoded: str | None, prefix: str) -> EventPublished:
    if attributes.get("specversion") != "1.0":
        message = f"{prefix}specversion: must be 1.0"
        raise Rejected(message, field=f"{prefix}specversion", code="invalid-argument")
    texts = {name: _text(attributes, name, prefix) for name in CONTEXT}
    for name in ("id", "source", "type"):
        if texts[name] is None:
            raise Rejected(f"{prefix}{name}: is needed", field=f"{prefix}{name}", code="missing")
    time = texts.pop("time")
    try:
        instant = None if time is None else parse_instant(time)
    except ValueError as error:
        raise Rejected(f"{prefix}time: {error}", field=f"{prefix}time", code="invalid-argument") from None
    _check_data(data, encoded)
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
        extensions=_extensions(attributes, prefix) or None,
    )


def _extensions(attributes: dict[str, Any], prefix: str) -> dict[str, Any]:
    found = {name: value for name, value in attributes.items() if name not in NAMES and value is not None}
    if len(found) > EXTENSIONS_LIMIT:
        raise Rejected(f"at most {EXTENSIONS_LIMIT} extension attributes", code="invalid-argument")
    for name, value in found.items():
        plain = isinstance(value, bool) or (isinstance(value, int) and value in INTEGERS)
        if not EXTENSION.fullmatch(name) or not (plain or _is_text(value)):
            where = shown(f"{prefix}{name}")
            message = f"{where}: extension attributes are lower-case letters and digits, with plain values"
            raise Rejected(message, field=where, code="invalid-argument")
    return found


def _check_data(data: Any, encoded: str | None) -> None:
    if isinstance(data, dict | list):
        check_depth(data, "data")
    size = len(orjson.dumps(data)) if data is not None else len(encoded or "") * 3 // 4
    if size > DATA_LIMIT_BYTES:
        raise Rejected(f"data: {size} bytes; the limit is {DATA_LIMIT_BYTES}", field="data", code="too-large")


def _text(attributes: dict[str, Any], name: str, prefix: str) -> str | None:
    value = attributes.get(name)
    if value is None:
        return None
    if not _is_text(value) or not value:
        message = f"{prefix}{name}: must be a text of 1 to {TEXT_LIMIT_CHARS} characters"
        raise Rejected(message, field=f"{prefix}{name}", code="invalid-argument")
    return str(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_LIMIT_CHARS and "\x00" not in value
