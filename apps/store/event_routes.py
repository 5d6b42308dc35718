"""The HTTP routes of the log: read it, follow it, publish into it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse
from uuid_utils.compat import uuid7

from adapters.codec import to_json
from adapters.group_commit import GroupCommit
from apps.store.answers import events_response, written
from apps.store.cloudevents import read_events
from apps.store.positions import Positions
from apps.store.requests import meta_of, number
from domain.errors import Rejected, Unavailable
from domain.events import EventPublished
from domain.ids import Position, Version, event_stream_id
from domain.log import Appended, Meta, StreamWrite, Unit
from observability import tracing

PAGE_LIMIT = 1000
STREAM_PAGE = 500
HEARTBEAT_SECONDS = 15.0


def event_routes(log: Any, commit: GroupCommit, positions: Positions, stop: asyncio.Event) -> APIRouter:
    """The router; live streams end when `stop` is set."""
    router = APIRouter(prefix="/v1/events", tags=["events"])

    @router.get("")
    async def read(request: Request) -> Response:
        """The log behind position `after`; `type`, `stream` and `correlation` filter it."""
        await positions.at_least(request)
        after = Position(number(request, "after", 0))
        limit = number(request, "limit", 100, low=1, high=PAGE_LIMIT)
        stream, kind = request.query_params.get("stream"), request.query_params.get("type")
        correlation = request.query_params.get("correlation")
        position = await positions.last()
        if stream is not None:
            events = [e for e in await log.read_stream_raw(_uuid(stream)) if e.position > after]
            events = [e for e in events if kind is None or e.type == kind][:limit]
        elif kind is not None or correlation is not None:
            events = await log.find_raw(after, limit, event_type=kind, correlation=correlation)
        else:
            events = await log.read_raw(after, limit)
        return events_response(events, position)

    @router.get("/stream")
    async def follow(request: Request) -> Response:
        """The log, live, as server-sent events; the id is the position. Honours `Last-Event-ID` and `after`."""
        given = request.headers.get("last-event-id") or request.query_params.get("after")
        if given is None:
            after = await positions.last()
        elif re.fullmatch(r"\d{1,18}", given):
            after = Position(int(given))
        else:
            raise Rejected("Last-Event-ID: must be a position", field="Last-Event-ID", code="invalid-argument")
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(_live(after), headers=headers, media_type="text/event-stream")

    async def _live(after: Position) -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        while not stop.is_set():
            try:
                events = await log.read_raw(after, STREAM_PAGE)
                if not events:
                    await _next(after)
                    yield b": still here\n\n"
                    continue
            except Unavailable:
                # The reader connects again and goes on where it was.
                return
            after = events[-1].position
            yield b"".join(
                b"id: %d\nevent: %s\ndata: %s\n\n" % (e.position, e.type.encode(), to_json(e)) for e in events
            )

    async def _next(after: Position) -> None:
        waiting = asyncio.ensure_future(log.wait_for_append(after, HEARTBEAT_SECONDS))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            waiting.cancel()
            stopping.cancel()

    @router.post("", status_code=201)
    async def publish(request: Request) -> Response:
        """Publish events: CloudEvents 1.0 over HTTP, binary, structured or batched."""
        events = await read_events(request)
        parent = tracing.valid_traceparent(request.headers.get("traceparent"))
        with tracing.span("POST /v1/events", parent=parent, kind="server") as span:
            meta = meta_of(request, span.traceparent)
            results = await commit.append_all([_unit(event, meta) for event in events])
        items = []
        last = 0
        for event, result in zip(events, results, strict=True):
            if isinstance(result, Appended):
                last = max(last, result.last_position)
                items.append({"id": event.id, "source": event.source, "position": result.first_position, "status": 201})
            else:
                (first, *_) = await log.read_stream(event_stream_id(event.source, event.id))
                last = max(last, first.position)
                items.append({"id": event.id, "source": event.source, "position": first.position, "status": 200})
        status = 201 if any(item["status"] == 201 for item in items) else 200
        value = items[0] if len(items) == 1 else {"results": items}
        return written(value, last, status)

    return router


def _unit(event: EventPublished, meta: Meta) -> Unit:
    stream = event_stream_id(event.source, event.id)
    write = StreamWrite(stream_id=stream, expected_version=Version(0), events=[event], head=None)
    return Unit(id=uuid7(), writes=[write], meta=meta)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Rejected("stream: must be the id of a stream", field="stream", code="invalid-argument") from None
