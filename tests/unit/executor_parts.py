"""An executor whose log, broker and tasks are in memory, as far as its tests need them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from prometheus_client import CollectorRegistry
from uuid_utils.compat import uuid7

from rota_server.adapters.codec import encode_event
from rota_server.adapters.group_commit import GroupCommit
from rota_server.apps.executor.attempt_reconciler import AttemptReconciler
from rota_server.apps.executor.attempt_runs import AttemptRuns
from rota_server.apps.executor.attempts import Attempt, AttemptSink, Cancelled, Failed, Lost, Outcome, Succeeded
from rota_server.apps.executor.claiming import Claimer
from rota_server.apps.executor.metrics import AttemptMetrics
from rota_server.apps.executor.output import OutputKeeper
from rota_server.apps.executor.predecessors import Predecessors
from rota_server.apps.executor.reporting import Reporter
from rota_server.apps.executor.secret_sources import SecretSources
from rota_server.apps.executor.service import Executor
from rota_server.apps.executor.slots import Slots
from rota_server.domain.errors import Unavailable
from rota_server.domain.events import Event
from rota_server.domain.ids import Position, Term, Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import Job, fold
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.leader_state import RunningAttempt
from rota_server.domain.log import Appended, AppendResult, Conflicted, Meta, Recorded, Unit
from rota_server.domain.messaging import CancelNotice, WorkItem
from rota_server.domain.ports.indexes import HeadRow
from rota_server.domain.ports.job_logs import LogPart

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEST = Meta(actor="test")


class MemoryLog:
    """Streams of events, appended to as the port says; also what stands in their heads and runs by them."""

    def __init__(self) -> None:
        self.streams: dict[UUID, list[Recorded]] = {}
        self.units: dict[UUID, Appended] = {}
        self.last = 0
        self.read = 0
        self.calls: list[int] = []
        self.away = False
        self.forgets_to_answer = 0
        self.before_append: Callable[[Sequence[Unit]], None] | None = None
        self.open = asyncio.Event()
        self.open.set()

    def now(self) -> datetime:
        return NOW + timedelta(milliseconds=self.last)

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        await self.open.wait()
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the log is away", server="postgres")
        if self.before_append is not None:
            self.before_append(units)
        self.calls.append(len(units))
        results = [self._append(unit) for unit in units]
        if self.forgets_to_answer:
            self.forgets_to_answer -= 1
            raise Unavailable("the answer was lost", server="postgres")
        return results

    def _append(self, unit: Unit) -> AppendResult:
        if unit.id in self.units:
            return self.units[unit.id]
        for write in unit.writes:
            if len(self.streams.get(write.stream_id, [])) != write.expected_version:
                return Conflicted(write.stream_id)
        first = Position(self.last + 1)
        for write in unit.writes:
            for event in write.events:
                encode_event(event)
                self.last += 1
                stream = self.streams.setdefault(write.stream_id, [])
                place = Position(self.last), write.stream_id, Version(len(stream) + 1)
                stream.append(Recorded(*place, event, unit.meta, self.now()))
        self.units[unit.id] = Appended(first, Position(self.last), self.now())
        return self.units[unit.id]

    async def read_streams_within(
        self, after: Mapping[UUID, int], limit: int, limit_bytes: int
    ) -> dict[UUID, list[Recorded]] | None:
        if self.away:
            raise Unavailable("the log is away", server="postgres")
        found = {name: events for name, seen in after.items() if (events := self.streams.get(name, [])[seen:])}
        self.read += sum(len(events) for events in found.values())
        return found

    def job(self, job_id: UUID) -> Job:
        job = fold(self.streams[job_id])
        assert job is not None
        return job

    def write(self, job: Job | None, job_id: UUID, events: Sequence[Event]) -> Job:
        write, _ = write_for(job, job_id, events, TEST, self.now())
        assert isinstance(self._append(Unit(id=uuid7(), writes=[write], meta=TEST)), Appended)
        return self.job(job_id)

    def command(self, job_id: UUID, command: c.Command) -> Job:
        job = self.job(job_id)
        return self.write(job, job_id, decide(job, command, self.now()))

    def submit(self, task: str = "noop", **spec: Any) -> UUID:
        job_id = uuid7()
        self.write(None, job_id, decide(None, c.SubmitJob(spec=JobSpec(task=task, **spec)), self.now()))
        return job_id

    def types(self, job_id: UUID) -> list[str]:
        return [type(recorded.event).__name__ for recorded in self.streams[job_id]]

    def starts(self, job_id: UUID) -> int:
        return self.types(job_id).count("AttemptStarted")

    async def get(self, job_ids: Sequence[UUID]) -> dict[UUID, HeadRow]:
        if self.away:
            raise Unavailable("the log is away", server="postgres")
        return {job_id: _row(self.job(job_id)) for job_id in job_ids if job_id in self.streams}

    async def sizes(self, ids: Sequence[UUID]) -> dict[UUID, int]:
        return {job_id: len(orjson.dumps(value)) for job_id, value in (await self.values(ids)).items()}

    async def values(self, ids: Sequence[UUID]) -> dict[UUID, Any]:
        if self.away:
            raise Unavailable("the log is away", server="postgres")
        jobs = {job_id: self.job(job_id) for job_id in ids if job_id in self.streams}
        return {job_id: job.result for job_id, job in jobs.items() if job.state == "succeeded"}

    async def of_executor(self, executor: str, *, older_than_seconds: float) -> list[RunningAttempt]:
        jobs = [self.job(job_id) for job_id in self.streams]
        return [_standing(job) for job in jobs if job.state == "running" and job.executor == executor]


def _row(job: Job) -> HeadRow:
    return HeadRow(
        id=job.id, version=job.version, position=job.position, first_position=job.first_position, state=job.state,
        attempt=job.attempt, queue=job.spec.queue, priority=job.spec.priority, task=job.spec.task, tags={},
        submitted_at=job.submitted_at, changed_at=job.changed_at, due_at=job.due_at,
    )  # fmt: skip


def _standing(job: Job) -> RunningAttempt:
    return RunningAttempt(
        job_id=job.id, attempt=job.attempt, version=job.version, executor=job.executor or "", started_at=NOW,
        timeout_seconds=None,
    )  # fmt: skip


class MemoryQueue:
    """Work items, handed out once each; `delivered_twice` hands out everything again."""

    def __init__(self) -> None:
        self.waiting: list[WorkItem] = []
        self.abandoned: list[WorkItem] = []
        self.acknowledged: list[WorkItem] = []
        self.parked: list[tuple[WorkItem, str]] = []
        self.asked: list[int] = []
        self.away = False
        self._changed = asyncio.Event()

    def put(self, *items: WorkItem) -> None:
        self.waiting.extend(items)
        self._changed.set()

    async def take(self, free_slots: int) -> list[WorkItem]:
        self._available()
        self.asked.append(free_slots)
        items, self.waiting = self.waiting[:free_slots], self.waiting[free_slots:]
        return items

    async def wait(self, timeout_seconds: float) -> None:
        self._available()
        self._changed.clear()
        if not self.waiting:
            await self._changed.wait()

    async def done(self, items: Sequence[WorkItem]) -> None:
        self._available()
        self.acknowledged.extend(items)

    async def park(self, items: Sequence[tuple[WorkItem, str]]) -> None:
        self._available()
        self.parked.extend(items)

    async def reclaim(self, limit: int) -> list[WorkItem]:
        items, self.abandoned = self.abandoned[:limit], self.abandoned[limit:]
        return items

    def _available(self) -> None:
        if self.away:
            raise Unavailable("the broker is away", server="redis")


def item_of(log: MemoryLog, job_id: UUID, *, inline: bool = True) -> WorkItem:
    """The dispatch of the job that stands in the log last."""
    last = log.streams[job_id][-1]
    submitted = last if inline and last.version == 1 else None
    return WorkItem("default", "normal", job_id, last.version, last.position, submitted)


class TestRunner:
    """Ends attempts when the test says so, and `noop` at once."""

    __test__ = False

    def __init__(self) -> None:
        self.started: list[Attempt] = []
        self.sinks: dict[UUID, AttemptSink] = {}
        self.cancelled: list[Attempt] = []
        self.stubborn = False
        self.most = 0
        self._ends: dict[UUID, asyncio.Future[Outcome]] = {}

    async def run(self, attempt: Attempt, sink: AttemptSink) -> Outcome:
        attempt.begin()
        self.started.append(attempt)
        self.sinks[attempt.job_id] = sink
        if attempt.task == "noop":
            return Succeeded(attempt.args.get("returns"))
        if attempt.task == "defect":
            raise RuntimeError("the runner is broken")
        future = self._ends[attempt.job_id] = asyncio.get_running_loop().create_future()
        self.most = max(self.most, len(self._ends))
        try:
            return await future
        finally:
            del self._ends[attempt.job_id]

    def end(self, job_id: UUID, outcome: Outcome) -> None:
        self._ends[job_id].set_result(outcome)

    def running(self, job_id: UUID) -> bool:
        return job_id in self._ends

    def cancel(self, attempt: Attempt) -> None:
        self.cancelled.append(attempt)
        if not self.stubborn and attempt.job_id in self._ends and not self._ends[attempt.job_id].done():
            self.end(attempt.job_id, Cancelled())

    async def kill(self) -> None:
        for future in self._ends.values():
            if not future.done():
                future.set_result(Lost("its task process was stopped"))


class MemoryLogs:
    """Parts of job logs, the first of each number."""

    def __init__(self) -> None:
        self.parts: dict[tuple[UUID, int, int], LogPart] = {}
        self.away = False
        self.forgets_to_answer = 0

    async def write(self, parts: Sequence[LogPart]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the database is away", server="postgres")
        for part in parts:
            self.parts.setdefault((part.job_id, part.attempt, part.part), part)
        if self.forgets_to_answer:
            self.forgets_to_answer -= 1
            raise Unavailable("the answer was lost", server="postgres")

    def text(self, job_id: UUID) -> str:
        return "".join(part.text for name, part in sorted(self.parts.items()) if name[0] == job_id)


class MemoryRegistration:
    """A place among the members that the test brings into doubt."""

    def __init__(self) -> None:
        self.certain_since: float | None = 0.0
        self.lost = False

    async def wait_lost(self) -> None:
        await asyncio.Event().wait()

    async def update(self, info: Any) -> None:
        """Nobody looks."""


class MemoryControl:
    """A control stream on which nothing comes; `heard_at` as the test says."""

    def __init__(self) -> None:
        self.heard_at: float | None = None

    async def follow(self) -> AsyncIterator[CancelNotice]:
        await asyncio.Event().wait()
        yield  # type: ignore[misc]


class TestExecutor:
    """The executor's parts, wired as in its composition root."""

    __test__ = False

    def __init__(
        self, log: MemoryLog, queue: MemoryQueue, *, identity: str = "e1", slots: int = 10,
        without_python: bool = False, knows: Callable[[str], bool] = lambda _: True,
        secrets: SecretSources | None = None,
    ) -> None:  # fmt: skip
        self.log = log
        self.queue = queue
        self.logs = MemoryLogs()
        self.runner = TestRunner()
        self.registry = CollectorRegistry()
        metrics = self.metrics = AttemptMetrics(self.registry)
        commit = GroupCommit(log)
        self.slots = Slots(slots)
        self.output = OutputKeeper(self.logs)
        self.reporter = Reporter(log, commit, log.now)
        self.runs = AttemptRuns(
            slots=self.slots, reporter=self.reporter, output=self.output, builtin={},
            python=None if without_python else self.runner, predecessors=Predecessors(log),
            secrets=secrets or SecretSources({}), metrics=metrics,
        )  # fmt: skip
        self.executor = Executor(
            identity=identity, slots=self.slots, queue=queue, claimer=Claimer(log, commit, log.now, knows),
            runs=self.runs, metrics=metrics,
        )  # fmt: skip
        self.control = MemoryControl()
        self.registration = MemoryRegistration()
        self.watcher = AttemptReconciler(
            executor=self.executor, runs=self.runs, reporter=self.reporter, index=log, event_log=log, attempts=log,
            control=self.control,
        )  # fmt: skip

    def registered(self) -> None:
        """Stand among the members again."""
        self.registration = MemoryRegistration()
        self.executor.registered(self.registration)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[TestExecutor]:
        """Take work while the context lasts."""
        self.registered()
        taking = asyncio.create_task(self.executor.take_work())
        try:
            yield self
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def settled(self) -> None:
        """Wait until nothing runs here."""
        assert await self.runs.wait_all(10) == 0


FAILED = Failed("ValueError", "not this time")
