"""The executor: takes what it has free slots for, claims it, runs it, reports it.

Dies at any point without harm: an entry that was taken but not claimed is taken over by another executor; an attempt
that was claimed is declared lost by the leader once this executor is gone; a report that is not in the log yet is lost
with the attempt, and the retry policy decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.executor.attempts import Attempt, Cancelled, Failed, Lost, Outcome, Runner
from apps.executor.claiming import Claimed, Claimer
from apps.executor.output import OutputKeeper
from apps.executor.reporting import Reporter
from apps.service import Backoff
from domain import commands as c
from domain.errors import Unavailable
from domain.jobs import Job
from domain.messaging import WorkItem, WorkQueue
from observability import tracing
from observability.metrics import AttemptMetrics

log = logging.getLogger("rota.executor")

WAIT_SECONDS = 1.0
RECLAIM_SECONDS = 5.0
MAX_UNREPORTED = 2
"""Attempts whose report is not in the log yet may be this many times the slots; then nothing new is taken."""


@dataclass(slots=True)
class Running:
    """An attempt from its claim to its report."""

    job: Job
    attempt: Attempt
    runner: Runner
    span: tracing.SpanHandle
    abandoned: str | None = None


class Executor:
    """Slots, and what runs in them. `identity` is how the log knows this executor; it changes when it was lost."""

    def __init__(
        self,
        *,
        identity: str,
        slots: int,
        queue: WorkQueue,
        claimer: Claimer,
        reporter: Reporter,
        output: OutputKeeper,
        builtin: Mapping[str, Runner],
        python: Runner | None,
        metrics: AttemptMetrics,
    ) -> None:
        self.identity = identity
        self.slots = slots
        self.running: dict[tuple[UUID, int], Running] = {}
        self._queue = queue
        self._claimer = claimer
        self._reporter = reporter
        self._output = output
        self._builtin = builtin
        self._python = python
        self._metrics = metrics
        self._busy = 0
        self._freed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._claiming = 0

    @property
    def free(self) -> int:
        """Slots that may be filled now."""
        unreported = len(self.running) - self._busy
        room = self.slots * MAX_UNREPORTED - unreported
        return max(0, min(self.slots - self._busy, room))

    async def take_work(self) -> None:
        """Take and start work for ever; returns when draining."""
        backoff = Backoff()
        while not self._draining:
            if self.free == 0:
                self._freed.clear()
                await self._freed.wait()
                continue
            try:
                items = await self._queue.take(self.free)
                if items:
                    await self.start(items)
                else:
                    await self._queue.wait(WAIT_SECONDS)
                backoff.succeeded()
            except Unavailable as error:
                log.warning("can not take work: %s", error)
                await backoff.pause()

    async def reclaim_work(self) -> None:
        """Take over what others took but did not claim, for ever."""
        while not self._draining:
            await asyncio.sleep(RECLAIM_SECONDS)
            if self.free > 0:
                items = await self._queue.reclaim(self.free)
                if items:
                    log.warning("took over %d dispatches that another executor had left", len(items))
                    await self.start(items)

    async def start(self, items: list[WorkItem]) -> None:
        """Claim the items and run what was won; acknowledge all of them."""
        self._busy += len(items)
        self._claiming += 1
        won: list[Claimed] = []
        try:
            won = await self._claimer.claim(items, self.identity)
            for claimed in won:
                self._start(claimed)
        finally:
            self._busy -= len(items)
            self._claiming -= 1
            self._freed.set()
        await self._queue.done(items)

    def _start(self, claimed: Claimed) -> None:
        job = claimed.job
        spec = job.spec
        attempt = Attempt(
            job_id=job.id,
            number=job.attempt,
            task=spec.task,
            args=spec.args,
            queue=spec.queue,
            timeout_seconds=spec.timeout_seconds,
            tags=spec.tags,
            traceparent=claimed.span.traceparent,
        )
        runner = self._builtin.get(spec.task) or self._python or _NoTasks()
        running = Running(job, attempt, runner, claimed.span)
        self.running[job.id, job.attempt] = running
        self._busy += 1
        task = asyncio.get_running_loop().create_task(self._run(running))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, running: Running) -> None:
        attempt = running.attempt
        executor = running.job.executor or self.identity
        try:
            try:
                outcome = await running.runner.run(attempt, self._output)
            finally:
                self._busy -= 1
                self._freed.set()
            if running.abandoned is not None and isinstance(outcome, Cancelled | Lost):
                outcome = Lost(running.abandoned)
            await self._finish_output(attempt)
            said = await self._reporter.report(running.job, outcome, executor, running.span.traceparent)
            self._metrics.ended(attempt.task, said)
            if not said.startswith("AttemptSucceeded"):
                running.span.failed(said)
        finally:
            running.span.end()
            self.running.pop((attempt.job_id, attempt.number), None)
            self._freed.set()

    async def _finish_output(self, attempt: Attempt) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._output.finish(attempt)
            except Unavailable:
                await backoff.pause()
            else:
                return

    def cancel(self, job_id: UUID, attempt: int, *, abandoned: str | None = None) -> None:
        """End an attempt if it runs here; `abandoned` says why its outcome will not count."""
        running = self.running.get((job_id, attempt))
        if running is not None:
            running.abandoned = running.abandoned or abandoned
            running.runner.cancel(running.attempt)

    def abandon_all(self, reason: str) -> None:
        """End everything that runs: others may take this executor for dead already."""
        for job_id, attempt in list(self.running):
            self.cancel(job_id, attempt, abandoned=reason)

    async def report_progress(self, attempt: Attempt, fraction: float | None, message: str | None) -> None:
        """Append an attempt's progress; one that lost a conflict is left out."""
        running = self.running.get((attempt.job_id, attempt.number))
        if running is None:
            return
        command = c.ReportProgress(attempt=attempt.number, fraction=fraction, message=message)
        executor = running.job.executor or self.identity
        after = await self._reporter.command(running.job, command, executor, running.span.traceparent)
        if after is not None:
            running.job = after

    async def drain(self, seconds: float, *, kill: Any) -> None:
        """Take nothing more, let what runs finish within the time, then end it; everything is reported."""
        self._draining = True
        self._freed.set()
        while self._claiming:
            # What is being claimed now will run here, or nowhere until the leader notices.
            self._freed.clear()
            await self._freed.wait()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        if self._tasks:
            log.warning("%d attempts did not end within %.0f s and are given back", len(self._tasks), seconds)
            self.abandon_all("its executor stopped")
            await kill()
            await asyncio.wait(self._tasks, timeout=10)


class _NoTasks:
    """The Runner of tasks that this executor does not have."""

    async def run(self, attempt: Attempt, sink: object) -> Outcome:  # noqa: ARG002
        return Failed("UnknownTask", f"this executor has no task {attempt.task}")

    def cancel(self, attempt: Attempt) -> None:
        """There is nothing to end."""
