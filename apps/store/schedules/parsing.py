"""From a request's JSON to a schedule's definition. Everything that is wrong is refused with the field's name.

A definition is the whole of what a schedule is: its rule, policies, calendars, job and labels, with every default
filled in, so that a later version of Rota with other defaults changes nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema

from rota_server.apps.store.http.fields import Name, Number, TagName, TagValue, rejected
from rota_server.apps.store.jobs.parsing import parse_job
from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence import cron
from rota_server.domain.recurrence.rules import KINDS
from rota_server.domain.recurrence.timing import parse_timing
from rota_server.domain.schedules.ticking import TICKS_MAXIMUM
from rota_server.domain.stored import without_defaults

TIMING_FIELDS = (*KINDS, "phase", "timezone", "gap", "fold", "start", "end", "count", "jitter")
NOT_IN_TEMPLATES = ("run_at", "delay", "expires_at", "idempotency_key", "after", "unique")
"""What a schedule itself decides about its jobs, or what would be the same for all of them."""

WINDOW_LIMIT_SECONDS = 366 * 86_400
NOTES_LIMIT_CHARS = 10_000


def _overlap(value: Any) -> Any:
    return value.strip().lower().replace(" ", "_").replace("-", "_") if isinstance(value, str) else value


Overlap = Annotated[
    Literal["allow", "skip", "queue_one", "queue_all", "cancel_running", "replace"], BeforeValidator(_overlap)
]


Cron = Annotated[
    Any,
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "null"}]}
    ),
]
"""What it must be is told with its place where it is read."""


class CatchUpRequest(BaseModel):
    """Which late ticks run: none, the latest, or all; not older than `window` seconds, at most `maximum`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: Literal["none", "latest", "all"] = "latest"
    window: Number = Field(86_400, ge=0, le=WINDOW_LIMIT_SECONDS)
    maximum: int = Field(100, ge=1, le=TICKS_MAXIMUM)


class ScheduleRequest(BaseModel):
    """A schedule as asked for: exactly one of `cron`, `every`, `rrule`, `at`, and what to run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name
    cron: Cron = Field(None, description="five fields, or six with seconds first; `@hourly` and its like; or a list")
    every: Number | None = Field(None, description="seconds from one tick to the next")
    phase: str | None = Field(None, description="an instant that is a tick of `every`")
    rrule: str | None = Field(None, description="a recurrence rule of RFC 5545, or a set of them")
    at: list[str] | None = Field(None, description="a list of instants")
    timezone: str | None = Field(None, description="an IANA time zone; UTC unless given")
    gap: Literal["shift", "skip"] | None = None
    fold: Literal["first", "last", "both"] | None = None
    start: str | None = None
    end: str | None = None
    count: int | None = None
    jitter: Number | None = None
    calendars: list[Name] = Field(default_factory=list, description="names of calendars of exclusions")
    overlap: Overlap = "allow"
    catch_up: CatchUpRequest = Field(default_factory=CatchUpRequest)
    job: dict[str, Any]
    tags: dict[TagName, TagValue] = Field(default_factory=dict, max_length=20)
    owner: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    notes: Annotated[str, StringConstraints(max_length=NOTES_LIMIT_CHARS)] | None = None
    reason: Annotated[str, StringConstraints(max_length=1000)] | None = None


Known = Mapping[str, Mapping[str, Any]] | None


def parse_schedule(value: Any) -> ScheduleRequest:
    """The request, its types checked. Raises Rejected."""
    if not isinstance(value, dict):
        raise Rejected("a schedule is a JSON object", code="wrong-type")
    try:
        request = ScheduleRequest.model_validate({k: v for k, v in value.items() if v is not None or k == "job"})
    except ValidationError as error:
        raise rejected(error) from None
    _refuse_ids(request.name)
    return request


def _refuse_ids(name: str) -> None:
    try:
        UUID(name)
    except ValueError:
        return
    raise Rejected("name: must not look like an id", field="name", code="invalid-argument")


def task_of(value: Any) -> set[str]:
    """The task that a schedule's job names, if it names one."""
    job = value.get("job") if isinstance(value, dict) else None
    task = job.get("task") if isinstance(job, dict) else None
    return {task} if isinstance(task, str) else set()


def refuse_surprises(value: Any) -> None:
    """Refuse cron lines of a request that do what hardly anybody means. What is stored already may go on."""
    lines = value.get("cron") if isinstance(value, dict) else None
    if lines is None:
        return
    found = lines if isinstance(lines, list) else [lines]
    for place, line in enumerate(found):
        field = f"cron.{place}" if found is lines else "cron"
        told = cron.surprise(cron.parse_cron(line, field))
        if told is not None:
            raise Rejected(told, field=field, code="cron")


def definition_of(
    request: ScheduleRequest, schedule_id: UUID, created_at: datetime, now: datetime, known: Known, *, job: Any = None
) -> dict[str, Any]:
    """The checked definition. `job`: the template as it stands in a definition, kept as it is. Raises Rejected."""
    timing_spec = {name: found for name in TIMING_FIELDS if (found := getattr(request, name)) is not None}
    timing = parse_timing(timing_spec, seed=schedule_id, created=created_at)
    if len(set(request.calendars)) != len(request.calendars):
        raise Rejected("calendars: one is named twice", field="calendars", code="invalid-argument")
    return {
        **{name: timing_spec[name] for name in (*KINDS, "phase") if name in timing_spec},
        "timezone": timing.timezone,
        "gap": timing.gap,
        "fold": timing.fold,
        "start": request.start,
        "end": request.end,
        "count": request.count,
        "jitter": timing.jitter,
        "calendars": request.calendars,
        "overlap": request.overlap,
        "catch_up": request.catch_up.model_dump(),
        "job": _template(request.job, now, known) if job is None else job,
        "tags": request.tags,
        "owner": request.owner,
        "notes": request.notes,
    }


def _template(value: dict[str, Any], now: datetime, known: Known) -> dict[str, Any]:
    for name in NOT_IN_TEMPLATES:
        if value.get(name) is not None:
            message = f"job.{name}: the schedule decides that, not its job"
            raise Rejected(message, field=f"job.{name}", code="invalid-argument")
    try:
        spec = parse_job(value, now, known)
    except Rejected as error:
        field = "job" if error.field is None else f"job.{error.field}"
        text = error.message if error.field is None else f"job.{error.message}"
        raise Rejected(text, field=field, code=error.code) from None
    template = without_defaults(asdict(spec))
    template["args"], template["tags"] = dict(spec.args), dict(spec.tags)
    return template


def request_of(name: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """The request that a definition could have come from, its job left out."""
    return {"name": name, **{key: value for key, value in definition.items() if key != "job" and value is not None}}


def merged(name: str, definition: Mapping[str, Any], change: Any) -> dict[str, Any]:
    """A definition's request with what a change names; null brings a default back. Raises Rejected."""
    if not isinstance(change, dict):
        raise Rejected("a change is a JSON object", code="wrong-type")
    if not set(change) - {"reason"}:
        raise Rejected("the body names nothing to change", code="missing")
    if change.get("name", name) != name:
        raise Rejected("name: a schedule keeps its name", field="name", code="invalid-argument")
    if "job" in change and change["job"] is None:
        raise Rejected("job: a schedule needs one", field="job", code="missing")
    kept = request_of(name, definition)
    if any(change.get(kind) is not None for kind in KINDS):
        for kind in (*KINDS, "phase"):
            kept.pop(kind, None)
    kept["job"] = {}
    return {**kept, **change}
