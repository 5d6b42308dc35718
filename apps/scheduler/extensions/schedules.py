"""The leader's schedules: when a nominal time has come, its outcome is decided and appended in one unit.

Timers of its own say which schedule is due; what is due is decided on the schedule's row, which its stream keeps true.
Nothing that this process remembers decides anything: a new leader finds every nominal time that is owed in the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

from rota_server.apps.histories import jobs_of
from rota_server.apps.scheduler.extensions.calendar_history import CalendarHistory
from rota_server.apps.scheduler.extensions.extension import TermContext
from rota_server.domain.errors import Rejected, Unavailable, Unreadable
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import ENDED, Job
from rota_server.domain.leader_state import HORIZON, End
from rota_server.domain.log import Appended, Meta, StreamWrite, Unit
from rota_server.domain.messaging import FeedEvent
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.domain.schedules import ticking
from rota_server.domain.schedules.definition import Timings
from rota_server.domain.schedules.events import ScheduleTicked
from rota_server.domain.schedules.presence import Presence
from rota_server.domain.schedules.schedule import KIND, Schedule, from_json
from rota_server.domain.timers import Timers
from rota_server.observability import tracing, unreadable

log = logging.getLogger("rota.scheduler.schedules")

BATCH = 200
"""Schedules that are decided together: one read of their rows, one append of at most so many units."""

LONGEST_SLEEP = timedelta(seconds=0.5)
UNUSABLE_PAUSE = timedelta(seconds=60)
"""When a schedule is looked at again whose definition this program cannot read."""

QUEUED_LOOK = timedelta(seconds=30)
"""How often queued ticks are looked at, in case that the end which they wait for was never seen."""

AWAKE = datetime.min.replace(tzinfo=UTC)


class _Decided(NamedTuple):
    """A schedule's step, ready to be appended."""

    schedule: Schedule
    step: ticking.Step
    after: ticking.After
    meta: Meta
    span: tracing.SpanHandle


class SchedulesExtension:
    """The extension, under one term."""

    name = "schedules"

    def __init__(self, context: TermContext) -> None:
        self._context = context
        self._parts = context.parts
        self._now = context.parts.clock.now
        self._timers = Timers()
        self._calendars = CalendarHistory(context.parts.resources, context.parts.event_log)
        self._timings = Timings()
        self._presence = Presence(self._now())
        self._waiting: set[str] = set()
        """Schedules with queued ticks: an end of one of their jobs concerns them."""
        self._conflicted: set[UUID] = set()
        self._woken = asyncio.Event()
        self._wakes_at = AWAKE
        state = context.state
        for event_type in (
            "ScheduleCreated",
            "ScheduleChanged",
            "SchedulePaused",
            "ScheduleResumed",
            "ScheduleArchived",
        ):
            state.attach(event_type, self._changed)
        state.attach_to_ends(self._job_ended)
        for event_type in ("CalendarCreated", "CalendarChanged"):
            state.attach(event_type, self._calendars.changed)

    async def run(self) -> None:
        """Decide what is due, forever. Raises NotLeader, Unavailable."""
        await self._context.caught_up.wait()
        while True:
            began = self._now()
            try:
                if self._timers.wants_load(began):
                    await self._load()
                due = self._timers.take_due(self._now(), BATCH)
                if due:
                    await self._decide_all(due)
            except Unavailable:
                self._presence.away(began)
                raise
            if not due:
                await self._sleep()

    async def settled(self, position: Position) -> None:
        """Whatever is owed stands in the rows, so a successor needs nothing from here."""

    # -- what happens ------------------------------------------------------------------------------------------------

    def _changed(self, event: FeedEvent) -> None:
        due_at = event.data["due_at"]
        if due_at is None:
            self._timers.drop(event.stream_id)
            return
        self._timers.add(event.stream_id, datetime.fromisoformat(due_at), event.position)
        self._wake()

    def _job_ended(self, end: End) -> None:
        if end.origin is not None and end.origin in self._waiting:
            self._timers.again(end.origin, self._now())
            self._wake()

    def _wake(self) -> None:
        earliest = self._timers.earliest()
        if earliest is not None and earliest < self._wakes_at:
            self._woken.set()

    # -- time --------------------------------------------------------------------------------------------------------

    async def _sleep(self) -> None:
        now = self._now()
        earliest = self._timers.earliest()
        self._wakes_at = now + LONGEST_SLEEP if earliest is None else min(earliest, now + LONGEST_SLEEP)
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, (self._wakes_at - now).total_seconds())):
                await self._woken.wait()
        self._wakes_at = AWAKE

    async def _load(self) -> None:
        until = self._now() + HORIZON
        # Read before the index: whatever is after this position comes by the feed.
        self._timers.begin_load(until, await self._parts.event_log.last_position())
        try:
            found = await self._parts.resources.due(KIND, until, self._timers.limit)
        except BaseException:
            self._timers.fail_load()
            raise
        self._presence.back(self._now())
        self._timers.end_load(((str(schedule_id), due_at) for schedule_id, due_at in found), len(found))

    # -- decisions ---------------------------------------------------------------------------------------------------

    async def _decide_all(self, due: Sequence[str]) -> None:
        try:
            await self._try_to_decide([UUID(schedule_id) for schedule_id in due])
        except Unavailable:
            for schedule_id in due:
                self._timers.again(schedule_id, self._now())
            raise

    async def _try_to_decide(self, due: Sequence[UUID]) -> None:
        rows = await self._parts.resources.get(due)
        self._presence.back(self._now())
        schedules = [s for row in rows.values() if row.kind == KIND and (s := self._read(row)) is not None]
        for schedule in schedules:
            # Before their jobs are read: an end that comes later is not missed then.
            self._note_waiting(schedule)
        ended = await self._ended(schedules)
        await self._calendars.learn(schedules)
        decided = [d for schedule in schedules if (d := self._decide(schedule, ended)) is not None]
        try:
            units = await self._units(decided)
            results = await self._context.carries_out.append(units)
        finally:
            for d in decided:
                d.span.end()
        for d, result in zip(decided, results, strict=True):
            if isinstance(result, Appended):
                self._measure(d.step, result.recorded_at)
                self._conflicted.discard(d.schedule.id)
                self._next(d.after, more=d.step.more)
            else:
                self._conflicted.add(d.schedule.id)
                self._timers.again(str(d.schedule.id), self._now())  # somebody was quicker: decide again

    def _read(self, row: ResourceRow) -> Schedule | None:
        """The schedule of its row; None, and told of, when this version cannot read it: its ticks wait."""
        try:
            return from_json(row.id, row.name, row.version, row.doc)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            unreadable.note("scheduler", row.id, f"schedule {row.name} cannot be read from its row: {error!r}")
            self._timers.again(str(row.id), self._now() + UNUSABLE_PAUSE)
            return None

    def _note_waiting(self, schedule: Schedule) -> None:
        if schedule.queued:
            self._waiting.add(str(schedule.id))
        else:
            self._waiting.discard(str(schedule.id))

    async def _ended(self, schedules: Sequence[Schedule]) -> frozenset[str]:
        """Those of the schedules' open jobs that have ended, as their own rows say."""
        open_jobs = [UUID(job) for schedule in schedules for job in schedule.open]
        if not open_jobs:
            return frozenset()
        heads = await self._parts.index.get(open_jobs)
        return frozenset(str(job) for job in open_jobs if job not in heads or heads[job].state in ENDED)

    def _decide(self, schedule: Schedule, ended: frozenset[str]) -> _Decided | None:
        """What is to be appended; None when nothing is."""
        now = self._now()
        try:
            late_until = self._presence.late_until(now, ticking.ON_TIME)
            step = ticking.decide(schedule, now, ended, self._calendars.then, self._timings, late_until=late_until)
            if not step.events:
                self._next(ticking.unchanged(schedule, self._timings), more=False)
                return None
            span = self._span(schedule, step)
            meta = Meta(
                actor=self._context.carries_out.actor,
                causation_id=f"schedule:{schedule.id}:{schedule.version + 1}",
                traceparent=span.traceparent,
                term=self._context.term,
            )
            return _Decided(schedule, step, ticking.after_step(schedule, step, meta, self._timings), meta, span)
        except Rejected as error:
            # What one schedule says must not stop the others. Nothing of it is forgotten: its cursor stays.
            log.error("schedule %s cannot be read, its ticks wait: %s", schedule.name, error)  # noqa: TRY400
            self._parts.metrics.waits("unusable schedule")
            self._timers.again(str(schedule.id), now + UNUSABLE_PAUSE)
            return None

    async def _units(self, decided: Sequence[_Decided]) -> list[Unit]:
        """The units, with the cancellations that belong to them."""
        cancels = [job_id for d in decided for job_id in d.step.cancels]
        running = await jobs_of(self._parts.event_log, cancels)
        # A job that is there already, whoever made it, is not made again: asked only after a conflict.
        doubtful = [job.id for d in decided if d.schedule.id in self._conflicted for job in d.step.jobs]
        there = await self._parts.index.get(doubtful) if doubtful else {}
        now = self._now()
        units = []
        for d in decided:
            schedule, step = d.schedule, d.step
            writes = [
                StreamWrite(
                    stream_id=schedule.id,
                    expected_version=schedule.version,
                    events=step.events,
                    head=d.after.head,
                )
            ]
            writes += [self._submission(job, d.meta, now) for job in step.jobs if job.id not in there]
            for job_id in step.cancels:
                write = _cancellation(running.get(job_id), schedule, d.meta, now)
                if write is not None:
                    writes.append(write)
            units.append(Unit(id=uuid7(), writes=writes, meta=d.meta))
        return units

    def _submission(self, job: ticking.NewJob, meta: Meta, now: datetime) -> StreamWrite:
        command = c.SubmitJob(spec=job.spec, managed=job.spec.queue in self._context.state.managed)
        return write_for(None, job.id, decide(None, command, now), meta, now)[0]

    def _next(self, after: ticking.After, *, more: bool) -> None:
        """When to look at the schedule again."""
        schedule, now = after.schedule, self._now()
        self._note_waiting(schedule)
        if more:
            self._timers.again(str(schedule.id), now)
        elif schedule.queued and schedule.state != "paused":
            look = now + QUEUED_LOOK
            self._timers.again(str(schedule.id), look if after.next_at is None else min(look, after.next_at))
        elif after.head.due_at is not None:
            self._timers.add(str(schedule.id), after.head.due_at)

    def _measure(self, step: ticking.Step, recorded_at: datetime) -> None:
        for event in step.events:
            if isinstance(event, ScheduleTicked) and event.cause == "due":
                self._parts.metrics.ticked((recorded_at - event.nominal).total_seconds())

    def _span(self, schedule: Schedule, step: ticking.Step) -> tracing.SpanHandle:
        """A root span: every tick begins a trace of its own."""
        if not tracing.enabled():
            return tracing.SpanHandle(None, None)
        attributes = {"rota.schedule.id": str(schedule.id), "rota.schedule.name": schedule.name}
        if step.jobs:
            attributes["rota.job.id"] = str(step.jobs[0].id)
        return tracing.start_span("scheduler.tick", attributes=attributes, kind="producer")


def _cancellation(job: Job | Unreadable | None, schedule: Schedule, meta: Meta, now: datetime) -> StreamWrite | None:
    """The wish that the job ends, because of the schedule's next tick; None when there is nothing to ask for."""
    reason = f"the next tick of schedule {schedule.name}"
    if isinstance(job, Unreadable):
        unreadable.note("scheduler", job.stream_id or schedule.id, job)
        return None
    if job is None or job.ended:
        return None
    try:
        events = decide(job, c.RequestCancel(reason=reason, cause="replaced"), now)
    except Unreadable as error:
        unreadable.note("scheduler", job.id, error)
        return None
    return write_for(job, job.id, events, meta, now)[0] if events else None
