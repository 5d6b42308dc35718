"""What the store does with jobs: submit, read, change. A positive answer means that the log has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from adapters.group_commit import GroupCommit
from adapters.postgres.task_catalog import PostgresTaskCatalog
from apps.store.intake import check_key, digest_of, parse_job
from domain import commands as c
from domain.decisions import decide, write_for
from domain.builtin_tasks import BUILTIN_TASKS
from domain.errors import NotFound, Rejected, Unavailable
from domain.events import JobSubmitted
from domain.ids import job_id_from_key
from domain.jobs import Job, fold
from domain.log import Appended, AppendResult, Meta, Recorded, Unit
from domain.ports import EventLog

MAX_ROUNDS = 20
CATALOG_SECONDS = 1.0
"""How old the known tasks may be when a job names one that is not among them."""

CATALOG_RENEW_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The answer to a submission: the job, and whether this request made it."""

    job: Job
    created: bool


class TaskNames:
    """The announced tasks, cached."""

    def __init__(self, catalog: PostgresTaskCatalog | None) -> None:
        self._catalog = catalog
        self._known: dict[str, dict[str, Any]] = {}
        self._read_at = -CATALOG_RENEW_SECONDS

    async def including(self, tasks: set[str]) -> Mapping[str, Mapping[str, Any]] | None:
        """The known tasks, read anew if one of these is missing; None when any task is accepted."""
        if self._catalog is None:
            return None
        age = time.monotonic() - self._read_at
        if age > CATALOG_RENEW_SECONDS or (age > CATALOG_SECONDS and not tasks <= self._known.keys()):
            self._known = await self._catalog.all()
            self._read_at = time.monotonic()
        return self._known


class Jobs:
    """The store's handlers, without HTTP."""

    def __init__(self, log: EventLog, commit: GroupCommit, tasks: TaskNames, now: Callable[[], datetime]) -> None:
        self._log = log
        self._commit = commit
        self._tasks = tasks
        self._now = now

    async def submit(self, request: Any, key: str | None, meta: Meta) -> Submitted:
        """Accept one job. Raises Rejected; Unavailable when it is unknown whether it was accepted."""
        (result,) = await self.submit_all([request], [key], meta)
        if isinstance(result, Rejected):
            raise result
        return result

    async def submit_all(
        self, requests: Sequence[Any], keys: Sequence[str | None], meta: Meta
    ) -> list[Submitted | Rejected]:
        """Accept each job on its own; what is wrong with one is its own answer."""
        names = {r["task"] for r in requests if isinstance(r, dict) and isinstance(r.get("task"), str)}
        known = await self._tasks.including(names - BUILTIN_TASKS)
        now = self._now()
        answers: list[Submitted | Rejected | None] = [None] * len(requests)
        units: list[Unit] = []
        places: list[int] = []
        jobs: list[Job] = []
        for index, (request, given) in enumerate(zip(requests, keys, strict=True)):
            try:
                unit, job = self._unit(request, given, known, meta, now)
            except Rejected as error:
                answers[index] = error
                continue
            units.append(unit)
            jobs.append(job)
            places.append(index)
        results: list[AppendResult] = await self._commit.append_all(units)
        for index, job, result in zip(places, jobs, results, strict=True):
            answers[index] = await self._answer(job, result)
        return [answer for answer in answers if answer is not None]

    def _unit(
        self, request: Any, given: str | None, known: Mapping[str, Any] | None, meta: Meta, now: datetime
    ) -> tuple[Unit, Job]:
        spec = parse_job(request, now, known)
        key = check_key(given if given is not None else request.get("idempotency_key"))
        digest = None
        if key is None:
            job_id = uuid7()
        else:
            job_id = job_id_from_key(key)
            digest = digest_of({name: value for name, value in request.items() if name != "idempotency_key"})
        command = c.SubmitJob(spec=spec, idempotency_key=key, request_digest=digest)
        write, job = write_for(None, job_id, decide(None, command, now), meta, now)
        return Unit(id=uuid7(), writes=[write], meta=meta), job

    async def _answer(self, job: Job, result: AppendResult) -> Submitted | Rejected:
        if isinstance(result, Appended):
            return Submitted(job=_placed(job, result), created=True)
        first = await self.get(job.id)
        if first.request_digest != job.request_digest:
            message = "this idempotency key was used for another request"
            return Rejected(message, field="Idempotency-Key", code="key-reused")
        return Submitted(job=first, created=False)

    async def get(self, job_id: UUID, *, at: int | datetime | None = None) -> Job:
        """The job as its stream says, now or at a position or instant. Raises NotFound."""
        history: Sequence[Recorded] = await self._log.read_stream(job_id)
        if isinstance(at, int):
            history = [r for r in history if r.position <= at]
        elif at is not None:
            history = [r for r in history if r.recorded_at <= at]
        if not history or not isinstance(history[0].event, JobSubmitted):
            when = "" if at is None else " at that time"
            raise NotFound(f"there is no job {job_id}{when}", field="id")
        job = fold(history)
        assert job is not None  # noqa: S101 - the history is not empty
        return job

    async def get_all(self, job_ids: Sequence[UUID]) -> list[Job]:
        """The jobs, in this order."""
        histories = await self._log.read_streams(job_ids)
        folded = (fold(histories.get(job_id, ())) for job_id in job_ids)
        return [job for job in folded if job is not None]

    async def act(self, job_id: UUID, command: c.Command, meta: Meta) -> Job:
        """Carry a command out. Raises NotFound, NotPossible."""
        for _ in range(MAX_ROUNDS):
            job = await self.get(job_id)
            now = self._now()
            events = decide(job, command, now)
            if not events:
                return job
            caused = Meta(
                actor=meta.actor,
                request_id=meta.request_id,
                correlation_id=meta.correlation_id or job.submitted_meta.correlation_id,
                traceparent=meta.traceparent,
            )
            write, after = write_for(job, job_id, events, caused, now)
            result = await self._commit.append(Unit(id=uuid7(), writes=[write], meta=caused))
            if isinstance(result, Appended):
                return _placed(after, result)
        raise Unavailable(f"job {job_id} changed in every round", server="postgres")


def _placed(job: Job, result: Appended) -> Job:
    """The job with the place and time that its last events got."""
    changes: dict[str, Any] = {
        "position": result.last_position,
        "changed_at": result.recorded_at,
    }
    if job.version == 1:
        changes |= {"first_position": result.first_position, "submitted_at": result.recorded_at}
        if job.dispatched_at is not None:
            changes["dispatched_at"] = result.recorded_at
    elif job.dispatched_at == job.changed_at:
        changes["dispatched_at"] = result.recorded_at
    if job.finished_at == job.changed_at:
        changes["finished_at"] = result.recorded_at
    copy = object.__new__(Job)
    copy.__dict__.update(job.__dict__ | changes)
    return copy
