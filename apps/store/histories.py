"""Jobs from their histories, read page by page: what is held of a stream does not depend on its length."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from apps.histories import changes_of, jobs_of, version_at
from apps.store.parts import StoreLog
from domain.events import JobSubmitted, UnreadableEvent
from domain.jobs import Job, follow
from domain.ports import LAST_VERSION


async def job_from(log: StoreLog, job_id: UUID, *, at: int | datetime | None = None) -> Job | None:
    """The job as it is, or was at a position or instant; None when the stream is no job's.

    Raises Unreadable when its first event cannot be read.
    """
    upto = LAST_VERSION if at is None else await version_at(log, job_id, at)
    job: Job | None = None
    async for recorded in changes_of(log, job_id, upto):
        if job is None and not isinstance(recorded.event, JobSubmitted | UnreadableEvent):
            return None
        job = follow(job, recorded)
    return job


async def jobs_from(log: StoreLog, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
    """Those of the streams that are jobs."""
    return {job_id: job for job_id, job in (await jobs_of(log, job_ids)).items() if isinstance(job, Job)}
