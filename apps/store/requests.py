"""Reading requests: bodies within limits, query parameters, who asks and in which trace."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request

from apps.store.intake import load_json, parse_instant
from domain.errors import NotFound, Rejected
from domain.ids import Position
from domain.log import Meta
from domain.ports import JobFilter

BODY_LIMIT_BYTES = 1024 * 1024
BULK_LIMIT_BYTES = 64 * 1024 * 1024
LIST_LIMIT = 500
STATES = frozenset(
    {"scheduled", "waiting", "queued", "running", "retrying", "succeeded", "failed", "cancelled", "expired"}
)


async def read_body(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """The whole body. Raises Rejected as soon as it is larger than the limit."""
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit_bytes: int) -> Rejected:
    return Rejected(f"the body is larger than {limit_bytes} bytes", code="too-large")


async def read_json(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> Any:
    """The decoded JSON body. Raises Rejected."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Rejected(f"the body must be application/json, not {kind[:100]}", code="media-type")
    return load_json(await read_body(request, limit_bytes))


async def read_options(request: Request, allowed: frozenset[str]) -> dict[str, Any]:
    """A small JSON object with some of the allowed fields; an empty body is an empty object."""
    body = await read_body(request)
    value = load_json(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise Rejected("the body is a JSON object", code="wrong-type")
    for name in value:
        if name not in allowed:
            raise Rejected(f"{name}: there is no such field", field=name, code="unknown-field")
    reason = value.get("reason")
    if reason is not None and (not isinstance(reason, str) or len(reason) > 1000):
        raise Rejected("reason: must be a text of up to 1000 characters", field="reason", code="invalid-argument")
    return value


def meta_of(request: Request, traceparent: str | None) -> Meta:
    """Who asks, under which ids."""
    state = request.scope["rota"]
    correlation = request.headers.get("rota-correlation-id")
    if correlation is not None and not re.fullmatch(r"[\x21-\x7e]{1,128}", correlation):
        raise Rejected(
            "Rota-Correlation-Id: up to 128 printable ASCII characters",
            field="Rota-Correlation-Id",
            code="invalid-argument",
        )
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


def number(request: Request, name: str, default: int, *, low: int = 0, high: int = 2**62) -> int:
    """An integer query parameter within its bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?\d{1,19}", text) or not low <= int(text) <= high:
        raise Rejected(f"{name}: must be an integer from {low} to {high}", field=name, code="invalid-argument")
    return int(text)


def at_of(request: Request) -> int | datetime | None:
    """The `at` parameter: a position or an instant."""
    text = request.query_params.get("at")
    if text is None:
        return None
    if re.fullmatch(r"\d{1,18}", text):
        return int(text)
    return instant_of(text, "at")


def instant_of(text: str, name: str) -> datetime:
    """An instant in a query (a `+` may have become a space)."""
    try:
        found = parse_instant(re.sub(r" (\d\d:\d\d)$", r"+\1", text))
    except ValueError as error:
        raise Rejected(f"{name}: {error}", field=name, code="invalid-argument") from None
    assert isinstance(found, datetime)  # noqa: S101
    return found


def filter_of(values: Any, tags: list[str]) -> JobFilter:
    """A filter from query parameters or a JSON object."""
    known = {"state", "queue", "task", "submitted_after", "submitted_before", "tag", "schedule"}
    for name in values:
        if name not in known | {"limit", "cursor", "at_least"}:
            raise Rejected(f"{name}: there is no such filter", field=name, code="unknown-field")
    state = values.get("state")
    if state is not None and state not in STATES:
        raise Rejected(f"state: one of {', '.join(sorted(STATES))}", field="state", code="invalid-argument")
    pairs = {}
    for tag in tags:
        name, separator, value = tag.partition(":")
        if not separator or not name:
            raise Rejected("tag: must be name:value", field="tag", code="invalid-argument")
        pairs[name] = value
    after, before = values.get("submitted_after"), values.get("submitted_before")
    return JobFilter(
        state=state,
        queue=_text(values.get("queue"), "queue"),
        task=_text(values.get("task"), "task"),
        tags=pairs,
        submitted_after=None if after is None else instant_of(_text(after, "submitted_after") or "", "submitted_after"),
        submitted_before=None
        if before is None
        else instant_of(_text(before, "submitted_before") or "", "submitted_before"),
    )


def _text(value: Any, name: str) -> str | None:
    if value is not None and (not isinstance(value, str) or "\x00" in value or len(value) > 300):
        raise Rejected(f"{name}: must be a text", field=name, code="invalid-argument")
    return value


def cursor_of(request: Request) -> Position | None:
    """Where the last page ended."""
    text = request.query_params.get("cursor")
    if text is None:
        return None
    if not re.fullmatch(r"p[0-9a-f]{1,16}", text):
        raise Rejected("cursor: not one that this store gave", field="cursor", code="invalid-argument")
    return Position(int(text[1:], 16))


def cursor_for(position: int) -> str:
    """The opaque text for `cursor_of`."""
    return f"p{position:x}"
