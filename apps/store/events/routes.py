"""The HTTP routes of the log: read it, publish into it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from uuid_utils.compat import uuid7

from rota_server.apps.histories import histories_of
from rota_server.apps.store.events.cloudevents import read_events
from rota_server.apps.store.events.live import Live
from rota_server.apps.store.events.trails import Trails
from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.requests import meta_of, number, traceparent_of
from rota_server.apps.store.http.responses import events_response, written
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.jobs import openapi
from rota_server.apps.store.parts import Parts
from rota_server.domain.errors import Corruption, Rejected
from rota_server.domain.ids import Position, Version, event_stream_id
from rota_server.domain.jobs.events import EventPublished
from rota_server.domain.log import Appended, Meta, StreamWrite, Unit
from rota_server.domain.triggers.trigger import correlation_of
from rota_server.observability import tracing

PAGE_LIMIT = 1000
ANSWER_BYTES = 8 * 1024 * 1024
"""A page ends when its events' data have so many bytes."""

TEXT_LIMIT_CHARS = 300
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class EventRoutes:
    """The handlers."""

    def __init__(self, parts: Parts, positions: Positions, live: Live) -> None:
        self._log = parts.log
        self._commit = parts.commit
        self._positions = positions
        self._live = live
        self._trails = Trails(parts.resources, parts.deliveries)

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "events")
        routes.add("GET", "/v1/events", self.read_log, **openapi.READ_LOG)
        routes.add("GET", "/v1/events/stream", self.follow_log, **openapi.FOLLOW_LOG)
        routes.add("POST", "/v1/events", self.publish_events, **openapi.PUBLISH)

    async def read_log(self, request: Request) -> Response:
        """The log after position `after`; `type`, `stream` and `correlation` filter it."""
        after = Position(number(request, "after", 0))
        limit = number(request, "limit", 100, low=1, high=PAGE_LIMIT)
        stream, kind = _stream(request), _text(request, "type")
        correlation = _text(request, "correlation")
        await self._positions.at_least(request)
        position = await self._positions.last()
        if (stream, kind, correlation) == (None, None, None):
            events = await self._log.read_page(after, limit, ANSWER_BYTES)
        else:
            events = await self._log.find_raw(
                after, limit, ANSWER_BYTES, stream=stream, event_type=kind, correlation=correlation
            )
        return events_response(events, position)

    async def follow_log(self, request: Request) -> Response:
        """The log, live, as server-sent events; the id is the position. Honours `Last-Event-ID`, else `after`."""
        name = "Last-Event-ID" if "last-event-id" in request.headers else "after"
        given = request.headers.get("last-event-id", request.query_params.get("after"))
        if given is None:
            after = await self._positions.last()
        elif re.fullmatch(r"[0-9]{1,18}", given):
            after = Position(int(given))
        else:
            raise Rejected(f"{name}: must be a position", field=name, code="invalid-argument")
        return StreamingResponse(self._live.follow(after), headers=STREAM_HEADERS, media_type="text/event-stream")

    async def publish_events(self, request: Request) -> Response:
        """Publish events: CloudEvents 1.0 over HTTP, binary, structured or batched.

        One that was published before (same source and id) is answered with its first position.
        """
        with tracing.span("POST /v1/events", parent=traceparent_of(request), kind="server") as span:
            meta = meta_of(request, span.traceparent)
            meta = await self._trails.follow(request, meta)
            events, batched = await read_events(request)
            results = await self._commit.append_all([_unit(event, meta) for event in events])
        streams = [event_stream_id(event.source, event.id) for event in events]
        repeated = [s for s, result in zip(streams, results, strict=True) if not isinstance(result, Appended)]
        first = await self._first_positions(repeated)
        items: list[dict[str, Any]] = []
        for event, stream, result in zip(events, streams, results, strict=True):
            if isinstance(result, Appended):
                status, position = 201, result.first_position
            else:
                status, position = 200, first[stream]
            items.append({"status": status, "id": event.id, "source": event.source, "position": position})
        last = max((item["position"] for item in items), default=await self._positions.last())
        status = 201 if any(item["status"] == 201 for item in items) else 200
        return written({"results": items} if batched else items[0], last, status)

    async def _first_positions(self, streams: Sequence[UUID]) -> dict[UUID, Position]:
        """Where the events are that these streams, each of one event, hold already."""
        first: dict[UUID, Position] = {}
        async for history in histories_of(self._log, dict.fromkeys(streams, 0)):
            first.setdefault(history[0].stream_id, history[0].position)
        for stream in streams:
            if stream not in first:
                raise Corruption(f"stream {stream} refused its first event but has none")
        return first


def _unit(event: EventPublished, meta: Meta) -> Unit:
    stream = event_stream_id(event.source, event.id)
    if meta.correlation_id is None:
        # What follows from the event is found by its id.
        meta = replace(meta, correlation_id=correlation_of(event.id, stream))
    write = StreamWrite(stream_id=stream, expected_version=Version(0), events=[event], head=None)
    return Unit(id=uuid7(), writes=[write], meta=meta)


def _stream(request: Request) -> UUID | None:
    text = request.query_params.get("stream")
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise Rejected("stream: must be the id of a stream", field="stream", code="invalid-argument") from None


def _text(request: Request, name: str) -> str | None:
    text = request.query_params.get(name)
    if text is not None and ("\x00" in text or len(text) > TEXT_LIMIT_CHARS):
        message = f"{name}: must be a text of up to {TEXT_LIMIT_CHARS} characters"
        raise Rejected(message, field=name, code="invalid-argument")
    return text
