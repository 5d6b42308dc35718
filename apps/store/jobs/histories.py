"""Jobs from their histories, read page by page: what is held of a stream does not depend on its length."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

from rota_server.adapters.codec import NO_META
from rota_server.apps.histories import changes_of, jobs_of, version_at
from rota_server.apps.store.parts import StoreLog
from rota_server.domain.errors import Unreadable
from rota_server.domain.events import UnreadableEvent
from rota_server.domain.jobs.events import JobSubmitted
from rota_server.domain.jobs.job import STATES, Job, follow
from rota_server.domain.jobs.spec import JobSpec, Priority
from rota_server.domain.ports.event_log import LAST_VERSION
from rota_server.domain.ports.indexes import HeadRow, JobIndex
from rota_server.observability import unreadable


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


async def jobs_known(log: StoreLog, index: JobIndex, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
    """As `jobs_from`; one whose first event cannot be read is as its row says."""
    found = await jobs_of(log, job_ids)
    strange = {job_id: job for job_id, job in found.items() if isinstance(job, Unreadable)}
    jobs = {job_id: job for job_id, job in found.items() if isinstance(job, Job)}
    for row in (await index.get(list(strange)) if strange else {}).values():
        job = _of_row(row, strange[row.id])
        jobs[job.id] = job
    return jobs


def _of_row(row: HeadRow, error: Unreadable) -> Job:
    """What is known of a job whose submission cannot be read: whoever wrote that also wrote its row."""
    unreadable.note("store", row.id, error)
    spec = JobSpec(task=row.task, queue=row.queue, priority=cast("Priority", row.priority), tags=row.tags, key=row.key)
    return Job(
        id=UUID(int=row.id.int),  # not the driver's own kind, which JSON lacks
        spec=spec,
        state=next((state for state in STATES if state == row.state), "waiting"),
        attempt=row.attempt,
        version=row.version,
        position=row.position,
        first_position=row.first_position,
        submitted_at=row.submitted_at,
        changed_at=row.changed_at,
        submitted_meta=NO_META,
        unreadable=f"position {row.first_position}: {error.message}",
    )
