"""What a schedule's definition means: its timing, its job, its calendars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from rota_server.domain.jobs.spec import JobSpec, Origin, spec_from_json
from rota_server.domain.recurrence import zones
from rota_server.domain.recurrence.calendars import Calendar
from rota_server.domain.recurrence.instants import micros_of, utc_text
from rota_server.domain.recurrence.times import Nominal
from rota_server.domain.recurrence.timing import Timing, parse_timing
from rota_server.domain.schedules.schedule import Schedule

Definition = Mapping[str, Any]

TIMINGS_LIMIT = 16_000
"""Of rules that are all different, some 60 MB."""

CalendarHistory = Callable[[Sequence[str], datetime], Iterable[Calendar]]
"""The calendars of these names as they were in force at an instant."""


class CatchUp(NamedTuple):
    """What becomes of ticks that nobody was there for: which of them run, how old they may be, how many."""

    policy: str
    window_seconds: float
    maximum: int


def timing_of(definition: Definition, schedule_id: UUID, created_at: datetime) -> Timing:
    """When it ticks, calendars left aside: they are asked about each nominal time. Raises Rejected."""
    return parse_timing(definition, seed=schedule_id, created=created_at)


def timing(schedule: Schedule, definition: Definition | None = None) -> Timing:
    """As `timing_of`, of a schedule (or of an earlier definition of it)."""
    return timing_of(schedule.definition if definition is None else definition, schedule.id, schedule.created_at)


class Timings:
    """Timings by definition, the least recently used forgotten: parsing one costs more than asking it.

    A revision of a schedule is one definition only once the log has it, so only stored ones may be asked for.
    """

    def __init__(self, limit: int = TIMINGS_LIMIT) -> None:
        self._limit = limit
        self._known: dict[tuple[UUID, int], Timing] = {}

    def __call__(self, schedule: Schedule, revision: int, definition: Definition) -> Timing:
        """When this revision ticks. Raises Rejected."""
        key = (schedule.id, revision)
        found = self._known.pop(key, None)
        if found is None:
            found = timing(schedule, definition)
            while len(self._known) >= self._limit:
                del self._known[next(iter(self._known))]
        self._known[key] = found
        return found


def catch_up_of(definition: Definition) -> CatchUp:
    """The definition's policy about late ticks."""
    given = definition["catch_up"]
    return CatchUp(given["policy"], given["window"], given["maximum"])


def judged(nominal: Nominal, definition: Definition, calendars_then: CalendarHistory) -> Nominal:
    """The nominal time with what the definition's calendars, as they were then, say about it."""
    names = definition["calendars"]
    if nominal.reason is not None or not names:
        return nominal
    zone = zones.zone(definition["timezone"])
    micros = micros_of(nominal.at)
    for calendar in calendars_then(names, nominal.at):
        found = calendar.reason(micros, zone)
        if found is not None:
            note = found if nominal.note is None else f"{nominal.note}; {found}"
            return nominal._replace(outcome="skip", reason="calendar", note=note, run_at=nominal.at)
    return nominal


def job_of(schedule: Schedule, definition: Definition, name: str, run_at: datetime | None) -> JobSpec:
    """The job that a tick makes; `name` says which of the schedule's jobs it is."""
    spec = spec_from_json(definition["job"])
    return replace(spec, run_at=run_at, origin=Origin(kind="schedule", id=schedule.id, name=name))


def tick_name(nominal: datetime) -> str:
    """What the job of a nominal time is called among those of its schedule."""
    return utc_text(nominal)
