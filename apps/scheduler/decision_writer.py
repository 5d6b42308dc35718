"""Carries the leader's decisions out: load the jobs, decide on their own streams, append in batches under the term.

Never decides by what the leader's state remembers of a job, and never without the term.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from uuid_utils.compat import uuid7

from rota_server.apps.histories import jobs_of
from rota_server.apps.scheduler.metrics import SchedulerMetrics
from rota_server.domain.errors import NotPossible, Unreadable
from rota_server.domain.events import Event
from rota_server.domain.ids import Term
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.events import JobDispatched
from rota_server.domain.jobs.job import Job
from rota_server.domain.leader_state import Decision, LeaderState
from rota_server.domain.log import Appended, AppendResult, Meta, Unit
from rota_server.domain.ports.event_log import EventLog
from rota_server.observability import tracing, unreadable

BATCH = 500
"""Decisions that share an append."""


class DecisionWriter:
    """Under one term of leadership."""

    def __init__(
        self,
        log: EventLog,
        state: LeaderState,
        term: Term,
        node: str,
        *,
        now: Callable[[], datetime],
        metrics: SchedulerMetrics,
    ) -> None:
        self._log = log
        self._state = state
        self._term = term
        self._actor = f"scheduler:{node}"
        self._now = now
        self._metrics = metrics

    async def carry_out(self, decisions: Sequence[Decision]) -> int:
        """Do it; the number of jobs that something was recorded for.

        A job that moved meanwhile is left alone: what moved it comes by the feed.

        Raises:
            NotLeader: a newer term is in force; nothing of the batch was written.
            Unavailable: perhaps written, perhaps not. Decide again: what was written shows in the jobs' streams.
        """
        done = 0
        for start in range(0, len(decisions), BATCH):
            done += await self._batch(decisions[start : start + BATCH])
        return done

    async def _batch(self, decisions: Sequence[Decision]) -> int:
        jobs = await jobs_of(self._log, [d.job_id for d in decisions])
        now = self._now()
        units: list[Unit] = []
        after: list[Job] = []
        spans: list[tracing.SpanHandle] = []
        for decision in decisions:
            job = self._readable(decision, jobs.get(decision.job_id))
            if job is None:
                continue
            if self._nobody_knows(job, decision.command):
                self._state.admission.pass_over(str(job.id), job.spec.queue, job.spec.task)
                continue
            events: Sequence[Event] = ()
            with contextlib.suppress(NotPossible):  # it has ended meanwhile: nobody asks the leader why
                events = decide(job, self._informed(job, decision.command), now)
            if not events:
                self._look_again(job, decision)
                continue
            span = _span(job, events)
            unit, job_after = self._unit(job, events, now, span.traceparent)
            spans.append(span)
            units.append(unit)
            after.append(job_after)
        try:
            results = await self._log.append(units, fence=self._term) if units else []
        finally:
            for span in spans:
                span.end()
        done = 0
        for job, unit, result in zip(after, units, results, strict=True):
            if isinstance(result, Appended):
                done += 1
                self._metrics.decided(type(unit.writes[0].events[0]).__name__)
                if job.due_at is not None:
                    # Its dispatch does not say so in the feed: the job may still expire.
                    self._state.timers.add(str(job.id), job.due_at, result.last_position)
        return done

    async def append(self, units: Sequence[Unit]) -> list[AppendResult]:
        """Append units of an extension's own making under the term, in calls of a bounded size; answers in order.

        Units must not share a stream. Raises NotLeader; Unavailable: perhaps written, repeat with the same units.
        """
        results: list[AppendResult] = []
        batch: list[Unit] = []
        events = 0
        for unit in units:
            size = sum(len(write.events) for write in unit.writes)
            if batch and events + size > BATCH:
                results += await self._log.append(batch, fence=self._term)
                batch, events = [], 0
            batch.append(unit)
            events += size
        if batch:
            results += await self._log.append(batch, fence=self._term)
        for unit, result in zip(units, results, strict=True):
            if isinstance(result, Appended):
                self._metrics.decided(type(unit.writes[0].events[0]).__name__)
        return results

    @property
    def actor(self) -> str:
        """Who decides, for the events' meta."""
        return self._actor

    def _informed(self, job: Job, command: c.Command) -> c.Command:
        """The command, knowing whether the job's queue is managed."""
        if isinstance(command, c.ActOnTime | c.MeetDependencies):
            return replace(command, managed=job.spec.queue in self._state.managed)
        return command

    def _readable(self, decision: Decision, job: Job | Unreadable | None) -> Job | None:
        """The job; None, and told of, when its stream cannot be read: nothing is decided about it."""
        if job is None or (isinstance(job, Job) and job.unreadable is None):
            return job
        unreadable.note("scheduler", decision.job_id, str(job.unreadable) if isinstance(job, Job) else job)
        if isinstance(decision.command, c.DispatchJob):
            self._state.admission.over(str(decision.job_id))
        return None

    def _nobody_knows(self, job: Job, command: c.Command) -> bool:
        """Whether the job would only use up its queue's limits: no living executor there has its task."""
        if not isinstance(command, c.DispatchJob) or command.reason != "admitted" or job.state != "waiting":
            return False
        return self._state.abilities.lacks(job.spec.queue, job.spec.task)

    def _look_again(self, job: Job, decision: Decision) -> None:
        """Its time has not come, or it waits no more, although the leader's state thought so."""
        if isinstance(decision.command, c.DispatchJob) and job.state not in ("queued", "running"):
            self._state.admission.over(str(job.id))
        if job.due_at is not None and isinstance(decision.command, c.ActOnTime):
            self._state.timers.add(str(job.id), job.due_at)

    def _unit(self, job: Job, events: Sequence[Event], now: datetime, traceparent: str | None) -> tuple[Unit, Job]:
        correlation = job.submitted_meta.correlation_id
        meta = Meta(actor=self._actor, correlation_id=correlation, traceparent=traceparent, term=self._term)
        write, after = write_for(job, job.id, events, meta, now)
        return Unit(id=uuid7(), writes=[write], meta=meta), after


def _span(job: Job, events: Sequence[Event]) -> tracing.SpanHandle:
    """A first dispatch belongs to the submission's trace; a retry is a trace of its own, linked to it."""
    origin = job.submitted_meta.traceparent
    if not tracing.enabled():
        return tracing.SpanHandle(None, origin)
    dispatched = isinstance(events[0], JobDispatched)
    retry = dispatched and job.attempt > 0
    return tracing.start_span(
        "scheduler.dispatch" if dispatched else f"scheduler.{type(events[0]).__name__}",
        parent=None if retry else origin,
        links=(origin,) if retry else (),
        attributes={"rota.job.id": str(job.id), "rota.attempt": job.attempt},
        kind="producer",
    )
