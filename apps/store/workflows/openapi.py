"""What OpenAPI says of workflows and batches. Documents; checks nothing."""

from __future__ import annotations

from typing import Any

from rota_server.apps.store.jobs.openapi import (
    AT_LEAST,
    CURSOR,
    ID,
    INSTANT,
    INTEGER,
    KEY,
    LIMIT,
    REASON,
    TEXT,
    TRACE,
    Schema,
    _json,
    _list,
    _object,
    _parameter,
    _ref,
    _route,
)
from rota_server.domain.workflows.workflow import BATCH_LIMIT, NODES_LIMIT, Kind

STATE: Schema = {"type": "string", "enum": ["running", "cancelling", "succeeded", "failed", "cancelled"]}
COUNTS: Schema = {"type": "object", "additionalProperties": INTEGER}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
STATUS: dict[str, Schema] = {
    "id": ID,
    "name": MAYBE_TEXT,
    "state": STATE,
    "total": INTEGER,
    "counts": COUNTS,
    "reason": MAYBE_TEXT,
    "submitted_at": INSTANT,
    "ended_at": {"type": ["string", "null"], "format": "date-time"},
    "version": INTEGER,
    "position": INTEGER,
    "idempotency_key": MAYBE_TEXT,
}
NODE = _object(id=ID, state=MAYBE_TEXT, after={"type": "array", "items": TEXT})
THEN = _object(id=ID, state=MAYBE_TEXT)
READ = {
    "workflow": _object(**STATUS, jobs={"type": "object", "additionalProperties": NODE}),
    "batch": _object(**STATUS, then={"oneOf": [THEN, {"type": "null"}]}),
}
ASKED = {
    "workflow": _object(
        name=TEXT,
        jobs={
            "type": "object",
            "minProperties": 1,
            "maxProperties": NODES_LIMIT,
            "additionalProperties": _ref("JobRequest"),
        },
    )
    | {"required": ["name", "jobs"]},
    "batch": _object(
        name=TEXT,
        jobs={"type": "array", "minItems": 1, "maxItems": BATCH_LIMIT, "items": _ref("JobRequest")},
        then=_ref("JobRequest"),
    )
    | {"required": ["jobs"]},
}


def of(kind: Kind) -> dict[str, dict[str, Any]]:
    """The documentation of each route."""
    status = _json(READ[kind])
    own_id = _parameter("id", ID, f"The {kind}'s id.", "path")
    change = _route(status, body=_json(REASON), parameters=(own_id,))
    change["openapi_extra"]["requestBody"]["required"] = False
    name = _parameter("name", TEXT, "Those with this name.")
    state = _parameter("state", STATE, "Those in this state.")
    return {
        "submit": _route(status, status=201, body=_json(ASKED[kind]), parameters=(KEY, TRACE)),
        "list": _route(_list(READ[kind]), parameters=(name, state, LIMIT, CURSOR, AT_LEAST)),
        "get": _route(status, parameters=(own_id, AT_LEAST)),
        "cancel": change,
        "retry": change,
    }
