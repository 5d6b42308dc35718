"""Submits unique jobs: those of one key one after another, those of many keys together.

One line for the whole process: whatever waits is decided on what was read after it came, so no answer is older than its
question. What another process has claimed meanwhile shows as a conflict: then everything is read and decided again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

from rota_server.apps.store.jobs.histories import jobs_from
from rota_server.apps.store.jobs.submissions import Draft, SubmitResult, Submitted, placed
from rota_server.apps.store.managed_queues import ManagedQueues
from rota_server.apps.store.parts import Parts
from rota_server.domain.errors import Rejected, Unavailable
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import uniqueness
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.events import UniqueClaimed
from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.spec import Unique
from rota_server.domain.log import Appended, AppendResult, StreamWrite, Unit

TURN_DRAFTS = 500
"""Submissions that are read for together."""

STEPS = 20
"""Appends for one key in one turn, so that a long line of one key does not keep the others waiting."""

ROUNDS = 100
"""Conflicts with other processes before a submission is given up."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key as it was read: its stream, and the jobs that hold it, the last one to claim it last."""

    stream_id: UUID
    version: Version
    jobs: tuple[Job, ...]
    names: tuple[UUID, ...]
    """The holders as the stream has them, also those of which nothing is known any more."""


def claiming(
    standing: KeyState, unique: Unique, job_id: UUID, now: datetime, released: Sequence[UUID] = ()
) -> tuple[StreamWrite, tuple[UUID, ...]]:
    """The append by which the job claims its key as it stands, and who holds the key then."""
    event = UniqueClaimed(key=unique.key, job=str(job_id), released=tuple(str(job) for job in released))
    names = uniqueness.evolve(standing.names, event)
    head = uniqueness.head_of(unique, names, now)
    write = StreamWrite(stream_id=standing.stream_id, expected_version=standing.version, events=[event], head=head)
    return write, names


@dataclass(slots=True)
class _Waiting:
    draft: Draft
    unique: Unique
    answer: asyncio.Future[SubmitResult]
    rounds: int = 0


class _Plan(NamedTuple):
    waiting: _Waiting
    unit: Unit
    job: Job
    after: dict[UUID, Job]
    """The jobs of this unit as they will be."""

    names: tuple[UUID, ...]


class UniqueSubmissions:
    """The unique submissions of this process. `turn` is held while keys are read and claimed."""

    def __init__(self, parts: Parts, modes: ManagedQueues) -> None:
        self._log = parts.log
        self._commit = parts.commit
        self._resources = parts.resources
        self._modes = modes
        self._now = parts.now
        self._waiting: deque[_Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None
        self.lock = asyncio.Lock()

    async def submit(self, draft: Draft) -> Submitted:
        """Accept one job, or answer the one that holds its key. Raises Rejected, Unavailable."""
        (result,) = await self.submit_all([draft])
        if isinstance(result, Submitted):
            return result
        raise result

    async def submit_all(self, drafts: Sequence[Draft]) -> list[SubmitResult]:
        """As `submit`, as if one came after another."""
        loop = asyncio.get_running_loop()
        answers = []
        for draft in drafts:
            assert draft.spec.unique is not None  # noqa: S101 - only those come here
            waiting = _Waiting(draft, draft.spec.unique, loop.create_future())
            self._waiting.append(waiting)
            answers.append(waiting.answer)
        if self._worker is None and answers:
            self._worker = loop.create_task(self._work())
        try:
            return [await answer for answer in answers]
        finally:
            for answer in answers:
                answer.cancel()

    async def load(self, keys: Collection[str]) -> dict[str, KeyState]:
        """These keys as they are now; to be asked, and used, within `turn`."""
        return (await self._load(keys, ()))[0]

    async def _load(self, keys: Collection[str], more: Sequence[UUID]) -> tuple[dict[str, KeyState], dict[UUID, Job]]:
        """The keys, and further jobs that are there."""
        rows = await self._resources.by_name(uniqueness.KIND, list(keys))
        holders = {key: uniqueness.holders_of(row.doc) for key, row in rows.items()}
        # Read after the keys' versions: whatever reopens a job moves its key on, so an end that is seen here lasts.
        wanted = {*more, *(job_id for jobs in holders.values() for job_id in jobs)}
        found = await jobs_from(self._log, list(wanted))
        standings = {}
        for key in keys:
            row, names = rows.get(key), holders.get(key, ())
            stream_id, version = (uuid7(), Version(0)) if row is None else (row.id, row.version)
            known = tuple(found[job_id] for job_id in names if job_id in found)
            standings[key] = KeyState(stream_id, version, known, names)
        return standings, found

    async def _work(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                async with self.lock:
                    batch = [self._waiting.popleft() for _ in range(min(TURN_DRAFTS, len(self._waiting)))]
                    batch = [waiting for waiting in batch if not waiting.answer.done()]
                    try:
                        self._waiting.extendleft(reversed(await self._take(batch)))
                    except Unavailable as error:
                        _answer(batch, error)
        except Exception as error:  # noqa: BLE001 - whoever asked gets to know
            for waiting in (*batch, *self._waiting):
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            self._waiting.clear()
        finally:
            self._worker = None

    async def _take(self, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """Answer these; those that have to wait for another turn, in order."""
        if not batch:
            return []
        lines: dict[str, deque[_Waiting]] = {}
        for waiting in batch:
            lines.setdefault(waiting.unique.key, deque()).append(waiting)
        repeatable = [waiting.draft.job_id for waiting in batch if waiting.draft.repeatable]
        standings, found = await self._load(lines.keys(), repeatable)
        for _ in range(STEPS):
            managed = await self._modes.managed()
            asked = [self._next(lines[key], standing, found, managed) for key, standing in standings.items()]
            plans = [plan for plan in asked if plan is not None]
            if not plans:
                break
            results = await self._commit.append_all([plan.unit for plan in plans])
            for plan, result in zip(plans, results, strict=True):
                self._settle(plan, result, lines[plan.waiting.unique.key], standings, found)
        left = {id(waiting) for line in lines.values() for waiting in line}
        return [waiting for waiting in batch if id(waiting) in left and not waiting.answer.done()]

    def _settle(
        self,
        plan: _Plan,
        result: AppendResult,
        line: deque[_Waiting],
        standings: dict[str, KeyState],
        found: dict[UUID, Job],
    ) -> None:
        """Answer what was written; what was not needs its key to be read again, in another turn."""
        key = plan.waiting.unique.key
        if isinstance(result, Appended):
            # The claim, one event, is the last of the unit, the submission, one event, the one before it.
            own = Position(result.last_position - 1)
            job = placed(plan.job, Appended(own, own, result.recorded_at))
            found[job.id] = job
            standings[key] = _standing_after(standings[key], plan, job)
            _answer([line.popleft()], Submitted(job=job, created=True))
            return
        if result.queue is not None:
            self._modes.refused(result.queue)
        del standings[key]
        _count_round(line)

    def _next(
        self, line: deque[_Waiting], standing: KeyState, found: dict[UUID, Job], managed: frozenset[str]
    ) -> _Plan | None:
        """The next submission of the key that has something to write; those before it are answered."""
        while line:
            waiting = line[0]
            try:
                outcome = self._outcome(waiting, standing, found, managed)
            except Rejected as error:
                outcome = error
            if isinstance(outcome, _Plan):
                return outcome
            line.popleft()
            _answer([waiting], outcome)
        return None

    def _outcome(
        self, waiting: _Waiting, standing: KeyState, found: dict[UUID, Job], managed: frozenset[str]
    ) -> _Plan | SubmitResult:
        draft, unique = waiting.draft, waiting.unique
        if draft.job_id in found:
            return draft.repeated(found[draft.job_id])
        now = self._now()
        verdict = uniqueness.weigh(unique, standing.jobs, now)
        if isinstance(verdict, uniqueness.Taken):
            if unique.on_conflict == "reject":
                raise uniqueness.not_unique(unique, verdict.by)
            return Submitted(job=verdict.by, created=False)
        writes, after = [], {}
        for other in verdict.cancels:
            events = decide(other, uniqueness.cancelling(draft.job_id), now)
            if events:
                cancel, after[other.id] = write_for(other, other.id, events, draft.meta, now)
                writes.append(cancel)
        # Behind the ends of those that it replaces: at no position does the log have two.
        write, job = draft.write(now, managed, uniqueness.spec_awaiting(draft.spec, verdict.awaits))
        writes.append(write)
        unknown = set(standing.names) - {other.id for other in standing.jobs}
        released = [job_id for job_id in standing.names if job_id in unknown or job_id in verdict.released]
        claim, names = claiming(standing, unique, draft.job_id, now, released)
        writes.append(claim)
        return _Plan(waiting, Unit(id=uuid7(), writes=writes, meta=draft.meta), job, after, names)


def _answer(batch: Sequence[_Waiting], answer: SubmitResult) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_result(answer)


def _count_round(line: deque[_Waiting]) -> None:
    waiting = line[0]
    waiting.rounds += 1
    if waiting.rounds >= ROUNDS:
        line.popleft()
        _answer([waiting], Unavailable("the unique key changed in every round", server="postgres"))


def _standing_after(standing: KeyState, plan: _Plan, job: Job) -> KeyState:
    known = {other.id: other for other in standing.jobs} | plan.after | {job.id: job}
    jobs = tuple(known[job_id] for job_id in plan.names if job_id in known)
    return KeyState(standing.stream_id, Version(standing.version + 1), jobs, plan.names)
