"""Compares what runs here with what the log says runs here, both ways, and heeds requests to end it.

The control stream is quick but may lose a notice; the comparison finds whatever it lost. In doubt whether others take
this executor for dead, it looks more often: an attempt is lost when the log says so, and not before. Where nobody is
left to ask, neither the log nor the broker, what runs is ended. See docs/decisions/0017-liveness.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from rota_server.apps.executor.attempt_runs import AttemptRuns, Running
from rota_server.apps.executor.attempts import Lost
from rota_server.apps.executor.reporting import Reporter
from rota_server.apps.executor.service import Executor
from rota_server.apps.histories import job_since, jobs_of
from rota_server.domain.errors import Unavailable, Unreadable
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.job import Job
from rota_server.domain.leader_state import RunningAttempt
from rota_server.domain.messaging import ControlChannel
from rota_server.domain.ports.event_log import EventLog
from rota_server.domain.ports.indexes import JobIndex
from rota_server.observability import unreadable

log = logging.getLogger("rota.executor")

COMPARE_SECONDS = 5.0
ROWS = 1000
UNKNOWN_SECONDS = 15.0
"""An attempt that stands as running here for so long without being known here is lost."""

DOUBT_SECONDS = 0.5
"""In doubt, how often the log is asked what has become of what runs here."""

ANSWER_SECONDS = 2.0
"""How long its answer may take."""

SILENCE_SECONDS = 5.0
"""Who has heard from nobody for so long ends what runs: less than others wait until they take it for dead."""


class StandingAttempts(Protocol):
    """What stands in the log as running, as the leader's projection has it."""

    async def of_executor(self, executor: str, *, older_than_seconds: float) -> list[RunningAttempt]:
        """Of this executor, started longer ago than that. Raises Unavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReconciler:
    """Watches over the attempts of one executor."""

    executor: Executor
    runs: AttemptRuns
    reporter: Reporter
    index: JobIndex
    event_log: EventLog
    attempts: StandingAttempts
    control: ControlChannel

    async def heed_notices(self) -> None:
        """End attempts whose cancellation is requested, or that were declared lost, forever."""
        async for notice in self.control.follow():
            self.runs.cancel(notice.job_id, notice.attempt)

    async def heed_doubts(self) -> None:
        """While others may take this executor for dead, look what they have made of it; forever."""
        heard_at = time.monotonic()
        while True:
            await asyncio.sleep(DOUBT_SECONDS)
            asked_at = time.monotonic()
            if self.executor.certain_since is not None:
                heard_at = asked_at
                continue
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self.end_what_is_over()
                    heard_at = asked_at
            if time.monotonic() - max(heard_at, self.control.heard_at or 0.0) > SILENCE_SECONDS:
                self._end_everything()

    def _end_everything(self) -> None:
        if any(running.abandoned is None for running in self.runs.running.values() if not running.ended):
            log.warning("nobody can be asked whether this executor is taken for dead: what runs is ended")
            self.runs.abandon_all(Lost("its executor was cut off from everybody"))

    async def compare(self) -> None:
        """Compare every few seconds, forever."""
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            await self.end_what_is_over()
            await self.give_up_what_is_unknown()

    async def end_what_is_over(self) -> None:
        """End attempts that the log says are over, or are to be cancelled."""
        known = {job_id: running for (job_id, _), running in self.runs.running.items() if not running.ended}
        names = list(known)
        for start in range(0, len(names), ROWS):
            rows = await self.index.get(names[start : start + ROWS])
            for job_id, row in rows.items():
                number = known[job_id].attempt.number
                if row.state != "running" or row.attempt != number:
                    self.runs.cancel(job_id, number, abandoned=Lost("it was declared lost"))
                elif row.version > known[job_id].job.version:
                    await self._look_closer(known[job_id])

    async def _look_closer(self, running: Running) -> None:
        """Somebody wrote to the job's stream: take that in, and end the attempt if it was a wish to cancel."""
        job = await job_since(self.event_log, running.job)
        if job.attempt != running.attempt.number or job.state != "running":
            return
        if job.version > running.job.version:
            running.job = job
        if job.cancel_requested:
            self.runs.cancel(job.id, running.attempt.number)

    async def _job(self, job_id: UUID) -> Job | None:
        job = (await jobs_of(self.event_log, [job_id])).get(job_id)
        if isinstance(job, Unreadable):
            unreadable.note("executor", job_id, job)
            return None
        return job

    async def give_up_what_is_unknown(self) -> None:
        """Declare lost what stands in the log as running here and is not."""
        identity = self.executor.identity
        for found in await self.attempts.of_executor(identity, older_than_seconds=UNKNOWN_SECONDS):
            if (found.job_id, found.attempt) in self.runs.running or found.job_id in self.executor.claiming:
                continue
            job = await self._job(found.job_id)
            if job is None or job.executor != identity or job.attempt != found.attempt:
                continue
            command = c.LoseAttempt(attempt=found.attempt, reason="its executor does not know it")
            (after,) = await self.reporter.commands([(job, command, job.submitted_meta.traceparent)], identity)
            if after is not None:
                log.warning("attempt %d of job %s is not known here and was given up", found.attempt, found.job_id)
