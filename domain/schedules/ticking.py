"""What the leader does with a schedule's nominal times: one outcome for each, decided behind the schedule's own cursor.

Pure: schedule, time and what is known of its jobs in; events, jobs and cancellations out, a bounded number at a time.
What is decided here is appended in one unit, so a tick, its job and the cursor move together or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from rota_server.domain.events import Event
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Meta, ResourceHead
from rota_server.domain.recurrence.counting import count_times, tail
from rota_server.domain.recurrence.times import SKIP, Nominal, nominal_times
from rota_server.domain.recurrence.timing import Timing, next_time
from rota_server.domain.schedules import definition as definitions
from rota_server.domain.schedules import events as e
from rota_server.domain.schedules.changes import next_at_of
from rota_server.domain.schedules.definition import CalendarHistory, Definition, Timings
from rota_server.domain.schedules.schedule import Queued, Schedule, foresee, head_of, tick_job_id

ON_TIME = timedelta(seconds=30)
"""A nominal time that is late by no more is on time: a failover is no downtime. Later it is up to catch-up."""

TICKS_MAXIMUM = 200
"""Nominal times that become jobs, or are looked at one by one, in one unit."""

QUEUED_MAXIMUM = 100
"""Ticks that wait for the end of others with `overlap: queue_all`; further ones are skipped with the reason `limit`."""

OPEN_MAXIMUM = 100
"""Jobs of one schedule that may be asked to end and have not yet; further ticks are skipped with the reason `limit`."""

SPREAD = timedelta(seconds=60)
LONGEST_SPACING = timedelta(seconds=1)
"""Jobs that are caught up start so far apart, and all of them within the spread."""

LOOK_BACK = 64
"""How many late ticks are searched for the latest one that no calendar leaves out."""


class NewJob(NamedTuple):
    """A job to submit in the unit. Nothing is submitted where it exists already."""

    id: UUID
    spec: JobSpec


class Step(NamedTuple):
    """What is to be appended in one unit. `more`: there is more to be decided at once."""

    events: Sequence[Event]
    jobs: Sequence[NewJob]
    cancels: Sequence[UUID]
    more: bool


class After(NamedTuple):
    """The schedule after a step, its row, and its next nominal time if it has one."""

    schedule: Schedule
    head: ResourceHead
    next_at: datetime | None


def decide(
    schedule: Schedule,
    now: datetime,
    ended: frozenset[str],
    calendars_then: CalendarHistory,
    timings: Timings | None = None,
    *,
    late_until: datetime | None = None,
) -> Step:
    """The next outcomes. `ended`: those of its open jobs that have ended. Raises Rejected: unusable definition.

    `late_until`: nominal times up to then are late, see Presence; without it those of ON_TIME ago and earlier.
    """
    late = now - ON_TIME if late_until is None else late_until
    deciding = _Deciding(schedule, now, ended, calendars_then, timings or Timings(), late)
    deciding.release()
    deciding.settle()
    return deciding.step()


def after_step(schedule: Schedule, step: Step, meta: Meta, timings: Timings | None = None) -> After:
    """What the schedule will be when the log has taken the step."""
    after = foresee(schedule, schedule.id, step.events, meta)
    assert after is not None  # noqa: S101 - a schedule does not vanish
    return unchanged(after, timings)


def unchanged(schedule: Schedule, timings: Timings | None = None) -> After:
    """The schedule as it is, and what its row says."""
    next_at = next_at_of(schedule, timings)
    return After(schedule, head_of(schedule, next_at), next_at)


class _Range(NamedTuple):
    """Nominal times in (after, until] that are skipped together."""

    after: datetime
    until: datetime
    size: int
    reason: e.SkipReason


class _One(NamedTuple):
    """A nominal time to decide about. `delay`: its job starts so much later than now."""

    nominal: Nominal
    cause: e.TickCause
    delay: timedelta = timedelta(0)


@dataclass(slots=True)
class _Owed:
    """A stretch (after, until] of nominal times without outcome, and what was in force there."""

    after: datetime
    until: datetime
    mode: str
    revision: int
    definition: Definition
    timing: Timing
    era: bool


class _Deciding:
    def __init__(
        self,
        schedule: Schedule,
        now: datetime,
        ended: frozenset[str],
        calendars_then: CalendarHistory,
        timings: Timings,
        late_until: datetime,
    ) -> None:
        self._schedule = schedule
        self._late_until = late_until
        self._now = now
        self._calendars_then = calendars_then
        self._timings = timings
        self._closed = tuple(job for job in schedule.open if job in ended)
        self._open = [job for job in schedule.open if job not in ended]
        self._queued = list(schedule.queued)
        self._events: list[Event] = []
        self._jobs: list[NewJob] = []
        self._cancels: list[UUID] = []
        self._more = False

    def step(self) -> Step:
        return Step(self._events, self._jobs, self._cancels, self._more)

    # -- queued ticks ------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Let queued ticks become jobs, one after the other unless overlapping is allowed."""
        schedule = self._schedule
        if schedule.state == "paused":
            return
        while self._queued and len(self._jobs) < TICKS_MAXIMUM:
            if self._open and schedule.overlap != "allow":
                return
            tick = self._queued.pop(0)
            job_id = tick_job_id(schedule.id, tick.nominal)
            self._submit(job_id, tick.nominal, None, schedule.definition)
            self._events.append(
                e.ScheduleTicked(
                    nominal=tick.nominal,
                    local=tick.local,
                    cause="queued",
                    job_id=str(job_id),
                    revision=schedule.revision,
                    note=tick.note,
                    closed=self._take_closed(),
                )
            )

    # -- nominal times -----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Give nominal times their outcomes: those that the oldest era owes, else those up to now."""
        owed = self._owed()
        if owed is None:
            return
        items = self._skipped_stretch(owed) if owed.mode != "active" else self._active_stretch(owed)
        room = max(1, TICKS_MAXIMUM - len(self._jobs))
        self._more = len(items) > room or (owed.era and bool(items))
        items_now = items[:room]
        for place, item in enumerate(items_now, 1):
            settles = owed.era and len(items) <= room and place == len(items_now)
            if isinstance(item, _Range):
                self._skip_range(item, owed, settles=settles)
            else:
                self._one(item, owed, settles=settles)
        if owed.era and not items:
            self._skip_range(_Range(owed.after, owed.until, 0, "ended"), owed, settles=True)
            self._more = True
        if not owed.era and not self._more and next_time(owed.timing, max(owed.until, owed.after)) is None:
            self._events.append(e.ScheduleEnded(at=max(owed.until, owed.after)))

    def _owed(self) -> _Owed | None:
        schedule = self._schedule
        if schedule.eras:
            era = schedule.eras[0]
            timing = self._timings(schedule, era.revision, era.definition)
            return _Owed(schedule.cursor, era.until, era.mode, era.revision, era.definition, timing, era=True)
        if schedule.state != "active":
            return None
        timing = self._timings(schedule, schedule.revision, schedule.definition)
        return _Owed(schedule.cursor, self._now, "active", schedule.revision, schedule.definition, timing, era=False)

    def _skipped_stretch(self, owed: _Owed) -> list[_Range | _One]:
        reason: e.SkipReason = "paused" if owed.mode == "paused" else "ended"
        count = count_times(owed.timing, owed.after, owed.until)
        return [_Range(owed.after, owed.until, count, reason)] if count else []

    def _active_stretch(self, owed: _Owed) -> list[_Range | _One]:
        late_until = min(owed.until, self._late_until)
        on_time = [
            _One(nominal, "due")
            for nominal in islice(
                nominal_times(owed.timing, max(owed.after, late_until), until=owed.until), TICKS_MAXIMUM + 1
            )
        ]
        if late_until <= owed.after:
            return list(on_time)
        return [*self._late(owed, late_until, any_on_time=bool(on_time)), *on_time]

    def _late(self, owed: _Owed, until: datetime, *, any_on_time: bool) -> list[_Range | _One]:
        """What becomes of the nominal times that nobody was there for."""
        policy, window_seconds, maximum = definitions.catch_up_of(owed.definition)
        window_begins = min(until, max(owed.after, self._now - timedelta(seconds=window_seconds)))
        items: list[_Range | _One] = []
        after = owed.after
        if policy == "none" or (policy == "latest" and any_on_time):
            window_begins = until
        _add(items, _Range(after, window_begins, count_times(owed.timing, after, window_begins), "past_catch_up"))
        if window_begins == until:
            return items
        if policy == "latest":
            items += self._latest(owed, window_begins, until)
        else:
            found = tail(owed.timing, window_begins, until, maximum)
            _add(items, _Range(window_begins, found.until, found.earlier, "limit"))
            spacing = min(LONGEST_SPACING, SPREAD / max(1, len(found.last)))
            items += [_One(nominal, "catch_up", spacing * place) for place, nominal in enumerate(found.last)]
        return _merged(items)

    def _latest(self, owed: _Owed, after: datetime, until: datetime) -> list[_Range | _One]:
        found = tail(owed.timing, after, until, LOOK_BACK)
        runs = next((n for n in reversed(found.last) if self._judged(n, owed).outcome != SKIP), None)
        items: list[_Range | _One] = []
        if runs is None:
            _add(items, _Range(after, found.until, found.earlier, "past_catch_up"))
            return [*items, *(_One(nominal, "catch_up") for nominal in found.last)]
        place = found.last.index(runs)
        earlier = found.earlier + place
        _add(items, _Range(after, runs.at - timedelta(microseconds=1), earlier, "past_catch_up"))
        return [*items, *(_One(nominal, "catch_up") for nominal in found.last[place:])]

    def _judged(self, nominal: Nominal, owed: _Owed) -> Nominal:
        return definitions.judged(nominal, owed.definition, self._calendars_then)

    # -- one nominal time --------------------------------------------------------------------------------------------

    def _one(self, item: _One, owed: _Owed, *, settles: bool) -> None:
        nominal = self._judged(item.nominal, owed)
        if nominal.outcome == SKIP:
            reason: e.SkipReason = "dst_gap" if nominal.reason == "dst_gap" else "calendar"
            self._skip(nominal, reason, owed, settles=settles)
            return
        policy = self._schedule.overlap
        if policy == "allow" or not (self._open or self._queued):
            self._tick(nominal, item, owed, settles=settles)
        elif len(self._open) >= OPEN_MAXIMUM:
            self._skip(nominal, "limit", owed, settles=settles, blocked_by=tuple(self._open[:1]))
        elif policy == "replace":
            self._cancel_open()
            self._tick(nominal, item, owed, settles=settles)
        elif policy == "skip" or (policy == "queue_one" and self._queued):
            self._skip(nominal, "overlap", owed, settles=settles, blocked_by=tuple(self._open))
        elif policy == "queue_all" and len(self._queued) >= QUEUED_MAXIMUM:
            self._skip(nominal, "limit", owed, settles=settles, blocked_by=tuple(self._open))
        else:
            if policy == "cancel_running":
                self._cancel_open()
                self._drop_queued()
            self._queue(nominal, owed, settles=settles)

    def _tick(self, nominal: Nominal, item: _One, owed: _Owed, *, settles: bool) -> None:
        run_at = self._now + item.delay if item.cause == "catch_up" else nominal.run_at
        starts = run_at if run_at > self._now else None
        job_id = tick_job_id(self._schedule.id, nominal.at)
        self._submit(job_id, nominal.at, starts, owed.definition)
        self._events.append(
            e.ScheduleTicked(
                nominal=nominal.at,
                local=nominal.local,
                cause=item.cause,
                job_id=str(job_id),
                revision=owed.revision,
                note=nominal.note,
                run_at=starts,
                closed=self._take_closed(),
                settles=settles,
            )
        )

    def _submit(self, job_id: UUID, nominal: datetime, run_at: datetime | None, definition: Definition) -> None:
        spec = definitions.job_of(self._schedule, definition, definitions.tick_name(nominal), run_at)
        self._jobs.append(NewJob(job_id, spec))
        if self._schedule.overlap != "allow":
            self._open.append(str(job_id))

    def _queue(self, nominal: Nominal, owed: _Owed, *, settles: bool) -> None:
        self._queued.append(Queued(nominal.at, nominal.local, nominal.note, owed.revision))
        self._events.append(
            e.TickQueued(
                nominal=nominal.at,
                local=nominal.local,
                revision=owed.revision,
                blocked_by=tuple(self._open),
                note=nominal.note,
                closed=self._take_closed(),
                settles=settles,
            )
        )

    def _skip(
        self,
        nominal: Nominal | Queued,
        reason: e.SkipReason,
        owed: _Owed,
        *,
        settles: bool,
        blocked_by: tuple[str, ...] = (),
    ) -> None:
        self._events.append(
            e.TickSkipped(
                nominal=nominal[0],
                local=nominal.local,
                reason=reason,
                revision=owed.revision,
                note=nominal.note,
                blocked_by=blocked_by,
                closed=self._take_closed(),
                settles=settles,
            )
        )

    def _skip_range(self, item: _Range, owed: _Owed, *, settles: bool) -> None:
        first = next_time(owed.timing, item.after)
        self._events.append(
            e.TicksSkipped(
                first=item.until if first is None else min(first.at, item.until),
                until=item.until,
                count=item.size,
                reason=item.reason,
                revision=owed.revision,
                settles=settles,
            )
        )

    def _cancel_open(self) -> None:
        fresh = {str(job.id) for job in self._jobs}
        self._cancels += [UUID(job) for job in self._open if job not in fresh and UUID(job) not in self._cancels]

    def _drop_queued(self) -> None:
        """Only the latest tick waits for what is being cancelled."""
        for tick in self._queued:
            self._events.append(
                e.TickSkipped(
                    nominal=tick.nominal,
                    local=tick.local,
                    reason="overlap",
                    revision=tick.revision,
                    note=tick.note,
                    blocked_by=tuple(self._open),
                )
            )
        self._queued.clear()

    def _take_closed(self) -> tuple[str, ...]:
        closed, self._closed = self._closed, ()
        return closed


def _add(items: list[_Range | _One], item: _Range) -> None:
    if item.size:
        items.append(item)


def _merged(items: list[_Range | _One]) -> list[_Range | _One]:
    """Neighbouring ranges with the same reason become one."""
    merged: list[_Range | _One] = []
    for item in items:
        last = merged[-1] if merged else None
        if isinstance(item, _Range) and isinstance(last, _Range) and last.reason == item.reason:
            merged[-1] = last._replace(until=item.until, size=last.size + item.size)
        else:
            merged.append(item)
    return merged
