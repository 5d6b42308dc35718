"""A log in memory, as small as the tests of the Redis side need it, and jobs that live in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from rota_server.adapters.codec import decode, encode_event, encode_meta
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import Job, evolve
from rota_server.domain.jobs.spec import JobSpec, Priority
from rota_server.domain.log import Meta, RawEvent, Recorded
from rota_server.domain.ports.indexes import HeadRow

ACTOR = Meta(actor="test")


class SmallLog:
    """What the relay and the feed ask of an EventLog and a JobIndex."""

    def __init__(self) -> None:
        self.events: list[RawEvent] = []
        self.jobs: dict[UUID, Job] = {}
        self.reads = 0
        self._grown = asyncio.Event()

    def submit(self, count: int = 1, *, meta: Meta = ACTOR, **spec: Any) -> list[UUID]:
        ids = [uuid7() for _ in range(count)]
        for job_id in ids:
            command = c.SubmitJob(spec=JobSpec(**{"task": "noop", **spec}))
            self._write(None, job_id, decide(None, command, datetime.now(UTC)), meta)
        self._grown.set()
        return ids

    def command(self, job_id: UUID, command: c.Command) -> None:
        job = self.jobs[job_id]
        self._write(job, job_id, decide(job, command, datetime.now(UTC)), ACTOR)
        self._grown.set()

    def start(self, job_id: UUID, executor: str = "e1") -> None:
        self.command(job_id, c.StartAttempt(executor=executor))

    def _write(self, job: Job | None, job_id: UUID, events: Sequence[Any], meta: Meta) -> None:
        now = datetime.now(UTC)
        write, _ = write_for(job, job_id, events, meta, now)
        for offset, event in enumerate(events, start=1):
            position, version = Position(len(self.events) + 1), Version(write.expected_version + offset)
            data, meta_text = encode_event(event).decode(), encode_meta(meta, unit=uuid7()).decode()
            self.events.append(RawEvent(position, job_id, version, type(event).__name__, now, data, meta_text))
            job = evolve(job, Recorded(position, job_id, version, event, meta, now))
        assert job is not None
        self.jobs[job_id] = job

    async def read_raw(self, after: Position, limit: int) -> list[RawEvent]:
        self.reads += 1
        return self.events[after : after + limit]

    async def read(self, after: Position, limit: int) -> list[Recorded]:
        return [decode(raw) for raw in await self.read_raw(after, limit)]

    async def last_position(self) -> Position:
        return Position(len(self.events))

    async def wait_for_append(self, after: Position, timeout_seconds: float) -> None:
        self._grown.clear()
        if len(self.events) > after:
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._grown.wait()
        except TimeoutError:
            return

    async def queued(self, after: Position, limit: int) -> list[HeadRow]:
        rows = [_row(job) for job in self.jobs.values() if job.state == "queued" and job.position > after]
        return sorted(rows, key=lambda row: row.position)[:limit]


def _row(job: Job) -> HeadRow:
    priority: Priority = job.spec.priority
    return HeadRow(
        id=job.id,
        version=job.version,
        position=job.position,
        first_position=job.first_position,
        state=job.state,
        attempt=job.attempt,
        queue=job.spec.queue,
        priority=priority,
        task=job.spec.task,
        tags=job.spec.tags,
        submitted_at=job.submitted_at,
        changed_at=job.changed_at,
        due_at=job.due_at,
    )
