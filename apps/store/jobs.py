"""What the store does with jobs: submit, read, change. A positive answer means that the log has it.

Never answers before the append is committed, and never invents an outcome: what is unknown is Unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from apps.store.after import Streams, existing, ids_in
from apps.store.intake import check_key, digest_of, parse_job
from apps.store.parts import Parts
from apps.store.queue_modes import QueueModes
from apps.store.task_names import TaskNames
from domain import commands as c
from domain.builtin_tasks import BUILTIN_TASKS
from domain.decisions import decide, write_for
from domain.errors import NotFound, Rejected, Unavailable
from domain.events import JobSubmitted
from domain.ids import job_id_from_key
from domain.jobs import Job, fold
from domain.log import Appended, AppendResult, Conflicted, Meta, Recorded, Unit

CHUNK_UNITS = 500
"""Units of one request that are handed to the group commit together: about one call's worth."""

TURN_UNITS = 50
"""Jobs that are checked before others get a turn: a few milliseconds' worth."""

MAX_ROUNDS = 20

NO_STREAMS = Streams()
Known = Mapping[str, Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The answer to a submission: the job, and whether this request made it."""

    job: Job
    created: bool


SubmitResult = Submitted | Rejected | Unavailable
ActResult = Job | Rejected | Unavailable


class Jobs:
    """The store's handlers, without HTTP."""

    def __init__(self, parts: Parts) -> None:
        self._log = parts.log
        self._commit = parts.commit
        self._tasks = TaskNames(parts.catalog)
        self.modes = QueueModes(parts.resources)
        self._now = parts.now
        self._index = parts.index
        self._resources = parts.resources

    async def _streams(self, requests: Sequence[Any]) -> Streams:
        """What these requests may wait for."""
        ids = ids_in(requests)
        return Streams(ids=await existing(ids, self._index, self._resources)) if ids else NO_STREAMS

    async def submit(self, request: Any, key: str | None, meta: Meta) -> Submitted:
        """Accept one job. Raises Rejected; Unavailable when it is unknown whether it was accepted."""
        known = await self._tasks.including(_unknown_names((request,)))
        streams = await self._streams((request,))
        for _ in range(MAX_ROUNDS):
            unit, job = self._unit(request, key, known, meta, await self.modes.managed(), streams)
            (result,) = await self._commit.append_all([unit])
            if isinstance(result, Appended):
                return Submitted(job=_placed(job, result), created=True)
            if result.queue is None:
                return _repeated(job, await self.get(job.id))
            self.modes.refused(result.queue)
        raise Unavailable("the queue changed in every round", server="postgres")

    async def submit_many(self, requests: Sequence[Any], meta: Meta) -> list[SubmitResult]:
        """Accept each job on its own, in order; what is wrong with one is its own answer.

        A request that is a Rejected already stands for itself. Chunks are appended while later ones are still being
        checked, and others get their turns.
        """
        known = await self._tasks.including(_unknown_names(requests))
        managed = await self.modes.managed()
        streams = await self._streams(requests)
        answers: list[SubmitResult] = [Unavailable("not reached", server="postgres")] * len(requests)
        async with asyncio.TaskGroup() as group:
            accepted: list[tuple[int, Unit, Job]] = []
            for index, request in enumerate(requests):
                if index % TURN_UNITS == 0:
                    await asyncio.sleep(0)
                try:
                    accepted.append((index, *self._unit(request, None, known, meta, managed, streams)))
                except Rejected as error:
                    answers[index] = error
                if len(accepted) == CHUNK_UNITS:
                    group.create_task(self._append(accepted, answers))
                    accepted = []
            if accepted:
                group.create_task(self._append(accepted, answers))
        return answers

    def _unit(
        self, request: Any, given: str | None, known: Known, meta: Meta, managed: frozenset[str], streams: Streams
    ) -> tuple[Unit, Job]:
        if isinstance(request, Rejected):
            raise request
        now = self._now()
        spec = parse_job(request, now, known, streams)
        key = check_key(given if given is not None else request.get("idempotency_key"))
        digest = None
        if key is None:
            job_id = uuid7()
        else:
            job_id = job_id_from_key(key)
            digest = digest_of({name: value for name, value in request.items() if name != "idempotency_key"})
        command = c.SubmitJob(spec=spec, idempotency_key=key, request_digest=digest, managed=spec.queue in managed)
        write, job = write_for(None, job_id, decide(None, command, now), meta, now)
        return Unit(id=uuid7(), writes=[write], meta=meta), job

    async def _append(self, accepted: Sequence[tuple[int, Unit, Job]], answers: list[SubmitResult]) -> None:
        try:
            results = await self._commit.append_all([unit for _, unit, _ in accepted])
            accepted, results = await self._again_as_managed(accepted, results)
            lost = [job.id for (_, _, job), r in zip(accepted, results, strict=True) if not isinstance(r, Appended)]
            histories = await self._log.read_streams(lost) if lost else {}
        except Unavailable as error:
            for index, _, _ in accepted:
                answers[index] = error
            return
        for (index, _, job), result in zip(accepted, results, strict=True):
            answers[index] = _submit_result(job, result, histories)

    async def _again_as_managed(
        self, accepted: Sequence[tuple[int, Unit, Job]], results: Sequence[AppendResult]
    ) -> tuple[list[tuple[int, Unit, Job]], list[AppendResult]]:
        """Submit again what was to be dispatched to a queue that the leader manages meanwhile."""
        accepted, results = list(accepted), list(results)
        refused = [n for n, result in enumerate(results) if isinstance(result, Conflicted) and result.queue is not None]
        if not refused:
            return accepted, results
        now = self._now()
        for n in refused:
            index, unit, job = accepted[n]
            result = results[n]
            assert isinstance(result, Conflicted)  # noqa: S101 - it was just found to be one
            self.modes.refused(result.queue or "")
            command = c.SubmitJob(
                spec=job.spec, idempotency_key=job.idempotency_key, request_digest=job.request_digest, managed=True
            )
            write, job_after = write_for(None, job.id, decide(None, command, now), unit.meta, now)
            accepted[n] = (index, Unit(id=uuid7(), writes=[write], meta=unit.meta), job_after)
        for n, result in zip(refused, await self._commit.append_all([accepted[n][1] for n in refused]), strict=True):
            results[n] = result
        return accepted, results

    async def get(self, job_id: UUID, *, at: int | datetime | None = None) -> Job:
        """The job as its stream says, now or at a position or instant. Raises NotFound."""
        history: Sequence[Recorded] = await self._log.read_stream(job_id)
        if isinstance(at, int):
            history = [r for r in history if r.position <= at]
        elif at is not None:
            history = [r for r in history if r.recorded_at <= at]
        job = _job_of(history)
        if job is None:
            raise _not_found(job_id, "" if at is None else " at that time")
        return job

    async def get_all(self, job_ids: Sequence[UUID]) -> list[Job]:
        """The jobs, in this order."""
        if not job_ids:
            return []
        histories = await self._log.read_streams(job_ids)
        folded = (_job_of(histories.get(job_id, ())) for job_id in job_ids)
        return [job for job in folded if job is not None]

    async def act(self, job_id: UUID, command: c.Command, meta: Meta) -> Job:
        """Carry a command out. Raises NotFound, NotPossible, Unavailable."""
        (result,) = await self.act_on_all([job_id], command, meta)
        if isinstance(result, Job):
            return result
        raise result

    async def act_on_all(self, job_ids: Sequence[UUID], command: c.Command, meta: Meta) -> list[ActResult]:
        """Carry a command out on each of these different jobs; whoever changed meanwhile is decided about again."""
        answers: dict[UUID, ActResult] = {}
        pending = list(job_ids)
        for _ in range(MAX_ROUNDS):
            histories = await self._log.read_streams(pending)
            managed = await self.modes.managed()
            units: list[tuple[UUID, Unit, Job]] = []
            for job_id in pending:
                try:
                    found = self._decided(job_id, histories.get(job_id, ()), command, meta, managed)
                except Rejected as error:
                    answers[job_id] = error
                    continue
                if isinstance(found, Job):
                    answers[job_id] = found
                else:
                    units.append((job_id, *found))
            results = await self._commit.append_all([unit for _, unit, _ in units])
            pending = []
            for (job_id, _, job), result in zip(units, results, strict=True):
                if isinstance(result, Appended):
                    answers[job_id] = _placed(job, result)
                else:
                    pending.append(job_id)
                    if result.queue is not None:
                        self.modes.refused(result.queue)
            if not pending:
                break
        restless = Unavailable("the job changed in every round", server="postgres")
        return [answers.get(job_id, restless) for job_id in job_ids]

    def _decided(
        self, job_id: UUID, history: Sequence[Recorded], command: c.Command, meta: Meta, managed: frozenset[str]
    ) -> Job | tuple[Unit, Job]:
        """The unit to append and the job after it; the job alone when there is nothing to do."""
        job = _job_of(history)
        if job is None:
            raise _not_found(job_id)
        now = self._now()
        if isinstance(command, c.RetryJob | c.MeetDependencies):
            command = replace(command, managed=job.spec.queue in managed)
        events = decide(job, command, now)
        if not events:
            return job
        caused = replace(meta, correlation_id=meta.correlation_id or job.submitted_meta.correlation_id)
        write, after = write_for(job, job_id, events, caused, now)
        return Unit(id=uuid7(), writes=[write], meta=caused), after


def _unknown_names(requests: Sequence[Any]) -> set[str]:
    """The names of tasks that are not built in."""
    names = {r["task"] for r in requests if isinstance(r, dict) and isinstance(r.get("task"), str)}
    return names - BUILTIN_TASKS


def _job_of(history: Sequence[Recorded]) -> Job | None:
    if not history or not isinstance(history[0].event, JobSubmitted):
        return None
    return fold(history)


def _not_found(job_id: UUID, when: str = "") -> NotFound:
    return NotFound(f"there is no job {job_id}{when}", field="id")


def _submit_result(job: Job, result: AppendResult, histories: Mapping[UUID, Sequence[Recorded]]) -> SubmitResult:
    if isinstance(result, Appended):
        return Submitted(job=_placed(job, result), created=True)
    first = _job_of(histories.get(job.id, ()))
    if first is None:
        return Rejected("the job's id is taken", field="Idempotency-Key", code="key-reused")
    try:
        return _repeated(job, first)
    except Rejected as error:
        return error


def _repeated(job: Job, first: Job) -> Submitted:
    """The answer to a repeated submission. Raises Rejected when it is not the same request."""
    if first.request_digest != job.request_digest:
        message = "Idempotency-Key: was used for another request"
        raise Rejected(message, field="Idempotency-Key", code="key-reused")
    return Submitted(job=first, created=False)


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
