"""Turns taken work into claimed attempts: a batch of dispatches in, one append, the won attempts out.

An attempt may run only when its AttemptStarted is in the log. Whoever loses the conflict looks again: a job that is
still queued is claimed at its new version; one that somebody else has claimed, or that was cancelled, is left alone.
Never trusts the broker about a job: what an entry says is at most a version to try, which the log refuses if it is old.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from rota_server.adapters.group_commit import GroupCommit
from rota_server.apps.executor.patience import until_available
from rota_server.apps.executor.units import unit_for
from rota_server.apps.histories import jobs_of, jobs_since
from rota_server.domain.errors import Conflict, RotaError, Unreadable
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide
from rota_server.domain.jobs.events import JobSubmitted
from rota_server.domain.jobs.job import Job, evolve
from rota_server.domain.log import Appended
from rota_server.domain.messaging import WorkItem
from rota_server.domain.ports.event_log import EventLog
from rota_server.observability import tracing, unreadable

log = logging.getLogger("rota.executor.claiming")

UNREADABLE = ""
"""Instead of a task's name: nobody can ask for the entry by name, so it is looked at again after a while."""

MAX_ROUNDS = 3
"""How often a job that is still queued after a lost conflict is tried; then its dispatch is found missing one day."""


class Claims(NamedTuple):
    """What came of a batch: the won attempts, and the items whose task is not known here, with the task."""

    won: list[Claimed]
    unknown: list[tuple[WorkItem, str]]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A won attempt: the job as the log has it now, and the span that its attempt runs under."""

    job: Job
    span: tracing.SpanHandle


Name = Callable[[], Awaitable[str]]
"""The name to claim under, as soon as it stands among the living beyond doubt."""


class Claimer:
    """Claims work for one executor process. `now` is PostgreSQL's time, `knows` whether a task can run here now."""

    def __init__(
        self,
        event_log: EventLog,
        commit: GroupCommit,
        now: Callable[[], datetime],
        knows: Callable[[str], bool],
    ) -> None:
        self._log = event_log
        self._commit = commit
        self._now = now
        self._knows = knows

    async def claim(self, items: Sequence[WorkItem], name: Name) -> Claims:
        """The attempts that this executor may now run, and what it leaves to others; the rest has lost its point.

        A job whose task is not known here is never claimed. Waits for as long as the log is away, and asks for its name
        right before each append.
        """
        jobs: dict[UUID, Job] = {}
        foreign: dict[UUID, str] = {}
        for item in items:
            if item.submitted is not None and type(item.submitted.event) is JobSubmitted:
                jobs[item.job_id] = evolve(None, item.submitted)
        unknown = {item.job_id for item in items}.difference(jobs)
        if unknown:
            jobs.update(await self._queued(unknown, foreign))
        won: list[Claimed] = []
        foreign.update((job.id, job.spec.task) for job in jobs.values() if not self._knows(job.spec.task))
        jobs = {job_id: job for job_id, job in jobs.items() if job_id not in foreign}
        for _ in range(MAX_ROUNDS):
            lost = await self._claim_once(jobs.values(), await name(), won)
            if not lost:
                break
            jobs = await self._queued(lost, foreign)
        return Claims(won, [(item, foreign[item.job_id]) for item in items if item.job_id in foreign])

    async def _claim_once(self, jobs: Iterable[Job], executor: str, won: list[Claimed]) -> list[UUID]:
        """Try each job at the version at which it is known; the jobs that are at another one."""
        now = self._now()
        actor = f"executor:{executor}"
        command = c.StartAttempt(executor=executor)
        units, claims, lost = [], [], []
        for job in jobs:
            try:
                events = decide(job, command, now)
            except Conflict:
                continue
            span = _attempt_span(job)
            unit, after = unit_for(job, events, actor, now, span.traceparent)
            units.append(unit)
            claims.append(Claimed(after, span))
        for claimed, result in zip(claims, await self._commit.append_each(units), strict=True):
            appended = isinstance(result, Appended)
            if appended and claimed.job.state == "running":
                won.append(claimed)
                continue
            claimed.span.end()
            if isinstance(result, RotaError):
                # Its entry is dropped here, and found missing one day.
                log.error("job %s cannot be claimed: %s", claimed.job.id, result)
            elif not appended:
                lost.append(claimed.job.id)
        return lost

    async def still_ours(self, won: Sequence[Claimed]) -> list[Claimed]:
        """Those of the won attempts that nobody has declared lost since, and whose jobs are not over."""
        known = [claimed.job for claimed in won]
        now = await until_available("claiming", lambda: jobs_since(self._log, known))
        ours = []
        for claimed in won:
            job = now[claimed.job.id]
            if (job.state, job.attempt) == ("running", claimed.job.attempt):
                ours.append(Claimed(job, claimed.span))
                continue
            log.warning("attempt %d of job %s was over before it began", claimed.job.attempt, claimed.job.id)
            claimed.span.end()
        return ours

    async def _queued(self, job_ids: Iterable[UUID], foreign: dict[UUID, str]) -> dict[UUID, Job]:
        """Those of the jobs that are queued, as the log has them.

        One whose stream this version cannot read is left to executors of another one, in `foreign` without a task.
        """
        wanted = list(job_ids)
        jobs = await until_available("claiming", lambda: jobs_of(self._log, wanted))
        found = {}
        for job_id in wanted:
            job = jobs.get(job_id)
            if job is None:
                log.error("job %s was dispatched but is not in the log; its entry is dropped", job_id)
            elif isinstance(job, Unreadable) or job.unreadable is not None:
                unreadable.note("executor", job_id, job if isinstance(job, Unreadable) else str(job.unreadable))
                foreign[job_id] = UNREADABLE
            elif job.state == "queued":
                found[job_id] = job
        return found


def _attempt_span(job: Job) -> tracing.SpanHandle:
    """The attempt's span, under its dispatch: in the submission's trace at first, later in one that is linked to it."""
    origin, dispatch = job.submitted_meta.traceparent, job.dispatch_traceparent
    if not tracing.enabled():
        return tracing.SpanHandle(None, dispatch)
    same = tracing.trace_id_of(dispatch) == tracing.trace_id_of(origin)
    # A retry whose dispatch made no trace of its own (a scheduler without tracing) begins one here.
    return tracing.start_span(
        f"job {job.spec.task}",
        parent=None if same and job.attempt > 0 else dispatch,
        links=() if same and job.attempt == 0 else (origin,),
        attributes={"rota.job.id": str(job.id), "rota.attempt": job.attempt + 1, "rota.queue": job.spec.queue},
        kind="consumer",
    )
