"""The raw log alone: 500 events a call, one connection, jobs from submission to success."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Meta, Unit

EVENTS_A_CALL = 500


async def append_rate(database: Database, *, seconds: float) -> float:
    """Events per second; what is appended is decided before, only the appends are timed."""
    log = PostgresEventLog(database)
    spent = 0.0
    events = 0
    try:
        while spent < seconds:
            for units in _lifecycle():
                began = time.perf_counter()
                await log.append(units)
                spent += time.perf_counter() - began
                events += len(units)
    finally:
        await log.close()
    return events / spent


def _lifecycle() -> list[list[Unit]]:
    """Three calls: so many jobs submitted, started, succeeded."""
    now = datetime.now(UTC)
    meta = Meta(actor="bench")
    jobs: list[Job | None] = [None] * EVENTS_A_CALL
    ids = [uuid7() for _ in jobs]
    calls = []
    commands: list[c.Command] = [
        c.SubmitJob(spec=JobSpec(task="bench.noop", queue="bench")),
        c.StartAttempt(executor="bench"),
        c.SucceedAttempt(attempt=1, executor="bench", result=None),
    ]
    for command in commands:
        units = []
        for index, job in enumerate(jobs):
            write, jobs[index] = write_for(job, ids[index], decide(job, command, now), meta, now)
            units.append(Unit(id=uuid7(), writes=[write], meta=meta))
        calls.append(units)
    return calls
