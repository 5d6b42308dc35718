"""What OpenAPI says of the routes: their parameters, bodies and answers. Documents; checks nothing."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from rota_server.apps.store.jobs.parsing import JobRequest
from rota_server.apps.store.queues.handlers import QueueRequest
from rota_server.apps.store.schedules.parsing import ScheduleRequest
from rota_server.domain.jobs.job import STATES

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
ID: Schema = {"type": "string", "format": "uuid"}
PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema, *more_types: str) -> Schema:
    return {media_type: {"schema": schema} for media_type in ("application/json", *more_types)}


def _parameter(name: str, schema: Schema, description: str, where: str = "query") -> Schema:
    required = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, "schema": schema, "description": description, **required}


JOB_ID = _parameter("id", ID, "The job's id.", "path")
AT_LEAST = _parameter("at_least", INTEGER, "Answer once the log has reached this position.")
LIMIT = _parameter("limit", INTEGER, "How many items.")
CURSOR = _parameter("cursor", TEXT, "`next_cursor` of the page before.")
KEY = _parameter("Idempotency-Key", TEXT, "A repeated request answers with the first job.", "header")
TRACE = _parameter("traceparent", TEXT, "W3C Trace Context.", "header")
AFTER = _parameter("after", INTEGER, "Answer what follows this position.")
FILTERS = [
    _parameter("state", {"type": "string", "enum": list(STATES)}, "Jobs in this state."),
    _parameter("queue", TEXT, "Jobs of this queue."),
    _parameter("task", TEXT, "Jobs of this task."),
    _parameter("tag", {"type": "array", "items": TEXT}, "`name:value`, may be repeated: jobs with all these tags."),
    _parameter("schedule", TEXT, "Jobs made by this schedule."),
    _parameter("origin", ID, "Jobs of this workflow or batch, or made by this trigger or schedule."),
    _parameter("submitted_after", INSTANT, "Jobs submitted later than this."),
    _parameter("submitted_before", INSTANT, "Jobs submitted earlier than this."),
]


def _route(
    answer: Schema | None, *, status: int = 200, body: Schema | None = None, parameters: tuple[Schema, ...] = ()
) -> dict[str, Any]:
    """The documentation of a route, as FastAPI's keyword arguments."""
    responses: dict[int | str, Schema] = {"default": {"description": "What is wrong.", "content": PROBLEM_CONTENT}}
    if answer is not None:
        responses[status] = {"description": "Done.", "content": answer}
    extra: Schema = {"parameters": list(parameters)}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": body}
    return {"status_code": status, "responses": responses, "openapi_extra": extra}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _list(item: Schema) -> Schema:
    items: Schema = {"type": "array", "items": item}
    return _json(_object(items=items, next_cursor={"type": ["string", "null"]}, position=INTEGER))


RESULT = _object(status=INTEGER, id=ID, position=INTEGER, problem=_ref("Problem"))
RESULTS = _json(_object(results={"type": "array", "items": RESULT}))
MANY_JOBS: Schema = {"type": "array", "minItems": 1, "maxItems": 10_000, "items": _ref("JobRequest")}
REASON = _object(reason=TEXT)
ACTION = _object(
    action={"type": "string", "enum": ["cancel", "retry", "release", "reschedule"]},
    filter={"type": "object", "minProperties": 1, "properties": {p["name"]: p["schema"] for p in FILTERS}},
    dry_run={"type": "boolean"},
    reason=TEXT,
    run_at=INSTANT,
) | {"required": ["action", "filter"]}
COUNTS = _object(
    dry_run={"type": "boolean"}, matched=INTEGER, done=INTEGER, refused=INTEGER, complete={"type": "boolean"}
)
CLOUDEVENT: Schema = {"type": "object", "required": ["specversion", "id", "source", "type"]}
CLOUDEVENT_CONTENT = {
    "application/cloudevents+json": {"schema": CLOUDEVENT},
    "application/cloudevents-batch+json": {"schema": {"type": "array", "maxItems": 1000, "items": CLOUDEVENT}},
    "*/*": {"schema": {}},
}

SUBMIT = _route(_json(_ref("Job")), status=201, body=_json(_ref("JobRequest")), parameters=(KEY, TRACE))
SUBMIT_BULK = _route(RESULTS, body=_json(MANY_JOBS) | {"application/x-ndjson": {"schema": TEXT}}, parameters=(TRACE,))
LIST_JOBS = _route(_list(_ref("Job")), parameters=(*FILTERS, LIMIT, CURSOR, AT_LEAST))
GET_JOB = _route(
    _json(_ref("Job")), parameters=(JOB_ID, _parameter("at", TEXT, "A position or an instant in the past."), AT_LEAST)
)
GET_JOB_EVENTS = _route(_list(_ref("Event")), parameters=(JOB_ID, LIMIT, CURSOR, AT_LEAST))
GET_JOB_LOGS = _route(
    _list(_object(attempt=INTEGER, part=INTEGER, stream=TEXT, text=TEXT, at=INSTANT)),
    parameters=(JOB_ID, LIMIT, CURSOR, AT_LEAST),
)
CHANGE_JOB = _route(_json(_ref("Job")), body=_json(REASON), parameters=(JOB_ID,))
CHANGE_JOB["openapi_extra"]["requestBody"]["required"] = False
RESCHEDULE_JOB = _route(
    _json(_ref("Job")),
    body=_json(_object(reason=TEXT, run_at=INSTANT) | {"required": ["run_at"]}),
    parameters=(JOB_ID,),
)
CHANGE_JOBS = _route(_json(COUNTS), body=_json(ACTION))
READ_LOG = _route(
    _list(_ref("Event")),
    parameters=(
        AFTER,
        LIMIT,
        AT_LEAST,
        _parameter("type", TEXT, "Events of this type."),
        _parameter("stream", ID, "Events of this stream."),
        _parameter("correlation", TEXT, "Events with this correlation id."),
    ),
)
FOLLOW_LOG = _route(
    {"text/event-stream": {"schema": TEXT}},
    parameters=(AFTER, _parameter("Last-Event-ID", INTEGER, "The position of the last event seen.", "header")),
)
PUBLISH = _route(_json(RESULT), status=201, body=CLOUDEVENT_CONTENT, parameters=(TRACE,))
MEMBER = _object(id=TEXT, since=INSTANT, host=TEXT, pid=INTEGER)
LIST_EXECUTORS = _route(_list(MEMBER), parameters=(AT_LEAST,))
GET_CLUSTER = _route(
    _json(
        _object(
            leader=MEMBER,
            term={"type": ["integer", "null"]},
            members={"type": "object", "additionalProperties": {"type": "array", "items": MEMBER}},
            position=INTEGER,
        )
    ),
    parameters=(AT_LEAST,),
)
EXPLAIN_JOB = _route(
    _json(
        _object(
            id=ID,
            name={"type": ["string", "null"]},
            state=TEXT,
            summary=TEXT,
            position=INTEGER,
            reasons={"type": "array", "items": _object(code=TEXT, text=TEXT) | {"additionalProperties": True}},
        )
    ),
    parameters=(JOB_ID, AT_LEAST),
)
EXPLAIN_TICK = _route(
    _json(
        _object(
            schedule=ID,
            name=TEXT,
            state=TEXT,
            at={"type": ["string", "null"], "format": "date-time"},
            summary=TEXT,
            position=INTEGER,
            reasons={"type": "array", "items": _object(code=TEXT, text=TEXT) | {"additionalProperties": True}},
        )
    ),
    parameters=(
        _parameter("id", TEXT, "The schedule's id or name.", "path"),
        _parameter("at", INSTANT, "A nominal time; without it: the next one."),
        AT_LEAST,
    ),
)
QUEUE_NAME = _parameter("name", TEXT, "The queue's name.", "path")
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
MAYBE_INTEGER: Schema = {"type": ["integer", "null"]}
RATE: Schema = {
    "oneOf": [_object(limit=INTEGER, per={"type": "number"}, burst=MAYBE_INTEGER), {"type": "null"}],
}
ALERT: Schema = {
    "type": ["object", "null"],
    "properties": {
        "email": {"oneOf": [TEXT, {"type": "array", "items": TEXT}]},
        "webhook": {"oneOf": [TEXT, {"type": "object"}]},
        "queue": TEXT,
    },
}
QUEUE = _object(
    name=TEXT,
    paused={"type": "boolean"},
    paused_by=MAYBE_TEXT,
    paused_since=MAYBE_TIME,
    pause_reason=MAYBE_TEXT,
    concurrency=MAYBE_INTEGER,
    concurrency_per_key=MAYBE_INTEGER,
    rate=RATE,
    rate_per_key=RATE,
    alert=ALERT,
    depth=INTEGER,
    waiting=INTEGER,
    queued=INTEGER,
    running=INTEGER,
    oldest_at=MAYBE_TIME,
    started_per_minute=INTEGER,
    ended_per_minute=INTEGER,
    version=INTEGER,
)
LIST_QUEUES = _route(_list(QUEUE), parameters=(AT_LEAST,))
GET_QUEUE = _route(_json(QUEUE), parameters=(QUEUE_NAME, AT_LEAST))
CHANGE_QUEUE = _route(_json(QUEUE), body=_json(_ref("QueueRequest")), parameters=(QUEUE_NAME,))
REJECTED = _object(
    id=ID,
    task=TEXT,
    args={"type": "object"},
    options={"type": "object"},
    enqueued_by=TEXT,
    enqueued_at=INSTANT,
    rejected_at=INSTANT,
    problem=_ref("Problem"),
)
INBOX = _object(
    waiting=INTEGER,
    oldest={"type": ["string", "null"], "format": "date-time"},
    rejected=INTEGER,
    items={"type": "array", "items": REJECTED},
    next_cursor={"type": ["string", "null"]},
    position=INTEGER,
)
GET_INBOX = _route(_json(INBOX), parameters=(LIMIT, CURSOR))
ACT_ON_REJECTED = _route(_json(_object(id=ID, state=TEXT)), parameters=(JOB_ID,))
GET_METRICS = _route({"text/plain": {"schema": TEXT}})


def describe(app: FastAPI) -> None:
    """Have the application's OpenAPI document hold the schemas that the routes refer to."""
    document = app.openapi

    def complete() -> Schema:
        described = document()
        described.setdefault("components", {}).setdefault("schemas", {}).update(_components())
        return described

    app.openapi = complete  # type: ignore[method-assign] # FastAPI's documented way


def _components() -> dict[str, Schema]:
    nullable_time = {"type": ["string", "null"], "format": "date-time"}
    request = _model(JobRequest)
    asked = {name: schema for name, schema in request["JobRequest"]["properties"].items() if name != "delay"}
    read = dict.fromkeys(("submitted_at", "dispatched_at", "started_at", "finished_at"), nullable_time)
    job = _object(
        id=ID,
        state={"type": "string", "enum": list(STATES)},
        attempt=INTEGER,
        version=INTEGER,
        position=INTEGER,
        result={},
        error={"type": ["object", "null"]},
        executor={"type": ["string", "null"]},
        trace_id={"type": ["string", "null"]},
        unreadable={"type": ["string", "null"]},
        **read,
        **asked,
    )
    event = _object(
        position=INTEGER,
        stream_id=ID,
        version=INTEGER,
        type=TEXT,
        recorded_at=INSTANT,
        data={"type": "object"},
        meta={"type": "object"},
    )
    problem = _object(type=TEXT, title=TEXT, status=INTEGER, detail=TEXT, code=TEXT, field=TEXT)
    return {
        **request,
        **_model(QueueRequest),
        **_model(ScheduleRequest),
        "Job": job,
        "Event": event,
        "Problem": problem,
    }


def _model(model: type[BaseModel]) -> dict[str, Schema]:
    """The schema of a model and of those within it, by name."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), model.__name__: schema}
