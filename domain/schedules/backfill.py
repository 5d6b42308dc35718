"""The past that is made up for: which nominal times of a range would run, by what was in force then.

Pure. The job of a nominal time has the same id whoever makes it, so what ran already cannot run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from rota_server.domain.errors import NotPossible, Rejected
from rota_server.domain.events import Event
from rota_server.domain.log import Meta
from rota_server.domain.recurrence.counting import count_times
from rota_server.domain.recurrence.times import SKIP, Nominal, nominal_times
from rota_server.domain.schedules import definition as definitions
from rota_server.domain.schedules import events as e
from rota_server.domain.schedules.changes import Written, next_at_of
from rota_server.domain.schedules.definition import CalendarHistory, Definition
from rota_server.domain.schedules.schedule import Schedule, foresee, head_of, tick_job_id
from rota_server.domain.schedules.ticking import NewJob

RANGE_MAXIMUM = 10_000
"""Nominal times in the range of one backfill."""

UNIT_TICKS = 200
"""Jobs of a backfill in one unit."""


class InForce(NamedTuple):
    """A definition, and the nominal times (`after`, `until`] that were its own; None: without an end there."""

    definition: Definition
    revision: int
    after: datetime | None
    until: datetime | None


class Candidate(NamedTuple):
    """A nominal time of the range. `reason`: why no job is made, None where one is."""

    nominal: Nominal
    job_id: UUID
    revision: int
    definition: Definition
    reason: str | None


def candidates(
    schedule: Schedule, in_force: Iterable[InForce], first: datetime, last: datetime, calendars_then: CalendarHistory
) -> list[Candidate]:
    """The nominal times from `first` to `last`, both included, in order. Raises Rejected: too many, unusable.

    Only what has been decided already can be made up for: nothing behind the schedule's cursor.
    """
    last = min(last, schedule.cursor)
    queued = {tick.nominal for tick in schedule.queued}
    found: list[Candidate] = []
    for era in in_force:
        low = (
            first - timedelta(microseconds=1)
            if era.after is None
            else max(first - timedelta(microseconds=1), era.after)
        )
        high = last if era.until is None else min(last, era.until)
        if low >= high:
            continue
        timing = definitions.timing(schedule, era.definition)
        if len(found) + count_times(timing, low, high) > RANGE_MAXIMUM:
            message = f"the range holds more than {RANGE_MAXIMUM} nominal times; take several shorter ones"
            raise Rejected(message, field="to", code="too-many")
        for nominal in nominal_times(timing, low, until=high):
            judged = definitions.judged(nominal, era.definition, calendars_then)
            reason = judged.reason if judged.outcome == SKIP else None
            if reason is None and judged.at in queued:
                reason = "queued"
            job_id = tick_job_id(schedule.id, judged.at)
            found.append(Candidate(judged, job_id, era.revision, era.definition, reason))
    return found


def without(found: Iterable[Candidate], ran: AbstractSet[UUID], limit: int) -> list[Candidate]:
    """The candidates, those marked whose job is there already (`ran`) and those beyond the limit (`limit`)."""
    marked: list[Candidate] = []
    room = limit
    for candidate in found:
        reason = candidate.reason
        if reason is None and candidate.job_id in ran:
            reason = "ran"
        if reason is None:
            reason = "limit" if room <= 0 else None
            room -= 1
        marked.append(candidate._replace(reason=reason))
    return marked


class Filled(NamedTuple):
    """Some ticks of a backfill, and their jobs."""

    written: Written
    jobs: Sequence[NewJob]


def fill(
    schedule: Schedule,
    chosen: Sequence[Candidate],
    start_at: datetime,
    spacing: timedelta,
    reason: str | None,
    meta: Meta,
) -> Filled:
    """Make the jobs of these nominal times, the first at `start_at`, so far apart. Raises NotPossible."""
    if schedule.state == "archived":
        raise NotPossible(f"schedule {schedule.name} is archived", code="archived")
    events: list[Event] = []
    jobs: list[NewJob] = []
    for place, candidate in enumerate(chosen):
        nominal = candidate.nominal
        run_at = start_at + place * spacing
        name = definitions.tick_name(nominal.at)
        jobs.append(NewJob(candidate.job_id, definitions.job_of(schedule, candidate.definition, name, run_at)))
        events.append(
            e.ScheduleTicked(
                nominal=nominal.at,
                local=nominal.local,
                cause="backfill",
                job_id=str(candidate.job_id),
                revision=candidate.revision,
                note=nominal.note,
                run_at=run_at,
                reason=reason,
            )
        )
    after = foresee(schedule, schedule.id, events, meta)
    assert after is not None  # noqa: S101 - a schedule does not vanish
    return Filled(Written(events, after, head_of(after, next_at_of(after))), jobs)
