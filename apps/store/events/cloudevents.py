"""CloudEvents 1.0 over HTTP: binary, structured and batched content mode. What the specification requires is checked.

Source: CloudEvents specification 1.0.2, its JSON format and its HTTP protocol binding.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
from starlette.requests import Request

from rota_server.apps.store.http.json_body import check_depth, decode_json, shown
from rota_server.apps.store.http.requests import read_body
from rota_server.domain.cloudevents import (
    ATTRIBUTE_NAME,
    INTEGERS,
    is_absolute_uri,
    is_media_type,
    is_uri_reference,
    parse_timestamp,
    string_problem,
)
from rota_server.domain.errors import Rejected
from rota_server.domain.jobs.events import EventPublished

BATCH_LIMIT = 1000
DATA_LIMIT_BYTES = 256 * 1024
TEXT_LIMIT_CHARS = 1024
EXTENSIONS_LIMIT = 50
CONTEXT = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
NAMES = frozenset({*CONTEXT, "specversion"})
BATCHED = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
FAMILY = "application/cloudevents"
REQUIRED_HEADERS = ("ce-specversion", "ce-id", "ce-source", "ce-type")
UTF8 = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
HEADER_LIMIT_BYTES = 16 * TEXT_LIMIT_CHARS
"""The longest header that can hold an attribute: a character takes up to 12 bytes, percent-encoded, and quotes."""

QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)("?)')
"""A quoted string; without the second quote what only looks like one, which is passed as a whole and read once."""

ESCAPED = re.compile(r"\\(.)")
BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


async def read_events(request: Request) -> tuple[list[EventPublished], bool]:
    """The events of a request in any of the three modes, and whether it was a batch.

    Raises Rejected that names the attribute.
    """
    content_type = request.headers.get("content-type", "")
    kind = media_kind(content_type)
    if kind in (BATCHED, STRUCTURED):
        if _charset(content_type) not in UTF8:
            raise Rejected("Content-Type: JSON is UTF-8", field="Content-Type", code="media-type")
        value = await decode_json(await read_body(request))
        if kind == STRUCTURED:
            return [_structured(value, "")], False
        if not isinstance(value, list) or len(value) > BATCH_LIMIT:
            raise Rejected(f"a batch must be a JSON array of up to {BATCH_LIMIT} events", code="wrong-type")
        return [_structured(one, f"{index}.") for index, one in enumerate(value)], True
    if kind.startswith(FAMILY):
        message = f"Content-Type: {shown(kind)} is not known; there are {STRUCTURED} and {BATCHED}"
        raise Rejected(message, field="Content-Type", code="media-type")
    if any(name in request.headers for name in REQUIRED_HEADERS):
        return [await _binary(request, kind, await read_body(request))], False
    message = f"Content-Type: must be {STRUCTURED} or {BATCHED}, or the headers ce-specversion, ce-id ... be there"
    raise Rejected(message, field="Content-Type", code="media-type")


def media_kind(content_type: str) -> str:
    """Type and subtype, without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def _charset(content_type: str) -> str:
    """The charset that the parameters name, `utf-8` when they do not."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return "utf-8"


# -- structured ------------------------------------------------------------------------------------------------------


def _structured(value: Any, prefix: str) -> EventPublished:
    if not isinstance(value, dict):
        raise Rejected("an event must be a JSON object", field=prefix.rstrip(".") or None, code="wrong-type")
    if "data" in value and "data_base64" in value:
        raise _wrong(f"{prefix}data", "excludes data_base64")
    attributes = {name: part for name, part in value.items() if name not in ("data", "data_base64")}
    encoded = None
    if "data_base64" in value:
        encoded = _base64(value["data_base64"], f"{prefix}data_base64")
    kind = attributes.get("datacontenttype")
    text_only = isinstance(kind, str) and not _declares_json(media_kind(kind))
    if "data" in value and text_only and not isinstance(value["data"], str):
        raise _wrong(f"{prefix}data", f"must be a text, since datacontenttype is {shown(str(kind))}, or data_base64")
    return _event(attributes, value.get("data"), encoded, prefix)


def _declares_json(kind: str) -> bool:
    return kind.endswith(("/json", "+json"))


def _base64(encoded: Any, field: str) -> str:
    """Base64 as RFC 4648 has it: padded, and with nothing left over in its last character."""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (ValueError, TypeError):
        raise _wrong(field, "not base64") from None
    if base64.b64encode(decoded).decode() != encoded:
        raise _wrong(field, "not base64: bits are set behind its end")
    return str(encoded)


# -- binary ----------------------------------------------------------------------------------------------------------


async def _binary(request: Request, kind: str, body: bytes) -> EventPublished:
    attributes = _from_headers(request.headers.raw)
    if kind:
        attributes["datacontenttype"] = request.headers["content-type"]
    if not body:
        return _event(attributes, None, None, "ce-")
    charset = _charset(request.headers.get("content-type", ""))
    if _declares_json(kind) and charset in UTF8:
        return _event(attributes, await decode_json(body), None, "ce-")
    if kind.startswith("text/") and charset in UTF8:
        text = _plain_text(body)
        if text is not None:
            return _event(attributes, text, None, "ce-")
    return _event(attributes, None, base64.b64encode(body).decode(), "ce-")


def _plain_text(body: bytes) -> str | None:
    """The text that these bytes are, exactly; None when they are none that can be kept as text."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text


def _from_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for raw_name, raw_value in headers:
        header = raw_name.decode("latin-1").lower()
        if not header.startswith("ce-"):
            continue
        name = header[3:]
        if name in attributes:
            raise _wrong(shown(header), "is there twice")
        if name == "datacontenttype":
            raise _wrong(header, "must not be there: Content-Type says it")
        attributes[name] = _header_text(raw_value, shown(header))
    return attributes


def _header_text(raw: bytes, field: str) -> str:
    """A header's value: quoted strings unescaped, then one round of percent-decoding (binding, section 3.1.3.2)."""
    if len(raw) > HEADER_LIMIT_BYTES:
        raise _wrong(field, f"must be a text of 1 to {TEXT_LIMIT_CHARS} characters")
    try:
        text = raw.decode("ascii").strip()
    except UnicodeDecodeError:
        raise _wrong(field, "must be ASCII; other characters are percent-encoded UTF-8") from None
    text = QUOTED.sub(lambda found: ESCAPED.sub(r"\1", found[1]) if found[2] else found[0], text)
    if BAD_PERCENT.search(text):
        raise _wrong(field, "has a per cent sign that begins no encoded byte")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise _wrong(field, "is not UTF-8 once it is percent-decoded") from None


# -- both ------------------------------------------------------------------------------------------------------------


def _event(attributes: dict[str, Any], data: Any, encoded: str | None, prefix: str) -> EventPublished:
    for name in attributes:
        if not ATTRIBUTE_NAME.fullmatch(name) or name == "data":
            raise _wrong(shown(f"{prefix}{name}"), "an attribute's name has 1 to 64 lower-case letters and digits")
    if attributes.get("specversion") != "1.0":
        missing = attributes.get("specversion") is None
        message = f"{prefix}specversion: " + ("is needed" if missing else "must be 1.0")
        raise Rejected(message, field=f"{prefix}specversion", code="missing" if missing else "invalid-argument")
    texts = {name: _text(attributes, name, prefix) for name in CONTEXT}
    for name in ("id", "source", "type"):
        if texts[name] is None:
            raise Rejected(f"{prefix}{name}: is needed", field=f"{prefix}{name}", code="missing")
    _check_syntax(texts, prefix)
    time = texts.pop("time")
    try:
        instant = None if time is None else parse_timestamp(time)
    except ValueError as error:
        raise _wrong(f"{prefix}time", str(error)) from None
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


def _check_syntax(texts: dict[str, str | None], prefix: str) -> None:
    checks = (
        ("source", is_uri_reference, "must be a URI-reference (RFC 3986)"),
        ("dataschema", is_absolute_uri, "must be an absolute URI (RFC 3986)"),
        ("datacontenttype", is_media_type, "must be a media type (RFC 2046)"),
    )
    for name, good, what in checks:
        text = texts[name]
        if text is not None and not good(text):
            raise _wrong(f"{prefix}{name}", what)


def _extensions(attributes: dict[str, Any], prefix: str) -> dict[str, Any]:
    found = {name: value for name, value in attributes.items() if name not in NAMES and value is not None}
    if len(found) > EXTENSIONS_LIMIT:
        raise Rejected(f"at most {EXTENSIONS_LIMIT} extension attributes", code="invalid-argument")
    for name, value in found.items():
        field = f"{prefix}{name}"
        if isinstance(value, bool):
            continue
        if isinstance(value, int):
            if value not in INTEGERS:
                raise _wrong(field, "must fit into 32 bits")
        elif not isinstance(value, str):
            raise _wrong(field, "must be a text, an integer, true or false")
        else:
            _check_text(value, field)
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
    field = f"{prefix}{name}"
    if not isinstance(value, str) or not value:
        raise _wrong(field, f"must be a text of 1 to {TEXT_LIMIT_CHARS} characters")
    _check_text(value, field)
    return value


def _check_text(value: str, field: str) -> None:
    if len(value) > TEXT_LIMIT_CHARS:
        raise _wrong(field, f"must be a text of 1 to {TEXT_LIMIT_CHARS} characters")
    problem = string_problem(value)
    if problem is not None:
        raise _wrong(field, problem)


def _wrong(field: str, what: str) -> Rejected:
    return Rejected(f"{field}: {what}", field=field, code="invalid-argument")
