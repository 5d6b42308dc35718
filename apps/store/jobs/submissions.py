"""A submission on its way from a request to the log: what it asks for, the unit that does it, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from rota_server.apps.store.http.fields import check_key, digest_of
from rota_server.apps.store.jobs.parsing import parse_job
from rota_server.apps.store.jobs.predecessors import Streams
from rota_server.domain.errors import Rejected, Unavailable
from rota_server.domain.ids import job_id_from_key
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Appended, Meta, StreamWrite, Unit

Known = Mapping[str, Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The answer to a submission: the job, and whether this request made it."""

    job: Job
    created: bool


SubmitResult = Submitted | Rejected | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A checked submission that is not in the log yet. `repeatable`: its id was given, so it may be there already."""

    job_id: UUID
    spec: JobSpec
    meta: Meta
    repeatable: bool = False
    idempotency_key: str | None = None
    digest: str | None = None

    def write(self, now: datetime, managed: frozenset[str], spec: JobSpec | None = None) -> tuple[StreamWrite, Job]:
        """The append that submits the job, perhaps with another spec than was asked for, and the job after it."""
        spec = spec or self.spec
        command = c.SubmitJob(
            spec=spec,
            idempotency_key=self.idempotency_key,
            request_digest=self.digest,
            managed=spec.queue in managed,
        )
        return write_for(None, self.job_id, decide(None, command, now), self.meta, now)

    def unit(self, now: datetime, managed: frozenset[str]) -> tuple[Unit, Job]:
        """The unit that submits the job and nothing else, and the job after it."""
        write, job = self.write(now, managed)
        return Unit(id=uuid7(), writes=[write], meta=self.meta), job

    def repeated(self, first: Job) -> Submitted:
        """The answer when this job is there already. Raises Rejected when it is not the same request."""
        if first.request_digest != self.digest:
            message = "Idempotency-Key: was used for another request"
            raise Rejected(message, field="Idempotency-Key", code="key-reused")
        return Submitted(job=first, created=False)


def draft_of(request: Any, given: str | None, known: Known, meta: Meta, now: datetime, streams: Streams) -> Draft:
    """The checked submission. `given`: the idempotency key that came beside the request. Raises Rejected."""
    if isinstance(request, Rejected):
        raise request
    spec = spec_of(request, known, now, streams)
    key = check_key(given if given is not None else request.get("idempotency_key"))
    if key is None:
        return Draft(job_id=uuid7(), spec=spec, meta=meta)
    digest = digest_of({name: value for name, value in request.items() if name != "idempotency_key"})
    job_id = job_id_from_key(key)
    return Draft(job_id=job_id, spec=spec, meta=meta, repeatable=True, idempotency_key=key, digest=digest)


def spec_of(request: Any, known: Known, now: datetime, streams: Streams) -> JobSpec:
    """The checked job that is to be submitted on its own; delays count from `now`. Raises Rejected."""
    spec = parse_job(request, now, known, streams, unique=True)
    if spec.unique is not None and spec.after is not None and spec.after.mode == "any":
        message = "unique: does not go with an `after` that waits for any of several jobs"
        raise Rejected(message, field="unique", code="invalid-argument")
    return spec


def placed(job: Job, result: Appended) -> Job:
    """The job with the place and time that its last events got."""
    changes: dict[str, Any] = {
        "position": result.last_position,
        "changed_at": result.recorded_at,
    }
    if job.version == 1:
        changes |= {"first_position": result.first_position, "submitted_at": result.recorded_at}
        if job.dispatched_at is not None:
            changes["dispatched_at"] = result.recorded_at
    elif job.dispatched_at == job.changed_at:
        changes["dispatched_at"] = result.recorded_at
    if job.finished_at == job.changed_at:
        changes["finished_at"] = result.recorded_at
    copy = object.__new__(Job)
    copy.__dict__.update(job.__dict__ | changes)
    return copy
