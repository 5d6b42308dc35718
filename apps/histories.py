"""Streams read piece by piece: what is held of a stream does not depend on its length.

Whoever knows a stream up to a version asks only for what came after it. Between two pieces the loop turns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from uuid import UUID

from rota_server.adapters.codec import decode
from rota_server.domain.errors import Unreadable
from rota_server.domain.jobs.job import Job, follow
from rota_server.domain.log import Recorded
from rota_server.domain.ports.event_log import LAST_VERSION, EventLog

PAGE_EVENTS = 1000
PAGE_BYTES = 4 * 1024 * 1024
"""After so many bytes of data a page has no further event."""

TOGETHER_EVENTS = 5000
TOGETHER_BYTES = 4 * PAGE_BYTES
"""Several streams are read with one query up to this size; with more they are read one by one."""


async def history_of(log: EventLog, stream_id: UUID, after: int = 0) -> AsyncIterator[Recorded]:
    """The events of one stream after a version, in order. Raises Unavailable."""
    while page := await log.read_stream_page(stream_id, after, PAGE_EVENTS, PAGE_BYTES):
        for raw in page:
            yield decode(raw)
        after = page[-1].version


async def changes_of(log: EventLog, job_id: UUID, upto: int = LAST_VERSION) -> AsyncIterator[Recorded]:
    """A job's events up to a version, of its reports only the last one, for `domain.jobs.job.follow`."""
    after = 0
    while page := await log.read_changes_page(job_id, after, PAGE_EVENTS, PAGE_BYTES, upto):
        for raw in page:
            yield decode(raw)
        after = page[-1].version


async def version_at(log: EventLog, stream_id: UUID, at: int | datetime) -> int:
    """The version of the stream's last event at a position or instant, 0 when there was none. Found by halving."""

    async def begun(version: int) -> bool:
        (raw,) = await log.read_stream_page(stream_id, version - 1, 1)
        return raw.position <= at if isinstance(at, int) else raw.recorded_at <= at

    low, high = 0, int(await log.last_version(stream_id)) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if await begun(middle) else (low, middle)
    return low


async def histories_of(log: EventLog, after: Mapping[UUID, int]) -> AsyncIterator[Sequence[Recorded]]:
    """The events of several streams after a version of each, in pieces of one stream; in order within each stream.

    Reports may be missing, as in `changes_of`. Raises Unavailable.
    """
    if not after:
        return
    together = await log.read_streams_within(after, TOGETHER_EVENTS, TOGETHER_BYTES)
    if together is not None:
        for history in together.values():
            yield history
    elif len(after) == 1:
        ((stream_id, version),) = after.items()
        while page := await log.read_changes_page(stream_id, version, PAGE_EVENTS, PAGE_BYTES):
            yield [decode(raw) for raw in page]
            version = page[-1].version
    else:
        streams = iter(after.items())
        for half in (dict(islice(streams, len(after) // 2)), dict(streams)):
            async for piece in histories_of(log, half):
                yield piece


async def jobs_of(log: EventLog, job_ids: Sequence[UUID]) -> dict[UUID, Job | Unreadable]:
    """These jobs as the log has them; unknown ones are missing. Raises Unavailable.

    Unreadable stands for a job whose first event cannot be read; one with a later such event says so itself.
    """
    return await _folded(log, dict.fromkeys(job_ids, 0), {})


async def jobs_since(log: EventLog, known: Sequence[Job]) -> dict[UUID, Job]:
    """These jobs as the log has them now, of which only the new events are read. Raises Unavailable."""
    jobs = await _folded(log, {job.id: job.version for job in known}, {job.id: job for job in known})
    return {job_id: job for job_id, job in jobs.items() if isinstance(job, Job)}


async def job_since(log: EventLog, known: Job) -> Job:
    """This job as the log has it now, of which only the new events are read. Raises Unavailable."""
    return (await jobs_since(log, [known]))[known.id]


async def _folded(log: EventLog, after: Mapping[UUID, int], known: Mapping[UUID, Job]) -> dict[UUID, Job | Unreadable]:
    jobs: dict[UUID, Job | Unreadable] = {**known}
    async for history in histories_of(log, after):
        job = jobs.get(history[0].stream_id)
        for recorded in history:
            if isinstance(job, Unreadable):
                break
            try:
                job = follow(job, recorded)
            except Unreadable as error:
                job = error
        if job is not None:
            jobs[history[0].stream_id] = job
    return jobs
