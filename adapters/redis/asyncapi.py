"""The channels in Redis as an AsyncAPI 3.0 document: what the entries hold. Reads and writes nothing itself."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from rota_server.adapters.redis.streams import CONTROL, FEED, PRIORITIES, work_stream
from rota_server.domain.events import Event, event_types

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
ID: Schema = {"type": "string", "format": "uuid"}
INTEGER_TEXT: Schema = {"type": "string", "pattern": "^[0-9]+$"}
_DEFINITIONS = "#/components/schemas/"


def asyncapi_document(version: str) -> Schema:
    """The document; `version` is that of Rota."""
    schemas = _event_schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Rota",
            "version": version,
            "description": "Redis Streams. An entry's id is `<position>-0`: the position in the event log of the "
            "event that the entry stands for or ends at. Everything here can be lost and comes again from the log.",
        },
        "defaultContentType": "application/json",
        "channels": {"feed": _feed(), "work": _work(), "control": _control()},
        "operations": {
            name: {"action": "receive", "channel": {"$ref": f"#/channels/{name}"}, "summary": summary}
            for name, summary in (
                ("feed", "Follow every event of the log, in order and without a gap."),
                ("work", "Take dispatched jobs, in the consumer group `executors`."),
                ("control", "Learn which running attempts are to be ended."),
            )
        },
        "components": {
            "messages": {"FeedBatch": _feed_batch(), "WorkItem": _work_item(), "CancelNotice": _cancel_notice()},
            "schemas": schemas,
        },
    }


def _channel(address: str, description: str, message: str, **more: Any) -> Schema:
    reference = {"$ref": f"#/components/messages/{message}"}
    return {"address": address, "description": description, "messages": {message: reference}, **more}


def _feed() -> Schema:
    return _channel(FEED, "The log's tail. Trimmed: who is farther behind reads the log itself.", "FeedBatch")


def _work() -> Schema:
    address = work_stream("{queue}", "{priority}")
    description = "One entry for each dispatch. It is deleted when an executor has claimed the job in the log."
    parameters = {
        "queue": {"description": "The queue's name."},
        "priority": {"description": "The job's priority.", "enum": list(PRIORITIES)},
    }
    return _channel(address, description, "WorkItem", parameters=parameters)


def _control() -> Schema:
    return _channel(CONTROL, "Requests to the executors about attempts that run.", "CancelNotice")


def _message(summary: str, required: list[str], **fields: Schema) -> Schema:
    payload = {"type": "object", "properties": fields, "required": required}
    return {"summary": summary, "payload": payload}


def _feed_batch() -> Schema:
    events = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"type": "array", "items": {"$ref": f"{_DEFINITIONS}RecordedEvent"}},
    }
    first = {**INTEGER_TEXT, "description": "Position of the first event; that of the last one is in the id."}
    return _message("Events of the log without a gap.", ["from", "events"], **{"from": first, "events": events})


def _work_item() -> Schema:
    submitted = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": f"{_DEFINITIONS}RecordedEvent"},
        "description": "The job's first event, when that is the dispatch itself.",
    }
    return _message("A job was dispatched.", ["job", "version"], job=ID, version=INTEGER_TEXT, submitted=submitted)


def _cancel_notice() -> Schema:
    return _message(
        "A running attempt is to be ended.",
        ["job", "attempt", "executor"],
        job=ID,
        attempt=INTEGER_TEXT,
        executor=TEXT,
        reason=TEXT,
    )


def _event_schemas() -> dict[str, Schema]:
    schemas: dict[str, Schema] = {}
    for name, cls in event_types().items():
        schema = _schema(cls)
        schemas.update(schema.pop("$defs", {}))
        schemas[name] = schema
    schemas["RecordedEvent"] = {
        "type": "object",
        "properties": {
            "position": {"type": "integer"},
            "stream_id": ID,
            "version": {"type": "integer"},
            "type": {"type": "string", "enum": sorted(event_types())},
            "recorded_at": {"type": "string", "format": "date-time"},
            "data": {"oneOf": [{"$ref": f"{_DEFINITIONS}{name}"} for name in sorted(event_types())]},
            "meta": {"type": "object"},
        },
        "required": ["position", "stream_id", "version", "type", "recorded_at", "data", "meta"],
    }
    return schemas


def _schema(cls: type[Event]) -> Schema:
    return TypeAdapter(cls).json_schema(mode="serialization", ref_template=_DEFINITIONS + "{model}")
