"""JSON in and out of events. The exact bytes written are the ones kept; nothing here re-encodes stored data."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

import rota_server.domain.event_types  # noqa: F401 - every type can be decoded
from rota_server.domain.errors import Unreadable
from rota_server.domain.events import REASON_LIMIT_CHARS, Event, UnreadableEvent, event_from_json
from rota_server.domain.ids import Position, Term, Version
from rota_server.domain.log import Meta, RawEvent, Recorded
from rota_server.domain.messaging import FeedEvent
from rota_server.domain.stored import WITH_LATER_FIELDS, shallow

NO_META = Meta(actor="unknown")
"""Of an event whose own meta cannot be read."""


def encode_event(event: Event) -> bytes:
    """The event's data as JSON. Raises TypeError for values that JSON does not have."""
    if type(event) in WITH_LATER_FIELDS:
        return orjson.dumps(event, default=shallow, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    return orjson.dumps(event)


def encode_meta(meta: Meta, *, unit: UUID, schema: int = 1) -> bytes:
    """The meta of one event as JSON, without fields that are not set."""
    fields: dict[str, Any] = {"actor": meta.actor, "unit": unit.hex}
    if meta.request_id is not None:
        fields["request_id"] = meta.request_id
    if meta.correlation_id is not None:
        fields["correlation_id"] = meta.correlation_id
    if meta.causation_id is not None:
        fields["causation_id"] = meta.causation_id
    if meta.traceparent is not None:
        fields["traceparent"] = meta.traceparent
    if meta.term is not None:
        fields["term"] = meta.term
    if meta.depth:
        fields["depth"] = meta.depth
    if schema != 1:
        fields["schema"] = schema
    return orjson.dumps(fields)


def meta_from_json(fields: Mapping[str, Any]) -> Meta:
    """The meta that this decoded JSON object stands for."""
    unit = fields.get("unit")
    term = fields.get("term")
    return Meta(
        actor=fields["actor"],
        request_id=fields.get("request_id"),
        correlation_id=fields.get("correlation_id"),
        causation_id=fields.get("causation_id"),
        traceparent=fields.get("traceparent"),
        term=None if term is None else Term(term),
        unit=None if unit is None else UUID(unit),
        schema=fields.get("schema", 1),
        depth=fields.get("depth", 0),
    )


def decode(raw: RawEvent) -> Recorded:
    """A stored event, in the current schema; an UnreadableEvent in its place when it cannot be read."""
    meta, event = NO_META, None
    try:
        meta = meta_from_json(orjson.loads(raw.meta))
        event = event_from_json(raw.type, orjson.loads(raw.data), meta.schema)
    except Unreadable as error:
        event = UnreadableEvent(type=raw.type, reason=error.message)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        event = UnreadableEvent(type=raw.type, reason=f"is not readable: {error!r}"[:REASON_LIMIT_CHARS])
    return Recorded(raw.position, UUID(int=raw.stream_id.int), raw.version, event, meta, raw.recorded_at)


def to_json(raw: RawEvent) -> bytes:
    """The event as the outside reads it (HTTP, feed); `data` and `meta` byte for byte as stored."""
    return (
        f'{{"position":{raw.position},"stream_id":"{raw.stream_id}","version":{raw.version},'
        f'"type":"{raw.type}","recorded_at":"{raw.recorded_at.isoformat()}",'
        f'"data":{raw.data},"meta":{raw.meta}}}'
    ).encode()


def from_json(fields: Mapping[str, Any]) -> Recorded:
    """The event that `to_json` wrote, from its decoded JSON object."""
    meta = meta_from_json(fields["meta"])
    return Recorded(
        Position(fields["position"]),
        UUID(fields["stream_id"]),
        Version(fields["version"]),
        event_from_json(fields["type"], fields["data"], meta.schema),
        meta,
        datetime.fromisoformat(fields["recorded_at"]),
    )


def feed_event(fields: Mapping[str, Any]) -> FeedEvent:
    """The event that `to_json` wrote, from its decoded JSON object, its data left as they are."""
    return FeedEvent(
        fields["position"],
        fields["stream_id"],
        fields["version"],
        fields["type"],
        fields["data"],
        fields["recorded_at"],
        fields["meta"],
    )


def feed_event_of(raw: RawEvent) -> FeedEvent:
    """A stored event as the feed would bring it; without data and meta when these cannot be read."""
    data, meta = {}, {}
    with contextlib.suppress(ValueError):
        data, meta = orjson.loads(raw.data), orjson.loads(raw.meta)
    return FeedEvent(raw.position, str(raw.stream_id), raw.version, raw.type, data, raw.recorded_at.isoformat(), meta)
