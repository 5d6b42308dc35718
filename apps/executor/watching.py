"""Compares what runs here with what the log says runs here, both ways, and heeds requests to cancel.

The control stream is quick but may lose a notice; the comparison finds whatever it lost.
"""

from __future__ import annotations

import asyncio
import logging

from adapters.postgres.running_attempts import PostgresRunningAttempts
from apps.executor.reporting import Reporter
from apps.executor.service import Executor
from domain import commands as c
from domain.jobs import fold
from domain.messaging import ControlChannel
from domain.ports import EventLog, JobIndex

log = logging.getLogger("rota.executor")

COMPARE_SECONDS = 5.0
UNKNOWN_SECONDS = 15.0
"""An attempt that stands as running here for so long without being known here is lost."""


async def heed_cancels(executor: Executor, control: ControlChannel) -> None:
    """End attempts whose cancellation is requested, for ever."""
    async for notice in control.follow():
        executor.cancel(notice.job_id, notice.attempt)


async def compare(
    executor: Executor, index: JobIndex, event_log: EventLog, attempts: PostgresRunningAttempts, reporter: Reporter
) -> None:
    """Compare every few seconds, for ever."""
    while True:
        await asyncio.sleep(COMPARE_SECONDS)
        await _end_what_is_over(executor, index, event_log)
        await _give_up_what_is_unknown(executor, event_log, attempts, reporter)


async def _end_what_is_over(executor: Executor, index: JobIndex, event_log: EventLog) -> None:
    known = {job_id: running for (job_id, _), running in executor.running.items()}
    names = list(known)
    for start in range(0, len(names), 1000):
        rows = await index.get(names[start : start + 1000])
        for job_id, row in rows.items():
            attempt = known[job_id].attempt.number
            if row.state != "running" or row.attempt != attempt:
                executor.cancel(job_id, attempt, abandoned="it was declared lost")
            elif row.version > known[job_id].job.version:
                job = fold(await event_log.read_stream(job_id))
                if job is not None and job.cancel_requested and job.attempt == attempt:
                    executor.cancel(job_id, attempt)


async def _give_up_what_is_unknown(
    executor: Executor, event_log: EventLog, attempts: PostgresRunningAttempts, reporter: Reporter
) -> None:
    for found in await attempts.of_executor(executor.identity, older_than_seconds=UNKNOWN_SECONDS):
        if (found.job_id, found.attempt) in executor.running:
            continue
        job = fold(await event_log.read_stream(found.job_id))
        if job is not None and job.executor == executor.identity and job.attempt == found.attempt:
            command = c.LoseAttempt(attempt=found.attempt, reason="its executor does not know it")
            if await reporter.command(job, command, executor.identity, job.submitted_meta.traceparent) is not None:
                log.warning("attempt %d of job %s is not known here any more", found.attempt, found.job_id)
