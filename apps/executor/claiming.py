"""Turns taken work into claimed attempts: a batch of dispatches in, one append, the won attempts out.

An attempt may run only when its AttemptStarted is in the log. Whoever loses the conflict (a message delivered twice, a
job cancelled meanwhile) drops the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from adapters.group_commit import GroupCommit
from apps.executor.units import unit_for
from domain import commands as c
from domain.decisions import decide
from domain.errors import Conflict, Corruption
from domain.jobs import Job, evolve, fold
from domain.log import Appended
from domain.messaging import WorkItem
from domain.ports import EventLog
from observability import tracing

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Claimed:
    """A won attempt: the job as the log has it now, the span that its attempt runs under, what to hand on."""

    job: Job
    span: tracing.SpanHandle


class Claimer:
    """Claims for one executor. `now` is PostgreSQL's time."""

    def __init__(self, log: EventLog, commit: GroupCommit, now: Callable[[], datetime]) -> None:
        self._log = log
        self._commit = commit
        self._now = now

    async def claim(self, items: Sequence[WorkItem], executor: str) -> list[Claimed]:
        """The attempts that this executor may now run. Afterwards all items have lost their point."""
        jobs = await self._jobs(items)
        now = self._now()
        units, claims = [], []
        for job in jobs:
            try:
                events = decide(job, c.StartAttempt(executor=executor), now)
            except Conflict:
                continue
            span = _attempt_span(job)
            unit, after = unit_for(job, events, f"executor:{executor}", now, span.traceparent)
            units.append(unit)
            claims.append(Claimed(after, span))
        results = await self._commit.append_all(units)
        won = []
        for claimed, result in zip(claims, results, strict=True):
            if isinstance(result, Appended) and claimed.job.state == "running":
                won.append(claimed)
            else:
                claimed.span.end()
        return won

    async def _jobs(self, items: Sequence[WorkItem]) -> list[Job]:
        """The jobs as they were when they were dispatched; those that have moved on are left out."""
        found: dict[UUID, Job] = {}
        unknown: dict[UUID, WorkItem] = {}
        for item in items:
            if item.submitted is not None and item.job_id not in found:
                found[item.job_id] = evolve(None, item.submitted)
            else:
                unknown[item.job_id] = item
        if unknown:
            histories = await self._log.read_streams(list(unknown))
            for job_id, item in unknown.items():
                job = fold(histories.get(job_id, ()))
                if job is None:
                    raise Corruption(f"job {job_id} was dispatched but is not in the log", position=item.position)
                if job.state == "queued":
                    found[job_id] = job
                else:
                    found.pop(job_id, None)
        return list(found.values())


def _attempt_span(job: Job) -> tracing.SpanHandle:
    """The attempt's span: in the submission's trace at first; later runs are traces of their own, linked to it."""
    origin = job.submitted_meta.traceparent
    if not tracing.enabled():
        return tracing.SpanHandle(None, origin)
    first = job.attempt == 0
    return tracing.start_span(
        f"job {job.spec.task}",
        parent=origin if first else None,
        links=() if first else (origin,),
        attributes={"rota.job.id": str(job.id), "rota.attempt": job.attempt + 1, "rota.queue": job.spec.queue},
        kind="consumer",
    )
