"""How schedules, their ticks and calendars read from outside. Pure; instants are left to the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rota_server.domain.errors import Rejected
from rota_server.domain.log import Recorded
from rota_server.domain.recurrence import zones
from rota_server.domain.recurrence.instants import utc_text
from rota_server.domain.schedules import backfill
from rota_server.domain.schedules import events as e
from rota_server.domain.schedules.calendars import SharedCalendar
from rota_server.domain.schedules.changes import next_at_of
from rota_server.domain.schedules.schedule import Schedule


def schedule_view(schedule: Schedule, position: int, next_at: datetime | None) -> dict[str, Any]:
    """The schedule as JSON."""
    return {
        "id": schedule.id,
        "name": schedule.name,
        "state": schedule.state,
        **schedule.definition,
        "job": template_view(schedule.definition["job"]),
        "next_at": next_at,
        "next_local": _local(schedule, next_at),
        "last_tick_at": schedule.last_tick,
        "settled_until": schedule.cursor,
        "ticked": schedule.ticked,
        "skipped": schedule.skipped,
        "open_jobs": schedule.open,
        "queued": [{"at": tick.local, "utc": utc_text(tick.nominal)} for tick in schedule.queued],
        "revision": schedule.revision,
        "version": schedule.version,
        "position": position,
        "created_at": schedule.created_at,
        "changed_at": schedule.at,
        "changed_by": schedule.actor,
        "reason": schedule.reason,
    }


def next_of(schedule: Schedule) -> datetime | None:
    """The next nominal time; None also when this version of Rota cannot read the definition."""
    try:
        return next_at_of(schedule)
    except Rejected:
        return None


def _local(schedule: Schedule, at: datetime | None) -> str | None:
    if at is None:
        return None
    return at.astimezone(zones.zone(schedule.definition["timezone"]).info).isoformat()


def template_view(template: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule's job in the form in which jobs are submitted."""
    retry = template["retry"]
    return {
        "task": template["task"],
        "args": template["args"],
        "queue": template["queue"],
        "priority": template["priority"],
        "timeout": template["timeout_seconds"],
        "tags": template["tags"],
        "key": template["key"],
        "retry": {
            "max_attempts": retry["max_attempts"],
            "backoff": retry["backoff"],
            "initial": retry["initial_seconds"],
            "factor": retry["factor"],
            "maximum": retry["maximum_seconds"],
            "jitter": retry["jitter"],
            **{name: retry[name] for name in ("max_losses",) if name in retry},
        },
        **{name: template[name] for name in ("idempotent",) if name in template},
    }


def tick_view(recorded: Recorded) -> dict[str, Any] | None:
    """One outcome as JSON; None when the event is none."""
    event = recorded.event
    fields: dict[str, Any]
    if isinstance(event, e.ScheduleTicked):
        fields = {
            **_nominal(event.local, event.nominal, "ticked"),
            "cause": event.cause,
            "job_id": event.job_id,
            "run_at": event.run_at,
            "reason": event.reason,
            "note": event.note,
        }
    elif isinstance(event, e.TickQueued):
        fields = {
            **_nominal(event.local, event.nominal, "queued"),
            "blocked_by": event.blocked_by,
            "note": event.note,
        }
    elif isinstance(event, e.TickSkipped):
        fields = {
            **_nominal(event.local, event.nominal, "skipped"),
            "reason": event.reason,
            "blocked_by": event.blocked_by,
            "note": event.note,
        }
    elif isinstance(event, e.TicksSkipped):
        fields = {
            "utc": utc_text(event.first),
            "until": utc_text(event.until),
            "count": event.count,
            "outcome": "skipped",
            "reason": event.reason,
        }
    else:
        return None
    place = {"version": recorded.version, "position": recorded.position, "recorded_at": recorded.recorded_at}
    return {**fields, "revision": event.revision, **place}


def _nominal(local: str, nominal: datetime, outcome: str) -> dict[str, Any]:
    return {"at": local, "utc": utc_text(nominal), "outcome": outcome}


def candidate_view(candidate: backfill.Candidate, run_at: datetime | None) -> dict[str, Any]:
    """One nominal time of a backfill as JSON."""
    nominal = candidate.nominal
    return {
        "at": nominal.local,
        "utc": utc_text(nominal.at),
        "outcome": "tick" if candidate.reason is None else "skip",
        "reason": candidate.reason,
        "note": nominal.note,
        "job_id": candidate.job_id,
        "run_at": run_at,
        "revision": candidate.revision,
    }


def calendar_view(calendar: SharedCalendar, position: int) -> dict[str, Any]:
    """The calendar as JSON."""
    return {
        "id": calendar.id,
        "name": calendar.name,
        "state": "archived" if calendar.archived else "active",
        "skipped": [],
        "warnings": [],
        **calendar.definition,
        "revision": calendar.revision,
        "version": calendar.version,
        "position": position,
        "created_at": calendar.created_at,
        "changed_at": calendar.at,
        "changed_by": calendar.actor,
        "reason": calendar.reason,
    }
