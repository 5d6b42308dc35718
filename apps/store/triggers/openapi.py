"""What OpenAPI says of triggers. Documents; checks nothing."""

from __future__ import annotations

from rota_server.apps.store.jobs.openapi import (
    AT_LEAST,
    CURSOR,
    ID,
    INSTANT,
    INTEGER,
    LIMIT,
    REASON,
    TEXT,
    Schema,
    _json,
    _list,
    _object,
    _parameter,
    _route,
)

STATE: Schema = {"type": "string", "enum": ["active", "paused", "archived"]}
TRIGGER_ID = _parameter("id", TEXT, "The trigger's id or name.", "path")
PATTERN: Schema = {"type": "object", "minProperties": 1, "description": "Which events, as an event pattern."}
TEMPLATE: Schema = {"type": "object", "required": ["task"], "description": "A job, with references into the event."}
DEFINITION: dict[str, Schema] = {"match": PATTERN, "job": TEMPLATE, "description": {"type": ["string", "null"]}}
FAILURE = _object(position=INTEGER, source=TEXT, event_id=TEXT, reason=TEXT, at=INSTANT)
TRIGGER = _object(
    id=ID,
    name=TEXT,
    state=STATE,
    **DEFINITION,
    failures=INTEGER,
    last_failure={"oneOf": [FAILURE, {"type": "null"}]},
    version=INTEGER,
    position=INTEGER,
    created_at=INSTANT,
    changed_at=INSTANT,
)
NAME: Schema = {"type": "string", "description": "Without it, one that follows from `match` and `job`."}
NEW = _object(name=NAME, **DEFINITION) | {"required": ["match", "job"]}

CREATE_TRIGGER = _route(_json(TRIGGER), status=201, body=_json(NEW))
LIST_TRIGGERS = _route(
    _list(TRIGGER), parameters=(_parameter("state", STATE, "Triggers in this state."), LIMIT, CURSOR, AT_LEAST)
)
GET_TRIGGER = _route(_json(TRIGGER), parameters=(TRIGGER_ID, AT_LEAST))
CHANGE_TRIGGER = _route(_json(TRIGGER), body=_json(_object(**DEFINITION, reason=TEXT)), parameters=(TRIGGER_ID,))
ACT_ON_TRIGGER = _route(_json(TRIGGER), body=_json(REASON), parameters=(TRIGGER_ID,))
ACT_ON_TRIGGER["openapi_extra"]["requestBody"]["required"] = False
