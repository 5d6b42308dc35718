"""Responses: JSON by orjson, the position of a write in a header, raw events byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.responses import Response

from rota_server.adapters.codec import to_json
from rota_server.domain.log import RawEvent


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as JSON."""
    return Response(orjson.dumps(value), status, headers, "application/json")


def written(value: Any, position: int, status: int = 200, **headers: str) -> Response:
    """The answer to a write."""
    extra = {name.replace("_", "-"): text for name, text in headers.items()}
    return json_response(value, status, {"rota-position": str(position), **extra})


def page(items: Sequence[Any], position: int, next_cursor: str | None = None) -> dict[str, Any]:
    """A list as the contract has it."""
    return {"items": items, "next_cursor": next_cursor, "position": position}


def events_response(events: Sequence[RawEvent], position: int, next_cursor: str | None = None) -> Response:
    """A list of events, their data and meta exactly as stored."""
    items = b",".join(to_json(event) for event in events)
    content = b'{"items":[' + items + b'],"next_cursor":%b,"position":%d}' % (orjson.dumps(next_cursor), position)
    return Response(content, 200, None, "application/json")
