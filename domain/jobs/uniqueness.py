"""One job for a key at a time: who holds a key, and what becomes of the next one. Pure.

Every key has a stream of its own. A unit that submits a unique job, or opens an ended one again, also claims its key
there at the version that the decision was made on: whoever decided on older knowledge is refused, and looks again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from rota_server.domain.errors import NotUnique
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.events import UniqueClaimed
from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.spec import After, JobSpec, Predecessor, Unique
from rota_server.domain.log import ResourceHead

KIND = "unique"
HOLDERS_LIMIT = 200
"""Jobs that may hold one key without having ended; more can only come together under the scope `running`."""

AWAITED_NAME = "previous"
"""What a job that is waited for is called among the predecessors of the job that comes after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Nothing is submitted: this job holds the key."""

    by: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """The job is submitted.

    `cancels`: those that it replaces; `awaits`: whose ends it waits for; `released`: who no longer holds the key.
    """

    cancels: tuple[Job, ...] = ()
    awaits: tuple[Job, ...] = ()
    released: tuple[UUID, ...] = ()


def weigh(unique: Unique, holders: Sequence[Job], now: datetime) -> Taken | Free:
    """What becomes of a job that asks for its key now, which these jobs hold, the last one to claim it last.

    Raises NotUnique when so many unfinished jobs hold the key that one more is not taken.
    """
    alive = [job for job in holders if not job.ended]
    ended = tuple(job.id for job in holders if job.ended)
    blocking = [job for job in holders if in_scope(unique, job, now)]
    if not blocking:
        if len(alive) >= HOLDERS_LIMIT:
            message = f"unique.key: {len(alive)} unfinished jobs hold it; the limit is {HOLDERS_LIMIT}"
            raise NotUnique(message, job=alive[-1].id)
        return Free(released=ended)
    if unique.on_conflict in ("reject", "return"):
        return Taken(by=blocking[-1])
    running = tuple(job for job in blocking if job.state == "running")
    if unique.on_conflict == "replace":
        replaced = tuple(job for job in blocking if not job.ended and job.state != "running")
        return Free(cancels=replaced + running, awaits=running, released=_over(replaced, ended))
    replaced = tuple(job for job in alive if job.state != "running")
    return Free(cancels=replaced, awaits=running, released=_over(replaced, ended))


def in_scope(unique: Unique, job: Job, now: datetime) -> bool:
    """Whether this job stands in the way of another one that asks for its key now."""
    match unique.scope:
        case "queued":
            return not job.ended and job.state != "running"
        case "running":
            return job.state == "running"
        case "unfinished":
            return not job.ended
        case "seconds":
            return now - job.submitted_at < timedelta(seconds=unique.seconds or 0.0)


def check_reopening(unique: Unique, job_id: UUID, holders: Sequence[Job], now: datetime) -> None:
    """Raise NotUnique when this ended job may not run again since another one stands in its way.

    A retry by hand never replaces another job, whatever the policy says about submissions.
    """
    blocking = [job for job in holders if job.id != job_id and in_scope(unique, job, now)]
    if blocking:
        raise not_unique(unique, blocking[-1])


def not_unique(unique: Unique, job: Job) -> NotUnique:
    """The refusal that names the job which holds the key."""
    return NotUnique(f"unique.key: job {job.id} holds {unique.key!r} and is {job.state}", job=job.id)


def spec_awaiting(spec: JobSpec, awaits: Sequence[Job]) -> JobSpec:
    """The job so that it also waits for the ends of these jobs."""
    if not awaits:
        return spec
    asked = () if spec.after is None else spec.after.predecessors
    known = {predecessor.id for predecessor in asked}
    fresh = [job for job in awaits if job.id not in known]
    taken = {predecessor.name for predecessor in asked}
    numbered = (f"{AWAITED_NAME}-{number}" for number in itertools.count(2))
    names = (name for name in itertools.chain((AWAITED_NAME,), numbered) if name not in taken)
    more = tuple(Predecessor(id=job.id, name=name, outcome="ended") for job, name in zip(fresh, names, strict=False))
    return replace(spec, after=replace(spec.after or After(predecessors=()), predecessors=(*asked, *more)))


def cancelling(successor: UUID) -> c.RequestCancel:
    """The command that ends a job which another one replaces."""
    return c.RequestCancel(reason=f"replaced by job {successor}", cause="replaced")


def holders_of(doc: Mapping[str, Any]) -> tuple[UUID, ...]:
    """Who holds the key, by the state of its stream; some of them may have ended."""
    return tuple(UUID(job) for job in doc["jobs"])


def evolve(jobs: Iterable[UUID], event: UniqueClaimed) -> tuple[UUID, ...]:
    """Who holds the key after this event."""
    gone = {event.job, *event.released}
    return (*(job for job in jobs if str(job) not in gone), UUID(event.job))


def head_of(unique: Unique, jobs: Sequence[UUID], now: datetime) -> ResourceHead:
    """The state of the key's stream. `due_at`: from then on it may be forgotten, once all its jobs have ended."""
    keeps = timedelta(seconds=unique.seconds or 0.0)
    return ResourceHead(kind=KIND, name=unique.key, doc={"jobs": [str(job) for job in jobs]}, due_at=now + keeps)


def _over(replaced: Sequence[Job], ended: tuple[UUID, ...]) -> tuple[UUID, ...]:
    return (*ended, *(job.id for job in replaced))
