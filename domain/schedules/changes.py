"""What people do to a schedule: which events that leads to. Pure; `now` is an argument.

What a definition says is checked where it enters. Here it is decided what becomes of nominal times that are not settled
yet: they belong to the definition, or the pause, that was in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from rota_server.domain.errors import NotPossible, Rejected
from rota_server.domain.events import Event
from rota_server.domain.ids import resource_id
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Meta, ResourceHead
from rota_server.domain.recurrence import zones
from rota_server.domain.recurrence.timing import next_time
from rota_server.domain.schedules import definition as definitions
from rota_server.domain.schedules import events as e
from rota_server.domain.schedules.schedule import KIND, Schedule, foresee, head_of, manual_job_id

ERAS_MAXIMUM = 50
"""Changes that may follow each other before the leader has settled what they left behind."""


RUNS_MAXIMUM = 100
"""Jobs of a schedule that may be unfinished for another run by hand, where overlaps are watched."""


class Written(NamedTuple):
    """The events, the schedule after them, and its row."""

    events: Sequence[Event]
    schedule: Schedule
    head: ResourceHead


def create(
    schedule: Schedule | None, name: str, definition: Mapping[str, Any], reason: str | None, meta: Meta, now: datetime
) -> Written:
    """A new schedule, or a new life of an archived one. Raises NotPossible, Rejected."""
    if schedule is not None and (schedule.state != "archived" or schedule.eras):
        raise NotPossible(f"there is a schedule {name!r} already", code="exists", field="name")
    stream_id = resource_id(KIND, name)
    due_at = _first(definition, stream_id, now, now)
    created = e.ScheduleCreated(
        name=name,
        definition=definition,
        revision=1 if schedule is None else schedule.revision + 1,
        at=now,
        due_at=due_at,
        reason=reason,
    )
    return _written(schedule, stream_id, [created], due_at, meta)


def change(
    schedule: Schedule,
    definition: Mapping[str, Any],
    reason: str | None,
    meta: Meta,
    now: datetime,
    unfinished: Sequence[str] = (),
) -> Written | None:
    """Another definition from now on; None when it is the one in force. Raises NotPossible, Rejected.

    `unfinished`: jobs of the schedule that have not ended; asked for where overlaps have not been watched so far.
    """
    _refuse_archived(schedule)
    if definition == schedule.definition:
        return None
    at = max(now, schedule.base)
    next_at = _first(definition, schedule.id, schedule.created_at, at)
    owed = _owes(schedule, at)
    due_at = None if schedule.state == "paused" else next_at
    changed = e.ScheduleChanged(
        definition=definition,
        revision=schedule.revision + 1,
        at=at,
        owed=owed,
        due_at=_due(schedule, at, due_at, owed=owed),
        reason=reason,
        open=tuple(unfinished) if begins_to_watch(schedule, definition) else (),
    )
    return _written(schedule, schedule.id, [changed], due_at, meta)


def begins_to_watch(schedule: Schedule, definition: Mapping[str, Any]) -> bool:
    """Whether the definition cares for overlaps and the present one does not: then open jobs are not known yet."""
    return schedule.overlap == "allow" and definition["overlap"] != "allow"


def pause(schedule: Schedule, reason: str | None, meta: Meta, now: datetime) -> Written | None:
    """No ticks from now on; None when it is paused. Raises NotPossible."""
    _refuse_archived(schedule)
    if schedule.state == "paused":
        return None
    at = max(now, schedule.base)
    owed = _owes(schedule, at)
    due_at = at if owed or schedule.eras else None
    return _written(
        schedule, schedule.id, [e.SchedulePaused(at=at, owed=owed, due_at=due_at, reason=reason)], None, meta
    )


def resume(schedule: Schedule, reason: str | None, meta: Meta, now: datetime) -> Written | None:
    """Ticks again from now on; None when it is not paused. Raises NotPossible."""
    _refuse_archived(schedule)
    if schedule.state != "paused":
        return None
    at = max(now, schedule.base)
    owed = _owes(schedule, at)
    found = next_time(definitions.timing(schedule), at)
    next_at = None if found is None else found.at
    events: list[Event] = [
        e.ScheduleResumed(at=at, owed=owed, due_at=_due(schedule, at, next_at, owed=owed), reason=reason)
    ]
    if next_at is None and not owed and not schedule.eras:
        events.append(e.ScheduleEnded(at=at))
    return _written(schedule, schedule.id, events, next_at, meta)


def archive(schedule: Schedule, reason: str | None, meta: Meta, now: datetime) -> Written | None:
    """The end of the schedule, queued ticks included; None when it is archived already."""
    if schedule.state == "archived":
        return None
    at = max(now, schedule.base)
    owed = _owes(schedule, at)
    events: list[Event] = [
        e.TickSkipped(nominal=tick.nominal, local=tick.local, reason="ended", revision=tick.revision, note=tick.note)
        for tick in schedule.queued
    ]
    due_at = at if owed or schedule.eras else None
    events.append(e.ScheduleArchived(at=at, owed=owed, due_at=due_at, reason=reason))
    return _written(schedule, schedule.id, events, None, meta)


class Run(NamedTuple):
    """A run that somebody asked for, and its job."""

    written: Written
    job_id: UUID
    spec: JobSpec


def run(schedule: Schedule, key: str, ended: frozenset[str], reason: str | None, meta: Meta, now: datetime) -> Run:
    """Make a job now, whatever the rule and its overlap policy say. `ended`: those of its open jobs that have.

    Raises NotPossible.
    """
    _refuse_archived(schedule)
    if len(schedule.open) - len(ended) >= RUNS_MAXIMUM:
        raise NotPossible(f"{RUNS_MAXIMUM} jobs of schedule {schedule.name} have not ended yet", code="limit")
    job_id = manual_job_id(schedule.id, key)
    local = now.astimezone(zones.zone(schedule.definition["timezone"]).info).isoformat()
    ticked = e.ScheduleTicked(
        nominal=now,
        local=local,
        cause="manual",
        job_id=str(job_id),
        revision=schedule.revision,
        closed=tuple(job for job in schedule.open if job in ended),
        reason=reason,
    )
    spec = definitions.job_of(schedule, schedule.definition, f"manual:{definitions.tick_name(now)}", None)
    return Run(_written(schedule, schedule.id, [ticked], next_at_of(schedule), meta), job_id, spec)


def next_at_of(schedule: Schedule, timings: definitions.Timings | None = None) -> datetime | None:
    """The next nominal time after the cursor of an active schedule that owes nothing to the past."""
    if schedule.state != "active" or schedule.eras:
        return None
    known = timings(schedule, schedule.revision, schedule.definition) if timings else definitions.timing(schedule)
    found = next_time(known, schedule.cursor)
    return None if found is None else found.at


def _refuse_archived(schedule: Schedule) -> None:
    if schedule.state == "archived":
        raise NotPossible(f"schedule {schedule.name} is archived", code="archived")


def _first(definition: Mapping[str, Any], stream_id: UUID, created_at: datetime, after: datetime) -> datetime:
    """The first nominal time of the definition. Raises Rejected when there is none any more."""
    found = next_time(definitions.timing_of(definition, stream_id, created_at), after)
    if found is None:
        raise Rejected(
            "the rule has no time in the future", field=next(f for f in ("end", "count", "at", "rrule", "cron")
            if definition.get(f) is not None), code="never",
        )  # fmt: skip
    return found.at


def _owes(schedule: Schedule, at: datetime) -> bool:
    """Whether what is in force has nominal times up to `at` without an outcome. Raises NotPossible: too many eras."""
    if schedule.state not in ("active", "paused"):
        return False
    found = next_time(definitions.timing(schedule), schedule.base)
    owed = found is not None and found.at <= at
    if owed and len(schedule.eras) >= ERAS_MAXIMUM:
        raise NotPossible("the scheduler has not settled earlier changes yet; try again later", code="unsettled")
    return owed


def _due(schedule: Schedule, at: datetime, next_at: datetime | None, *, owed: bool) -> datetime | None:
    return at if owed or schedule.eras or schedule.queued else next_at


def _written(
    schedule: Schedule | None, stream_id: UUID, events: Sequence[Event], next_at: datetime | None, meta: Meta
) -> Written:
    after = foresee(schedule, stream_id, events, meta)
    assert after is not None  # noqa: S101 - there is at least one event
    return Written(events, after, head_of(after, next_at))
