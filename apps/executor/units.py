"""From a decision about a job to the unit that records it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from uuid_utils.compat import uuid7

from rota_server.domain.events import Event
from rota_server.domain.jobs.decisions import write_for
from rota_server.domain.jobs.job import Job
from rota_server.domain.log import Meta, Unit


def unit_for(job: Job, events: Sequence[Event], actor: str, now: datetime, traceparent: str | None) -> tuple[Unit, Job]:
    """The unit with these events, and the job as it will be after them."""
    submitted = job.submitted_meta
    meta = Meta(actor=actor, correlation_id=submitted.correlation_id, traceparent=traceparent)
    write, after = write_for(job, job.id, events, meta, now)
    return Unit(id=uuid7(), writes=[write], meta=meta), after
