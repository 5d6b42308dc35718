"""What OpenAPI says of subscriptions. Documents; checks nothing."""

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
from rota_server.apps.store.triggers.openapi import PATTERN, STATE

SUBSCRIPTION_ID = _parameter("id", TEXT, "The subscription's id or name.", "path")
NUMBER: Schema = {"type": "number"}
RETRY: Schema = _object(
    max_attempts=INTEGER, backoff=TEXT, initial=NUMBER, factor=NUMBER, maximum=NUMBER, jitter=NUMBER
)
DEFINITION: dict[str, Schema] = {
    "url": {"type": "string", "format": "uri"},
    "match": PATTERN,
    "mode": {"type": "string", "enum": ["structured", "binary"]},
    "retry": RETRY,
    "timeout": NUMBER,
    "description": {"type": ["string", "null"]},
}
SUBSCRIPTION = _object(
    id=ID,
    name=TEXT,
    state=STATE,
    **DEFINITION,
    delivered_to=INTEGER,
    lag=INTEGER,
    pending=INTEGER,
    dead=INTEGER,
    version=INTEGER,
    position=INTEGER,
    created_at=INSTANT,
    changed_at=INSTANT,
)
SECRET: dict[str, Schema] = {"secret": {"type": "string", "description": "Made by Rota unless given; shown once."}}
WITH_SECRET = _object(**SUBSCRIPTION["properties"], **SECRET)
NEW = _object(name=TEXT, **DEFINITION, after={"type": ["integer", "null"]}, **SECRET)
DEAD = _object(position=INTEGER, stream_id=ID, attempts=INTEGER, error=TEXT, at=INSTANT)
REDELIVER = _object(positions={"type": "array", "maxItems": 1000, "items": INTEGER}, reason=TEXT)

CREATE = _route(_json(WITH_SECRET), status=201, body=_json(NEW | {"required": ["name", "url", "match"]}))
LIST = _route(
    _list(SUBSCRIPTION),
    parameters=(_parameter("state", STATE, "Subscriptions in this state."), LIMIT, CURSOR, AT_LEAST),
)
GET = _route(_json(SUBSCRIPTION), parameters=(SUBSCRIPTION_ID, AT_LEAST))
CHANGE = _route(_json(SUBSCRIPTION), body=_json(_object(**DEFINITION, reason=TEXT)), parameters=(SUBSCRIPTION_ID,))
ACT = _route(_json(SUBSCRIPTION), body=_json(REASON), parameters=(SUBSCRIPTION_ID,))
ACT["openapi_extra"]["requestBody"]["required"] = False
CHANGE_SECRET = _route(_json(WITH_SECRET), body=_json(_object(**SECRET, reason=TEXT)), parameters=(SUBSCRIPTION_ID,))
CHANGE_SECRET["openapi_extra"]["requestBody"]["required"] = False
LIST_DEAD = _route(_list(DEAD), parameters=(SUBSCRIPTION_ID, LIMIT, CURSOR))
REDELIVERY = _route(_json(_object(redelivered=INTEGER)), body=_json(REDELIVER), parameters=(SUBSCRIPTION_ID,))
REDELIVERY["openapi_extra"]["requestBody"]["required"] = False
