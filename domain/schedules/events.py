"""The events of schedules and of calendars.

Instants that decide something (`at`, `nominal`, `until`) stand in the events themselves: the clock of whoever decided,
which is PostgreSQL's. A nominal time has its outcome in exactly one of ScheduleTicked, TickSkipped and TicksSkipped;
before that it may have been queued. A backfill adds to what stands there and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from rota_server.domain.events import Event, event, made

TickCause = Literal["due", "catch_up", "manual", "backfill", "queued"]
SkipReason = Literal["overlap", "paused", "calendar", "dst_gap", "past_catch_up", "limit", "ended"]
SKIP_REASONS: tuple[SkipReason, ...] = (
    "overlap",
    "paused",
    "calendar",
    "dst_gap",
    "past_catch_up",
    "limit",
    "ended",
)

E = TypeVar("E", bound=Event)
INSTANTS = ("at", "nominal", "until", "first", "due_at", "run_at")


class ScheduleEvent(Event):
    """Base of the events below: instants are read back from their texts, lists become tuples."""

    __slots__ = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Event:
        """Build nested values from their JSON objects."""
        read = dict(data)
        for name in INSTANTS:
            if read.get(name) is not None:
                read[name] = datetime.fromisoformat(read[name])
        for name in ("closed", "blocked_by", "open"):
            if name in read:
                read[name] = tuple(read[name])
        return made(cls, read)


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleCreated(ScheduleEvent):
    """A schedule begins. Nominal times after `at` are its own; `due_at` is the first of them."""

    name: str
    definition: Mapping[str, Any]
    revision: int
    at: datetime
    due_at: datetime | None
    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChanged(ScheduleEvent):
    """From `at` on another definition is in force. `owed`: there are earlier nominal times without an outcome.

    These get theirs by the definition that was in force. `due_at`: when the leader must look at the schedule next.
    `open`: jobs that have not ended, where overlaps are watched from now on.
    """

    definition: Mapping[str, Any]
    revision: int
    at: datetime
    owed: bool
    due_at: datetime | None
    reason: str | None = None
    open: tuple[str, ...] = ()


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePaused(ScheduleEvent):
    """Nominal times after `at` are skipped. `owed` and `due_at` as in ScheduleChanged."""

    at: datetime
    owed: bool
    due_at: datetime | None
    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleResumed(ScheduleEvent):
    """Nominal times after `at` tick again. `owed`: some passed during the pause. `due_at` as in ScheduleChanged."""

    at: datetime
    owed: bool
    due_at: datetime | None
    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleArchived(ScheduleEvent):
    """The schedule is over for good; what was owed is skipped. `owed` and `due_at` as in ScheduleChanged."""

    at: datetime
    owed: bool
    due_at: datetime | None
    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEnded(ScheduleEvent):
    """The rule has no nominal time after `at` any more."""

    at: datetime


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTicked(ScheduleEvent):
    """A nominal time has become a job. `run_at`: not before then, None for at once.

    `local`: on the schedule's own clock; `note`: what its policies changed. `closed`: jobs of the schedule that were
    found to have ended. `settles`: nothing is owed any more to the definition (or pause) before the present one.
    """

    nominal: datetime
    local: str
    cause: TickCause
    job_id: str
    revision: int
    note: str | None = None
    run_at: datetime | None = None
    closed: tuple[str, ...] = ()
    settles: bool = False
    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class TickQueued(ScheduleEvent):
    """A nominal time waits for the end of the jobs in `blocked_by`. Its outcome comes later."""

    nominal: datetime
    local: str
    revision: int
    blocked_by: tuple[str, ...]
    note: str | None = None
    closed: tuple[str, ...] = ()
    settles: bool = False


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class TickSkipped(ScheduleEvent):
    """A nominal time has become no job. `blocked_by`: the jobs that were in its way (`overlap`)."""

    nominal: datetime
    local: str
    reason: SkipReason
    revision: int
    note: str | None = None
    blocked_by: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    settles: bool = False


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class TicksSkipped(ScheduleEvent):
    """All `count` nominal times from `first` up to `until`, both inclusive, have become no jobs."""

    first: datetime
    until: datetime
    count: int
    reason: SkipReason
    revision: int
    settles: bool = False


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarCreated(ScheduleEvent):
    """A calendar of times at which schedules that name it do not tick."""

    name: str
    definition: Mapping[str, Any]
    revision: int
    at: datetime
    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarChanged(ScheduleEvent):
    """From `at` on the calendar says something else."""

    definition: Mapping[str, Any]
    revision: int
    at: datetime
    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarArchived(ScheduleEvent):
    """No schedule may begin to use the calendar any more; those that do keep it."""

    at: datetime
    reason: str | None = None
