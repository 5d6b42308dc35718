"""Jobs from their histories, read page by page: what is held of a stream does not depend on its length."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from apps.histories import history_of, jobs_of
from apps.store.parts import StoreLog
from domain.events import JobSubmitted, UnreadableEvent
from domain.jobs import Job, evolve
from domain.log import Recorded


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
    return {job_id: job for job_id, job in (await jobs_of(log, job_ids)).items() if isinstance(job, Job)}
