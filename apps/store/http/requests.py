"""Reading requests: bodies within limits, query parameters, who asks and in which trace."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request

from rota_server.apps.store.http.fields import parse_instant
from rota_server.apps.store.http.json_body import decode_json, shown
from rota_server.domain.errors import NotFound, Rejected
from rota_server.domain.ids import Position
from rota_server.domain.jobs.plain_secrets import FOUND_LIMIT, plain_secrets
from rota_server.domain.log import Meta
from rota_server.observability import tracing

BODY_LIMIT_BYTES = 1024 * 1024
BULK_LIMIT_BYTES = 64 * 1024 * 1024
KEYWORDS_LIMIT_CHARS = 500
LIST_LIMIT = 500
REASON_LIMIT_CHARS = 1000


async def read_body(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """The whole body. Raises Rejected as soon as it is larger than the limit."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        message = f"Content-Encoding: {shown(encoding)} is not supported"
        raise Rejected(message, field="Content-Encoding", code="media-type")
    if (declared_length(request) or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
    return b"".join(parts)


def declared_length(request: Request) -> int | None:
    """How many bytes the body will have, None when the request does not say."""
    declared = request.headers.get("content-length", "")
    return int(declared) if re.fullmatch(r"[0-9]{1,18}", declared) else None


def _too_large(limit_bytes: int) -> Rejected:
    return Rejected(f"the body is larger than {limit_bytes} bytes", code="too-large")


async def read_json(request: Request) -> Any:
    """The decoded JSON body. Raises Rejected."""
    media_type(request, "application/json")
    value = await decode_json(await read_body(request))
    warn_of_secrets(request, value)
    return value


def warn_of_secrets(request: Request, value: Any) -> None:
    """Have the answer say where something in the jobs' arguments looks like a secret; see `Guard`."""
    about = request.scope.get("rota")
    if about is not None and (found := plain_secrets(value)):
        about["secrets"] = [*about.get("secrets", ()), *found][:FOUND_LIMIT]


def media_type(request: Request, *allowed: str) -> str:
    """The body's media type. Raises Rejected, also when the request does not say: any page can send such a body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in allowed:
        message = f"Content-Type: must be {' or '.join(allowed)}, not {shown(kind[:100]) or 'left out'}"
        raise Rejected(message, field="Content-Type", code="media-type")
    return kind


async def read_options(request: Request, allowed: frozenset[str]) -> dict[str, Any]:
    """A small JSON object with some of the allowed fields; an empty body is an empty object."""
    if "content-type" in request.headers:
        media_type(request, "application/json")
    body = await read_body(request)
    if body:
        media_type(request, "application/json")
    value = await decode_json(body) if body.strip() else {}
    warn_of_secrets(request, value)
    if not isinstance(value, dict):
        raise Rejected("the body must be a JSON object", code="wrong-type")
    for name in value:
        if name not in allowed:
            raise Rejected(f"{shown(name)}: there is no such field", field=name, code="unknown-field")
    reason = value.get("reason")
    if reason is not None and (not isinstance(reason, str) or len(reason) > REASON_LIMIT_CHARS):
        message = f"reason: must be a text of up to {REASON_LIMIT_CHARS} characters"
        raise Rejected(message, field="reason", code="invalid-argument")
    return value


def traceparent_of(request: Request) -> str | None:
    """The trace that the request belongs to."""
    return tracing.valid_traceparent(request.headers.get("traceparent"))


def meta_of(request: Request, traceparent: str | None) -> Meta:
    """Who asks, under which ids."""
    state = request.scope["rota"]
    correlation = request.headers.get("rota-correlation-id")
    if correlation is not None and not re.fullmatch(r"[\x21-\x7e]{1,128}", correlation):
        message = "Rota-Correlation-Id: must have 1 to 128 printable ASCII characters"
        raise Rejected(message, field="Rota-Correlation-Id", code="invalid-argument")
    return Meta(
        actor=f"http:{state['actor']}",
        request_id=state["request_id"],
        correlation_id=correlation,
        traceparent=traceparent,
    )


def job_id_of(request: Request) -> UUID:
    """The id in the path. Raises NotFound: what is no id is no job's."""
    text = request.path_params["id"]
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"{text[:100]!r} is not the id of a job", field="id") from None


def keywords_of(request: Request) -> list[str]:
    """The header with which the package `rota` says what a program wrote as keywords of a submission."""
    return request.headers.get("rota-keywords", "")[:KEYWORDS_LIMIT_CHARS].split(",")


def number(request: Request, name: str, default: int, *, low: int = 0, high: int = 2**62) -> int:
    """An integer query parameter within its bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise Rejected(f"{name}: must be an integer from {low} to {high}", field=name, code="invalid-argument")
    return int(text)


def at_of(request: Request) -> int | datetime | None:
    """The `at` parameter: a position or an instant."""
    text = request.query_params.get("at")
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    return instant_of(text, "at")


def instant_of(text: str, name: str) -> datetime:
    """An instant in a query (a `+` may have become a space). Raises Rejected."""
    try:
        found: datetime = parse_instant(re.sub(r" ([0-9]{2}:[0-9]{2})$", r"+\1", text))
    except ValueError as error:
        raise Rejected(f"{name}: {error}", field=name, code="invalid-argument") from None
    return found


def cursor_of(request: Request) -> Position | None:
    """Where the last page ended."""
    text = request.query_params.get("cursor")
    if text is None:
        return None
    if not re.fullmatch(r"p[0-9a-f]{1,15}", text):
        raise Rejected("cursor: not one that this store gave", field="cursor", code="invalid-argument")
    return Position(int(text[1:], 16))


def cursor_for(position: int) -> str:
    """The opaque text for `cursor_of`."""
    return f"p{position:x}"
