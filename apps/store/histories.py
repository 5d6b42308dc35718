"""Jobs from their histories, read page by page: what is held of a stream does not depend on its length."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID

from adapters.codec import decode
from apps.store.parts import StoreLog
from apps.store.submissions import job_of
from domain.events import JobSubmitted, UnreadableEvent
from domain.jobs import Job, evolve
from domain.log import Recorded

PAGE_EVENTS = 1000
TOGETHER_EVENTS = 5000
"""Events of several streams that are read with one query; longer ones are read one by one."""


async def history_of(log: StoreLog, stream_id: UUID) -> AsyncIterator[Recorded]:
    """The events of one stream, in order."""
    version = 0
    while True:
        page = await log.read_stream_page(stream_id, version, PAGE_EVENTS)
        for raw in page:
            yield decode(raw)
        if len(page) < PAGE_EVENTS:
            return
        version = page[-1].version


async def job_from(log: StoreLog, job_id: UUID, *, at: int | datetime | None = None) -> Job | None:
    """The job as it is, or was at a position or instant; None when the stream is no job's.

    Raises Unreadable when its first event cannot be read.
    """
    job: Job | None = None
    async for recorded in history_of(log, job_id):
        if job is None and not isinstance(recorded.event, JobSubmitted | UnreadableEvent):
            return None
        if at is not None and _later(recorded, at):
            break
        job = evolve(job, recorded)
    return job


def _later(recorded: Recorded, at: int | datetime) -> bool:
    return recorded.position > at if isinstance(at, int) else recorded.recorded_at > at


async def jobs_from(log: StoreLog, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
    """Those of the streams that are jobs."""
    if not job_ids:
        return {}
    histories = await log.read_streams_within(job_ids, TOGETHER_EVENTS)
    if histories is None and len(job_ids) == 1:
        found = await job_from(log, job_ids[0])
        return {} if found is None else {job_ids[0]: found}
    if histories is None:
        middle = len(job_ids) // 2
        return await jobs_from(log, job_ids[:middle]) | await jobs_from(log, job_ids[middle:])
    return {job_id: job for job_id in job_ids if (job := job_of(histories.get(job_id, ()))) is not None}
