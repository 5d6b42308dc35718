"""A schedule's state and how events change it.

`evolve` only folds; what may happen is the business of `changes` and `ticking`. The state as a JSON object is the
document of the schedule's row, so nobody folds a long stream to know it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid5

from rota_server.domain.errors import Unreadable
from rota_server.domain.events import Event, named
from rota_server.domain.ids import Position, Version
from rota_server.domain.log import Meta, Recorded, ResourceHead
from rota_server.domain.recurrence.instants import utc_text
from rota_server.domain.schedules import events as e

KIND = "schedule"

State = Literal["active", "paused", "ended", "archived"]
STATES: tuple[State, ...] = ("active", "paused", "ended", "archived")
Overlap = Literal["allow", "skip", "queue_one", "queue_all", "cancel_running", "replace"]
OVERLAPS: tuple[Overlap, ...] = ("allow", "skip", "queue_one", "queue_all", "cancel_running", "replace")

UNRECORDED = datetime(2000, 1, 1, tzinfo=UTC)
"""Stands for the log's time of an event that is not in the log yet: nothing of a schedule is read by it."""

REVISIONS_KEPT = 200
"""Revisions whose place in the stream stands in the document; older ones are found by reading the stream."""


class Era(NamedTuple):
    """A definition, or a pause, that is over and still owes outcomes for nominal times up to `until`.

    What follows it counts from `then`.
    """

    until: datetime
    then: datetime
    mode: Literal["active", "paused", "ended"]
    revision: int
    definition: Mapping[str, Any]


class Queued(NamedTuple):
    """A nominal time that waits for the end of the jobs before it."""

    nominal: datetime
    local: str
    note: str | None
    revision: int


class Revision(NamedTuple):
    """When a definition came into force, and by which event."""

    revision: int
    version: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What is known of a schedule at a version of its stream.

    Every nominal time up to `cursor` has its outcome, or is in `queued`. `eras` are what is owed to the past, oldest
    first. `open` are its jobs that have not ended as far as it knows (not kept for `overlap: allow`). `at`, `actor` and
    `reason` are those of the last change that people made.
    """

    id: UUID
    name: str
    version: Version
    state: State
    definition: Mapping[str, Any]
    revision: int
    created_at: datetime
    at: datetime
    cursor: datetime
    actor: str = ""
    reason: str | None = None
    eras: tuple[Era, ...] = ()
    open: tuple[str, ...] = ()
    queued: tuple[Queued, ...] = ()
    revisions: tuple[Revision, ...] = ()
    ticked: int = 0
    skipped: int = 0
    last_tick: datetime | None = None

    @property
    def base(self) -> datetime:
        """The instant behind which nominal times belong to what is in force now."""
        return self.eras[-1].then if self.eras else self.cursor

    @property
    def overlap(self) -> Overlap:
        """What happens when a nominal time comes while a job of the schedule has not ended."""
        policy: Overlap = self.definition["overlap"]
        return policy


def tick_job_id(schedule_id: UUID, nominal: datetime) -> UUID:
    """The id of the job that this nominal time becomes, whoever makes it."""
    return uuid5(schedule_id, f"tick:{utc_text(nominal)}")


def manual_job_id(schedule_id: UUID, key: str) -> UUID:
    """The id of the job of a run that somebody asked for under this key."""
    return uuid5(schedule_id, f"manual:{key}")


def evolve(schedule: Schedule | None, recorded: Recorded) -> Schedule:
    """The schedule after this event. Raises Unreadable when the event cannot follow."""
    event = recorded.event
    if isinstance(event, e.ScheduleCreated):
        return _created(schedule, event, recorded)
    change = _CHANGES.get(type(event))
    if schedule is None or change is None:
        raise Unreadable(f"{named(event)} has no place in a schedule's stream", position=recorded.position)
    if recorded.version != schedule.version + 1:
        message = f"schedule {schedule.id}: version {recorded.version} follows {schedule.version}"
        raise Unreadable(message, position=recorded.position)
    return replace(change(schedule, event, recorded), version=recorded.version)


def fold(history: Iterable[Recorded]) -> Schedule | None:
    """The schedule that this history, from its first event on, describes; None for an empty one."""
    schedule: Schedule | None = None
    for recorded in history:
        schedule = evolve(schedule, recorded)
    return schedule


def foresee(schedule: Schedule | None, stream_id: UUID, events: Iterable[Event], meta: Meta) -> Schedule | None:
    """The schedule as it will be when the log has taken these events."""
    version = 0 if schedule is None else schedule.version
    for event in events:
        version += 1
        place = Recorded(Position(0), stream_id, Version(version), event, meta, UNRECORDED)
        schedule = evolve(schedule, place)
    return schedule


def head_of(schedule: Schedule, next_at: datetime | None) -> ResourceHead:
    """The schedule's row. `next_at`: its next nominal time after the cursor; asked for only while it is active."""
    due: datetime | None = None
    if schedule.eras:
        due = schedule.cursor
    elif schedule.queued and schedule.state != "paused":
        due = schedule.queued[0].nominal
    elif schedule.state == "active":
        due = next_at
    live = schedule.state in ("active", "paused")
    return ResourceHead(kind=KIND, name=schedule.name, doc=to_json(schedule), active=live, due_at=due)


def to_json(schedule: Schedule) -> dict[str, Any]:
    """The document of the schedule's row, which `from_json` reads back."""
    return {
        "state": schedule.state,
        "definition": schedule.definition,
        "revision": schedule.revision,
        "created_at": schedule.created_at.isoformat(),
        "at": schedule.at.isoformat(),
        "cursor": schedule.cursor.isoformat(),
        "actor": schedule.actor,
        "reason": schedule.reason,
        "eras": [[era.until.isoformat(), era.then.isoformat(), *era[2:]] for era in schedule.eras],
        "open": list(schedule.open),
        "queued": [[tick.nominal.isoformat(), *tick[1:]] for tick in schedule.queued],
        "revisions": [[r.revision, r.version, r.at.isoformat()] for r in schedule.revisions],
        "ticked": schedule.ticked,
        "skipped": schedule.skipped,
        "last_tick": None if schedule.last_tick is None else schedule.last_tick.isoformat(),
    }


def from_json(stream_id: UUID, name: str, version: Version, doc: Mapping[str, Any]) -> Schedule:
    """The schedule of its row."""
    instant = datetime.fromisoformat
    return Schedule(
        id=stream_id,
        name=name,
        version=version,
        state=doc["state"],
        definition=doc["definition"],
        revision=doc["revision"],
        created_at=instant(doc["created_at"]),
        at=instant(doc["at"]),
        cursor=instant(doc["cursor"]),
        actor=doc["actor"],
        reason=doc["reason"],
        eras=tuple(Era(instant(era[0]), instant(era[1]), *era[2:]) for era in doc["eras"]),
        open=tuple(doc["open"]),
        queued=tuple(Queued(instant(tick[0]), *tick[1:]) for tick in doc["queued"]),
        revisions=tuple(Revision(r[0], r[1], instant(r[2])) for r in doc["revisions"]),
        ticked=doc["ticked"],
        skipped=doc["skipped"],
        last_tick=None if doc["last_tick"] is None else instant(doc["last_tick"]),
    )


# -- what people do ----------------------------------------------------------------------------------------------------


def _created(schedule: Schedule | None, event: e.ScheduleCreated, recorded: Recorded) -> Schedule:
    if schedule is not None and schedule.state != "archived":
        raise Unreadable(f"schedule {schedule.id} is created twice", position=recorded.position)
    known = () if schedule is None else schedule.revisions
    return Schedule(
        id=recorded.stream_id,
        name=event.name,
        version=recorded.version,
        state="active",
        definition=event.definition,
        revision=event.revision,
        created_at=event.at,
        at=event.at,
        cursor=event.at,
        actor=recorded.meta.actor,
        reason=event.reason,
        revisions=_with_revision(known, event.revision, recorded.version, event.at),
        ticked=0 if schedule is None else schedule.ticked,
        skipped=0 if schedule is None else schedule.skipped,
        last_tick=None if schedule is None else schedule.last_tick,
    )


def _with_revision(known: tuple[Revision, ...], revision: int, version: int, at: datetime) -> tuple[Revision, ...]:
    return (*known, Revision(revision, version, at))[-REVISIONS_KEPT:]


Change = e.ScheduleChanged | e.SchedulePaused | e.ScheduleResumed | e.ScheduleArchived


def _over(schedule: Schedule, event: Change, recorded: Recorded) -> Schedule:
    """What was in force ends at `event.at`: either it owes something, or everything up to then is settled."""
    eras, cursor = schedule.eras, schedule.cursor
    if event.owed:
        mode = _owes_as(schedule, event)
        eras = (*eras, Era(event.at, event.at, mode, schedule.revision, schedule.definition))
    elif eras:
        eras = (*eras[:-1], eras[-1]._replace(then=event.at))
    else:
        cursor = max(cursor, event.at)
    return replace(schedule, eras=eras, cursor=cursor, at=event.at, actor=recorded.meta.actor, reason=event.reason)


def _owes_as(schedule: Schedule, event: Change) -> Literal["active", "paused", "ended"]:
    if schedule.state == "paused":
        return "paused"
    return "ended" if isinstance(event, e.ScheduleArchived) else "active"


def _changed(schedule: Schedule, event: e.ScheduleChanged, recorded: Recorded) -> Schedule:
    after = _over(schedule, event, recorded)
    return replace(
        after,
        state="active" if schedule.state == "ended" else schedule.state,
        definition=event.definition,
        revision=event.revision,
        revisions=_with_revision(schedule.revisions, event.revision, recorded.version, event.at),
        open=() if event.definition["overlap"] == "allow" else (*after.open, *event.open),
    )


def _paused(schedule: Schedule, event: e.SchedulePaused, recorded: Recorded) -> Schedule:
    return replace(_over(schedule, event, recorded), state="paused")


def _resumed(schedule: Schedule, event: e.ScheduleResumed, recorded: Recorded) -> Schedule:
    return replace(_over(schedule, event, recorded), state="active")


def _archived(schedule: Schedule, event: e.ScheduleArchived, recorded: Recorded) -> Schedule:
    after = _over(schedule, event, recorded)
    eras = tuple(era._replace(mode="ended") if era.mode == "active" else era for era in after.eras)
    return replace(after, state="archived", eras=eras, open=())


# -- what the clock does -----------------------------------------------------------------------------------------------


def _ended(schedule: Schedule, _event: e.ScheduleEnded, _recorded: Recorded) -> Schedule:
    return replace(schedule, state="ended")


def _moved(schedule: Schedule, to: datetime, *, settles: bool) -> Schedule:
    """The cursor has passed `to`; with `settles` the oldest era owes nothing any more."""
    cursor = max(schedule.cursor, to)
    if not settles:
        return replace(schedule, cursor=cursor)
    return replace(schedule, cursor=max(cursor, schedule.eras[0].then), eras=schedule.eras[1:])


def _ticked(schedule: Schedule, event: e.ScheduleTicked, _recorded: Recorded) -> Schedule:
    if event.cause == "backfill":
        return replace(schedule, ticked=schedule.ticked + 1)
    open_jobs = tuple(job for job in schedule.open if job not in event.closed)
    if schedule.overlap != "allow":
        open_jobs = (*open_jobs, event.job_id)
    after = replace(schedule, open=open_jobs, ticked=schedule.ticked + 1, last_tick=event.nominal)
    if event.cause == "manual":
        return after
    if event.cause == "queued":
        return replace(after, queued=tuple(q for q in schedule.queued if q.nominal != event.nominal))
    return _moved(after, event.nominal, settles=event.settles)


def _queued(schedule: Schedule, event: e.TickQueued, _recorded: Recorded) -> Schedule:
    tick = Queued(event.nominal, event.local, event.note, event.revision)
    open_jobs = tuple(job for job in schedule.open if job not in event.closed)
    after = replace(schedule, open=open_jobs, queued=(*schedule.queued, tick))
    return _moved(after, event.nominal, settles=event.settles)


def _skipped(schedule: Schedule, event: e.TickSkipped, _recorded: Recorded) -> Schedule:
    queued = tuple(tick for tick in schedule.queued if tick.nominal != event.nominal)
    open_jobs = tuple(job for job in schedule.open if job not in event.closed)
    after = replace(schedule, skipped=schedule.skipped + 1, open=open_jobs, queued=queued)
    if len(queued) != len(schedule.queued):
        return after
    return _moved(after, event.nominal, settles=event.settles)


def _many_skipped(schedule: Schedule, event: e.TicksSkipped, _recorded: Recorded) -> Schedule:
    after = replace(schedule, skipped=schedule.skipped + event.count)
    return _moved(after, event.until, settles=event.settles)


_CHANGES: dict[type[Event], Callable[[Schedule, Any, Recorded], Schedule]] = {
    e.ScheduleChanged: _changed,
    e.SchedulePaused: _paused,
    e.ScheduleResumed: _resumed,
    e.ScheduleArchived: _archived,
    e.ScheduleEnded: _ended,
    e.ScheduleTicked: _ticked,
    e.TickQueued: _queued,
    e.TickSkipped: _skipped,
    e.TicksSkipped: _many_skipped,
}
