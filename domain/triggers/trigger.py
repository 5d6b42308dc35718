"""Triggers: what may be done with one, what its events make of it, and which job it makes of a published event. Pure.

A trigger's state is a JSON object, kept in its row of `resources`: `name`, `state` (`active`, `paused`, `archived`),
`match`, `job` (as given), `spec` and `templates` (see TriggerCreated), `description`, `failures` (how many events made
no job) and `last_failure`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid5

from rota_server.domain.builtin.tasks import BUILTIN_TASKS, check_arguments
from rota_server.domain.errors import NotPossible, Rejected, Unreadable
from rota_server.domain.events import Event, named
from rota_server.domain.jobs.secret_references import refuse_foreign_secrets, secrets_in
from rota_server.domain.jobs.spec import JobSpec, Origin, spec_from_json
from rota_server.domain.log import Recorded, ResourceHead
from rota_server.domain.matching.templates import render, sample
from rota_server.domain.triggers import events as t

KIND = "trigger"
CHAIN_LIMIT = 16
"""How many triggers may follow from one another before an event makes no further job."""

CORRELATION_LIMIT_CHARS = 128
ARGS_LIMIT_BYTES = 256 * 1024
TEXT_LIMIT_CHARS = 256
KEY = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
DELAY_LIMIT_SECONDS = 10 * 366 * 24 * 3600
INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
YEARS = range(2000, 2201)
TEMPLATED = ("args", "tags", "key", "delay", "run_at", "expires_at")
"""The fields of a job that may be made from the event."""

Action = Literal["pause", "resume", "archive"]
Doc = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a trigger matches and makes; the fields are those of TriggerCreated."""

    match: Mapping[str, Any]
    job: Mapping[str, Any]
    spec: Mapping[str, Any]
    templates: Mapping[str, Any]
    description: str | None = None


# -- its stream ------------------------------------------------------------------------------------------------------


def evolve_trigger(doc: Doc | None, event: Event) -> dict[str, Any]:
    """The trigger's state after this event. Raises Unreadable when it cannot follow."""
    if isinstance(event, t.TriggerCreated) and doc is None:
        return {**asdict(event), "state": "active", "failures": 0, "last_failure": None}
    if doc is None:
        raise Unreadable(f"a trigger's stream begins with {type(event).__name__}")
    match event:
        case t.TriggerChanged():
            fields = asdict(event)
            del fields["reason"]
            return {**doc, **fields}
        case t.TriggerPaused():
            return {**doc, "state": "paused"}
        case t.TriggerResumed():
            return {**doc, "state": "active"}
        case t.TriggerArchived():
            return {**doc, "state": "archived"}
        case t.TriggerFailed():
            last = asdict(event)
            last["at"] = event.at.isoformat()
            return {**doc, "failures": doc["failures"] + last.pop("count"), "last_failure": last}
    raise Unreadable(f"{named(event)} has no place in a trigger's stream")


def fold_trigger(history: Iterable[Recorded]) -> dict[str, Any] | None:
    """The trigger that this history describes; None for an empty one."""
    doc: dict[str, Any] | None = None
    for recorded in history:
        doc = evolve_trigger(doc, recorded.event)
    return doc


def trigger_head(doc: Doc) -> ResourceHead:
    """The row that stands for the trigger in `resources`; active: it takes events."""
    return ResourceHead(kind=KIND, name=doc["name"], doc=doc, active=doc["state"] == "active")


def change_trigger(doc: Doc, new: Definition, reason: str | None) -> Event | None:
    """What gives the trigger this definition; None when it has it. Raises NotPossible."""
    if doc["state"] == "archived":
        raise NotPossible(f"trigger {doc['name']} is archived", code="archived")
    fields = asdict(new)
    if all(doc[name] == value for name, value in fields.items()):
        return None
    return t.TriggerChanged(**fields, reason=reason)


def act_on_trigger(doc: Doc, action: Action, reason: str | None) -> Event | None:
    """What the action leads to; None when it is true already. Raises NotPossible."""
    if doc["state"] == {"pause": "paused", "resume": "active", "archive": "archived"}[action]:
        return None
    if doc["state"] == "archived":
        raise NotPossible(f"trigger {doc['name']} is archived", code="archived")
    kinds = {"pause": t.TriggerPaused, "resume": t.TriggerResumed, "archive": t.TriggerArchived}
    return kinds[action](reason=reason)


# -- its jobs --------------------------------------------------------------------------------------------------------


def correlation_of(event_id: str, stream_id: UUID | str) -> str:
    """What an event's story is found by where its publisher did not say: the event's id, if that is short enough."""
    return event_id if len(event_id) <= CORRELATION_LIMIT_CHARS else str(stream_id)


def triggered_job_id(trigger_id: UUID, source: str, event_id: str) -> UUID:
    """The one job that this trigger makes of this event."""
    return uuid5(trigger_id, f"{source}\x1f{event_id}")


def triggered_job(doc: Doc, origin: Origin, view: Mapping[str, Any], published_at: datetime) -> JobSpec:
    """The job that the trigger makes of the event. Raises Rejected when the event does not fit.

    `view` is the event as `event_view` shows it. A `delay` counts from `published_at`.
    """
    spec = spec_from_json(doc["spec"])
    made: dict[str, Any] = {}
    for field, template in doc["templates"].items():
        value = render(template, view, field)
        if field == "delay":
            made["run_at"] = published_at + timedelta(seconds=_seconds(value))
        else:
            made[field] = _MAKERS[field](value)
    spec = replace(spec, origin=origin, **made)
    if "args" in made:
        template = sample(doc["templates"]["args"])
        refuse_foreign_secrets(template, spec.args)
        if spec.task in BUILTIN_TASKS:
            check_arguments(spec.task, spec.args, [one.place for one in secrets_in(template)])
    if spec.expires_at is not None and spec.expires_at <= (spec.run_at or published_at):
        raise _wrong("expires_at", "is not later than the time at which the job is to run")
    return spec


def _args(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("args", "must be an object")
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > ARGS_LIMIT_BYTES:
        raise Rejected(f"args: {size} bytes as JSON; the limit is {ARGS_LIMIT_BYTES}", field="args", code="too-large")
    return value


def _tags(value: Any) -> dict[str, str]:
    return {name: _text(part, f"tags.{name}") for name, part in value.items()}


def _key(value: Any) -> str:
    text = _text(value, "key")
    if not KEY.fullmatch(text):
        raise _wrong("key", "must be a text of 1 to 200 characters, none of control")
    return text


def _text(value: Any, field: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or len(value) > TEXT_LIMIT_CHARS:
        raise _wrong(field, f"must be a text of up to {TEXT_LIMIT_CHARS} characters, or a number")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= DELAY_LIMIT_SECONDS:
        raise _wrong("delay", f"must be a number of seconds from 0 to {DELAY_LIMIT_SECONDS}")
    return float(value)


def _instant(field: str, value: Any) -> datetime:
    if not isinstance(value, str) or not INSTANT.fullmatch(value):
        raise _wrong(field, "must be an instant in RFC 3339 with an offset")
    try:
        instant = datetime.fromisoformat(value.upper())
    except ValueError:
        raise _wrong(field, "is no instant that exists") from None
    if instant.year not in YEARS:
        raise _wrong(field, "must lie between the years 2000 and 2200")
    return instant


_MAKERS: Mapping[str, Any] = {
    "args": _args,
    "tags": _tags,
    "key": _key,
    "run_at": lambda value: _instant("run_at", value),
    "expires_at": lambda value: _instant("expires_at", value),
}


def _wrong(field: str, what: str) -> Rejected:
    return Rejected(f"{field}: {what}", field=field, code="invalid-argument")
