"""What the store does with jobs: submit, read, change. A positive answer means that the log has it.

Never answers before the append is committed, and never invents an outcome: what is unknown is Unavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from rota_server.apps.store.jobs.histories import job_from, jobs_from, jobs_known
from rota_server.apps.store.jobs.predecessors import Streams, existing, ids_in
from rota_server.apps.store.jobs.submissions import Draft, Known, SubmitResult, Submitted, draft_of, placed
from rota_server.apps.store.jobs.unique_submissions import KeyState, UniqueSubmissions, claiming
from rota_server.apps.store.managed_queues import ManagedQueues
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.tasks.names import TaskNames
from rota_server.apps.store.tasks.parameters import refuse_ambiguous
from rota_server.domain.builtin.tasks import BUILTIN_TASKS
from rota_server.domain.errors import NotFound, Rejected, Unavailable, Unreadable
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs import uniqueness
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.spec import Unique
from rota_server.domain.log import Appended, AppendResult, Conflicted, Meta, Unit

CHUNK_UNITS = 500
"""Units of one request that are handed to the group commit together: about one call's worth."""

TURN_UNITS = 50
"""Jobs that are checked before others get a turn: a few milliseconds' worth."""

MAX_ROUNDS = 20

NO_STREAMS = Streams()
Accepted = tuple[int, Draft, Unit, Job]
MakeDraft = Callable[[int, Known, Streams], Draft]
ActResult = Job | Rejected | Unavailable


class Jobs:
    """The store's handlers, without HTTP."""

    def __init__(self, parts: Parts) -> None:
        self._log = parts.log
        self._commit = parts.commit
        self._tasks = TaskNames(parts.catalog)
        self.modes = ManagedQueues(parts.resources)
        self._unique = UniqueSubmissions(parts, self.modes)
        self._now = parts.now
        self._index = parts.index
        self._resources = parts.resources

    async def _streams(self, requests: Sequence[Any]) -> Streams:
        """What these requests may wait for."""
        ids = ids_in(requests)
        return Streams(ids=await existing(ids, self._index, self._resources)) if ids else NO_STREAMS

    async def submit(self, request: Any, key: str | None, meta: Meta, keywords: Sequence[str] = ()) -> Submitted:
        """Accept one job. Raises Rejected; Unavailable when it is unknown whether it was accepted.

        `keywords`: the options that a program wrote where it might have meant arguments of the task.
        """
        known = await self._tasks.including(_unknown_names((request,)))
        refuse_ambiguous(request, keywords, known)
        streams = await self._streams((request,))
        draft = draft_of(request, key, known, meta, self._now(), streams)
        if draft.spec.unique is not None:
            return await self._unique.submit(draft)
        for _ in range(MAX_ROUNDS):
            unit, job = draft.unit(self._now(), await self.modes.managed())
            (result,) = await self._commit.append_all([unit])
            if isinstance(result, Appended):
                return Submitted(job=placed(job, result), created=True)
            if result.queue is None:
                return draft.repeated(await self.get(job.id))
            self.modes.refused(result.queue)
        raise Unavailable("the queue changed in every round", server="postgres")

    async def submit_many(self, requests: Sequence[Any], meta: Meta) -> list[SubmitResult]:
        """Accept each job on its own, in order; what is wrong with one is its own answer.

        A request that is a Rejected already stands for itself. Chunks are appended while later ones are still being
        checked, and others get their turns.
        """

        def make(index: int, known: Known, streams: Streams) -> Draft:
            return draft_of(requests[index], None, known, meta, self._now(), streams)

        return await self.submit_drafts(requests, make)

    async def submit_drafts(self, requests: Sequence[Any], make: MakeDraft) -> list[SubmitResult]:
        """As `submit_many`, with drafts made by the caller: `make(index, known, streams)`, which may raise Rejected."""
        known = await self._tasks.including(_unknown_names(requests))
        managed = await self.modes.managed()
        streams = await self._streams(requests)
        answers: list[SubmitResult] = [Unavailable("not reached", server="postgres")] * len(requests)
        async with asyncio.TaskGroup() as group:
            accepted: list[Accepted] = []
            unique: list[tuple[int, Draft]] = []
            for index in range(len(requests)):
                if index % TURN_UNITS == 0:
                    await asyncio.sleep(0)
                try:
                    draft = make(index, known, streams)
                except Rejected as error:
                    answers[index] = error
                    continue
                if draft.spec.unique is not None:
                    unique.append((index, draft))
                    continue
                accepted.append((index, draft, *draft.unit(self._now(), managed)))
                if len(accepted) == CHUNK_UNITS:
                    group.create_task(self._append(accepted, answers))
                    accepted = []
            if accepted:
                group.create_task(self._append(accepted, answers))
            if unique:
                group.create_task(self._append_unique(unique, answers))
        return answers

    async def _append_unique(self, unique: Sequence[tuple[int, Draft]], answers: list[SubmitResult]) -> None:
        results = await self._unique.submit_all([draft for _, draft in unique])
        for (index, _), result in zip(unique, results, strict=True):
            answers[index] = result

    async def _append(self, accepted: Sequence[Accepted], answers: list[SubmitResult]) -> None:
        try:
            results = await self._commit.append_all([unit for _, _, unit, _ in accepted])
            accepted, results = await self._again_as_managed(accepted, results)
            lost = [job.id for (_, _, _, job), r in zip(accepted, results, strict=True) if not isinstance(r, Appended)]
            first = await jobs_from(self._log, lost)
        except Unavailable as error:
            for index, _, _, _ in accepted:
                answers[index] = error
            return
        for (index, draft, _, job), result in zip(accepted, results, strict=True):
            answers[index] = _submit_result(draft, job, result, first.get(job.id))

    async def _again_as_managed(
        self, accepted: Sequence[Accepted], results: Sequence[AppendResult]
    ) -> tuple[list[Accepted], list[AppendResult]]:
        """Submit again what was to be dispatched to a queue that the leader manages meanwhile."""
        accepted, results = list(accepted), list(results)
        refused = [n for n, result in enumerate(results) if isinstance(result, Conflicted) and result.queue is not None]
        if not refused:
            return accepted, results
        now = self._now()
        for n in refused:
            index, draft, _, _ = accepted[n]
            result = results[n]
            assert isinstance(result, Conflicted)  # noqa: S101 - it was just found to be one
            self.modes.refused(result.queue or "")
            accepted[n] = (index, draft, *draft.unit(now, frozenset({draft.spec.queue})))
        for n, result in zip(refused, await self._commit.append_all([accepted[n][2] for n in refused]), strict=True):
            results[n] = result
        return accepted, results

    async def get(self, job_id: UUID, *, at: int | datetime | None = None) -> Job:
        """The job as its stream says, now or at a position or instant. Raises NotFound.

        One whose first event cannot be read is now as its row says; about the past Unreadable is raised.
        """
        try:
            job = await job_from(self._log, job_id, at=at)
        except Unreadable:
            job = None if at is not None else (await jobs_known(self._log, self._index, [job_id])).get(job_id)
            if job is None:
                raise
        if job is None:
            raise _not_found(job_id, "" if at is None else " at that time")
        return job

    async def get_all(self, job_ids: Sequence[UUID]) -> list[Job]:
        """The jobs, in this order."""
        found = await jobs_known(self._log, self._index, job_ids)
        return [found[job_id] for job_id in job_ids if job_id in found]

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
            existing_jobs = await jobs_known(self._log, self._index, pending)
            found = {job_id: existing_jobs.get(job_id) for job_id in pending}
            keys = _reopened_keys(found.values(), command)
            async with self._unique.lock if keys else contextlib.nullcontext():
                standings = await self._unique.load(keys) if keys else {}
                pending = await self._act(found, standings, command, meta, answers)
            if not pending:
                break
        restless = Unavailable("the job changed in every round", server="postgres")
        return [answers.get(job_id, restless) for job_id in job_ids]

    async def _act(
        self,
        jobs: Mapping[UUID, Job | None],
        standings: dict[str, KeyState],
        command: c.Command,
        meta: Meta,
        answers: dict[UUID, ActResult],
    ) -> list[UUID]:
        """One round; the jobs that are to be looked at again."""
        managed = await self.modes.managed()
        units: list[tuple[UUID, Unit, Job]] = []
        again: list[UUID] = []
        for job_id, job in jobs.items():
            try:
                if job is None:
                    raise _not_found(job_id)
                found = self._decided(job, command, meta, managed, standings)
            except Rejected as error:
                answers[job_id] = error
                continue
            if found is None:
                again.append(job_id)
            elif isinstance(found, Job):
                answers[job_id] = found
            else:
                units.append((job_id, *found))
        results = await self._commit.append_all([unit for _, unit, _ in units])
        for (job_id, unit, job), result in zip(units, results, strict=True):
            if isinstance(result, Appended):
                last = Position(result.first_position + len(unit.writes[0].events) - 1)
                answers[job_id] = placed(job, Appended(result.first_position, last, result.recorded_at))
            else:
                again.append(job_id)
                if result.queue is not None:
                    self.modes.refused(result.queue)
        return again

    def _decided(
        self, job: Job, command: c.Command, meta: Meta, managed: frozenset[str], standings: dict[str, KeyState]
    ) -> Job | tuple[Unit, Job] | None:
        """The unit to append and the job after it; the job alone when there is nothing to do.

        None: its unique key is claimed by another job of the same round.
        """
        now = self._now()
        if isinstance(command, c.RetryJob | c.MeetDependencies):
            command = replace(command, managed=job.spec.queue in managed)
        events = decide(job, command, now)
        if not events:
            return job
        caused = replace(meta, correlation_id=meta.correlation_id or job.submitted_meta.correlation_id)
        write, after = write_for(job, job.id, events, caused, now)
        writes = [write]
        unique = _reopened(job, command)
        if unique is not None:
            standing = standings.pop(unique.key, None)
            if standing is None:
                return None
            uniqueness.check_reopening(unique, job.id, standing.jobs, now)
            writes.append(claiming(standing, unique, job.id, now)[0])
        return Unit(id=uuid7(), writes=writes, meta=caused), after


def _reopened(job: Job | None, command: c.Command) -> Unique | None:
    """The unique key that an ended job claims again when the command is carried out."""
    return job.spec.unique if job is not None and job.ended and isinstance(command, c.RetryJob) else None


def _reopened_keys(jobs: Iterable[Job | None], command: c.Command) -> set[str]:
    return {unique.key for job in jobs if (unique := _reopened(job, command)) is not None}


def _unknown_names(requests: Sequence[Any]) -> set[str]:
    """The names of tasks that are not built in."""
    names = {r["task"] for r in requests if isinstance(r, dict) and isinstance(r.get("task"), str)}
    return names - BUILTIN_TASKS


def _not_found(job_id: UUID, when: str = "") -> NotFound:
    return NotFound(f"there is no job {job_id}{when}", field="id")


def _submit_result(draft: Draft, job: Job, result: AppendResult, first: Job | None) -> SubmitResult:
    if isinstance(result, Appended):
        return Submitted(job=placed(job, result), created=True)
    if first is None:
        return Rejected("the job's id is taken", field="Idempotency-Key", code="key-reused")
    try:
        return draft.repeated(first)
    except Rejected as error:
        return error
