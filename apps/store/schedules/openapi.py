"""What OpenAPI says of the routes about schedules and calendars. Documents; checks nothing."""

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
    MAYBE_TEXT,
    MAYBE_TIME,
    TEXT,
    TRACE,
    _json,
    _list,
    _object,
    _parameter,
    _ref,
    _route,
)
from rota_server.domain.schedules.events import SKIP_REASONS
from rota_server.domain.schedules.schedule import STATES

Schema = dict[str, Any]

REFERENCE = _parameter("id", TEXT, "The id or the name.", "path")
AT = _parameter("at", TEXT, "A position or an instant in the past.")
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
REASON = _object(reason=TEXT)
TEXTS: Schema = {"type": "array", "items": TEXT}
ANY: Schema = {"type": "object"}

RULE: dict[str, Schema] = {
    "cron": {"anyOf": [TEXT, TEXTS]},
    "every": NUMBER,
    "phase": INSTANT,
    "rrule": TEXT,
    "at": {"type": "array", "items": INSTANT},
    "timezone": TEXT,
    "gap": {"type": "string", "enum": ["shift", "skip"]},
    "fold": {"type": "string", "enum": ["first", "last", "both"]},
    "start": MAYBE_TIME,
    "end": MAYBE_TIME,
    "count": {"type": ["integer", "null"]},
    "jitter": NUMBER,
    "calendars": TEXTS,
}
SCHEDULE = _object(
    id=ID,
    name=TEXT,
    state={"type": "string", "enum": list(STATES)},
    **RULE,
    overlap=TEXT,
    catch_up=_object(policy=TEXT, window=NUMBER, maximum=INTEGER),
    job=_ref("JobRequest"),
    tags=ANY,
    owner=MAYBE_TEXT,
    notes=MAYBE_TEXT,
    next_at=MAYBE_TIME,
    next_local=MAYBE_TIME,
    last_tick_at=MAYBE_TIME,
    settled_until=INSTANT,
    ticked=INTEGER,
    skipped=INTEGER,
    open_jobs={"type": "array", "items": ID},
    queued={"type": "array", "items": _object(at=INSTANT, utc=INSTANT)},
    revision=INTEGER,
    version=INTEGER,
    position=INTEGER,
    created_at=INSTANT,
    changed_at=INSTANT,
    changed_by=TEXT,
    reason=MAYBE_TEXT,
)
TICK = _object(
    at=INSTANT,
    utc=INSTANT,
    until=INSTANT,
    count=INTEGER,
    outcome={"type": "string", "enum": ["ticked", "skipped", "queued"]},
    cause=TEXT,
    reason=MAYBE_TEXT,
    note=MAYBE_TEXT,
    job_id=ID,
    run_at=MAYBE_TIME,
    blocked_by={"type": "array", "items": ID},
    revision=INTEGER,
    version=INTEGER,
    position=INTEGER,
    recorded_at=INSTANT,
)
PREVIEWED = _object(
    at=INSTANT,
    utc=INSTANT,
    outcome={"type": "string", "enum": ["tick", "skip"]},
    reason=MAYBE_TEXT,
    note=MAYBE_TEXT,
    run_at=INSTANT,
)
CALENDAR_FIELDS: dict[str, Schema] = {
    "dates": {"type": "array", "items": {"type": "string", "format": "date"}},
    "weekly": {"type": "array", "items": _object(days=TEXTS, **{"from": TEXT, "to": TEXT})},
    "intervals": {"type": "array", "items": _object(**{"from": INSTANT, "to": INSTANT})},
    "icalendar": TEXT,
    "skip_invalid": BOOLEAN,
}
TOLD = {"type": "array", "items": _object(line=INTEGER, reason=TEXT, event=TEXT)}
CALENDAR = _object(
    id=ID,
    name=TEXT,
    state={"type": "string", "enum": ["active", "archived"]},
    **CALENDAR_FIELDS,
    skipped=TOLD,
    warnings=TOLD,
    revision=INTEGER,
    version=INTEGER,
    position=INTEGER,
    created_at=INSTANT,
    changed_at=INSTANT,
    changed_by=TEXT,
    reason=MAYBE_TEXT,
)

REQUEST = _ref("ScheduleRequest")
CREATE = _route(_json(SCHEDULE), status=201, body=_json(REQUEST), parameters=(TRACE,))
LIST = _route(
    _list(SCHEDULE),
    parameters=(
        _parameter("state", {"type": "string", "enum": list(STATES)}, "Schedules in this state."),
        _parameter("tag", TEXTS, "`name:value`, may be repeated: schedules with all these tags."),
        _parameter("owner", TEXT, "Schedules of this owner."),
        _parameter("task", TEXT, "Schedules whose jobs are of this task."),
        _parameter("queue", TEXT, "Schedules whose jobs go to this queue."),
        LIMIT,
        CURSOR,
        AT_LEAST,
    ),
)
GET = _route(_json(SCHEDULE), parameters=(REFERENCE, AT, AT_LEAST))
CHANGE = _route(_json(SCHEDULE), body=_json(ANY), parameters=(REFERENCE, TRACE))
ACT = _route(_json(SCHEDULE), body=_json(REASON), parameters=(REFERENCE, TRACE))
ACT["openapi_extra"]["requestBody"]["required"] = False
RUN = _route(
    _json(_object(job_id=ID, position=INTEGER)), status=201, body=_json(REASON), parameters=(REFERENCE, KEY, TRACE)
)
RUN["openapi_extra"]["requestBody"]["required"] = False
BACKFILL = _route(
    _json(
        _object(
            dry_run=BOOLEAN,
            jobs=INTEGER,
            skipped=ANY,
            seconds=NUMBER,
            complete=BOOLEAN,
            note=MAYBE_TEXT,
            ticks={"type": "array", "items": _object(job_id=ID, **PREVIEWED["properties"])},
        )
    ),
    body=_json(
        _object(**{"from": INSTANT, "to": INSTANT}, dry_run=BOOLEAN, limit=INTEGER, rate=NUMBER, reason=TEXT)
        | {"required": ["from", "to"]}
    ),
    parameters=(REFERENCE, TRACE),
)
TICKS = _route(
    _list(TICK),
    parameters=(
        REFERENCE,
        _parameter("outcome", {"type": "string", "enum": ["ticked", "skipped", "queued"]}, "Those alone."),
        _parameter("reason", {"type": "string", "enum": list(SKIP_REASONS)}, "Those skipped for this reason."),
        _parameter("expand", BOOLEAN, "Every nominal time of a skipped stretch as an item of its own."),
        LIMIT,
        CURSOR,
        AT_LEAST,
    ),
)
PREVIEW = _route(
    _json(_object(timezone=TEXT, ticks={"type": "array", "items": PREVIEWED})),
    body=_json(_object(**{**RULE, "count": INTEGER}, after=INSTANT, schedule=TEXT)),
)

NAMED = _object(name=TEXT, reason=TEXT, **CALENDAR_FIELDS) | {"required": ["name"]}
CREATE_CALENDAR = _route(_json(CALENDAR), status=201, body=_json(NAMED), parameters=(TRACE,))
LIST_CALENDARS = _route(_list(CALENDAR), parameters=(LIMIT, CURSOR, AT_LEAST))
GET_CALENDAR = _route(_json(CALENDAR), parameters=(REFERENCE, AT, AT_LEAST))
CHANGE_CALENDAR = _route(
    _json(CALENDAR), body=_json(_object(reason=TEXT, **CALENDAR_FIELDS)), parameters=(REFERENCE, TRACE)
)
ARCHIVE_CALENDAR = _route(_json(CALENDAR), body=_json(REASON), parameters=(REFERENCE, TRACE))
ARCHIVE_CALENDAR["openapi_extra"]["requestBody"]["required"] = False
