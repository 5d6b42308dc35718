"""A job's state and how events change it.

`evolve` only folds; whether an event may happen is `domain.jobs.decisions`' business. A `Job` is never changed in
place: each event gives a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from rota_server.domain import events as domain_events
from rota_server.domain.errors import Unreadable
from rota_server.domain.events import Event
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import events as e
from rota_server.domain.jobs.events import AttemptError
from rota_server.domain.jobs.spec import JobSpec, lane_of
from rota_server.domain.log import JobHead, Meta, Recorded

State = Literal["scheduled", "waiting", "queued", "running", "retrying", "succeeded", "failed", "cancelled", "expired"]
STATES: tuple[State, ...] = (
    "scheduled",
    "waiting",
    "queued",
    "running",
    "retrying",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
)
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is known of a job at a version of its stream.

    `attempt` numbers the current or last attempt, from 1; 0 before the first. `failures` and `losses` count the
    attempts that used up the two budgets since the job was last requeued. `due_at` is the next instant at which the
    clock matters. Instants are the log's (`recorded_at`). `dispatch_traceparent` is what led to the last dispatch.
    `unreadable` says which event of the stream this version of Rota cannot read, if there is one.
    """

    id: UUID
    spec: JobSpec
    state: State
    version: Version
    position: Position
    first_position: Position
    submitted_at: datetime
    changed_at: datetime
    submitted_meta: Meta
    idempotency_key: str | None = None
    request_digest: str | None = None
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    run_at: datetime | None = None
    expires_at: datetime | None = None
    dispatched_at: datetime | None = None
    dispatch_traceparent: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    executor: str | None = None
    awaits: e.Waits | None = None
    result: Any = None
    error: AttemptError | None = None
    cancel_requested: bool = False
    cancel_cause: str | None = None
    reason: str | None = None
    progress: tuple[float | None, str | None] | None = None
    unreadable: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the job has reached one of its ends (a retry by hand may still reopen it)."""
        return self.state in ENDED

    @property
    def due_at(self) -> datetime | None:
        """When the scheduler has to look at the job by the clock, None for never."""
        if self.state in ("queued", "waiting"):
            return self.expires_at
        if self.state in ("scheduled", "retrying"):
            times = [t for t in (self.run_at, self.expires_at) if t is not None]
            return min(times) if times else None
        return None


def evolve(job: Job | None, recorded: Recorded) -> Job:
    """The job after this event.

    An event that cannot be read or cannot follow leaves the job as it was but for `unreadable`, which says so: from
    there on nothing is decided about it. Raises Unreadable when that is the first event.
    """
    event = recorded.event
    if job is None:
        if type(event) is not e.JobSubmitted:
            message = f"a job's stream starts with {domain_events.named(event)}"
            raise Unreadable(message, stream_id=recorded.stream_id, position=recorded.position)
        return _submitted(event, recorded)
    change = _CHANGES.get(type(event))
    why = job.unreadable
    if why is None and change is None:
        why = f"position {recorded.position}: {domain_events.named(event)} has no place in a job's stream"
    if why is None and recorded.version != job.version + 1:
        why = f"position {recorded.position}: version {recorded.version} follows {job.version}"
    if why is not None or change is None:
        place = {"version": recorded.version, "position": recorded.position, "changed_at": recorded.recorded_at}
        return _changed(job, {**place, "unreadable": why})
    changed = _changed(job, change(job, event, recorded.recorded_at))
    return _changed(
        changed,
        {
            "version": recorded.version,
            "position": recorded.position,
            "changed_at": recorded.recorded_at,
            **({"dispatch_traceparent": recorded.meta.traceparent} if type(event) in _DISPATCHES else {}),
        },
    )


REPORTS: frozenset[str] = frozenset({"ProgressReported"})
"""Types of events of which the last one counts, and the ones before it need not be read."""


def follow(job: Job | None, recorded: Recorded) -> Job:
    """As `evolve`, where the reports before this event may have been left out."""
    if job is not None and recorded.version > job.version + 1:
        job = _changed(job, {"version": recorded.version - 1})
    return evolve(job, recorded)


def fold(history: Iterable[Recorded]) -> Job | None:
    """The job that this history, from its first event on, describes; None for an empty one."""
    job: Job | None = None
    for recorded in history:
        job = evolve(job, recorded)
    return job


def foresee(job: Job | None, job_id: UUID, events: Iterable[Event], meta: Meta, now: datetime) -> Job | None:
    """The job as it will be when the log has taken these events; their positions are not known yet."""
    version = 0 if job is None else job.version
    for event in events:
        version += 1
        place = Recorded(Position(0), job_id, Version(version), event, meta, now)
        job = evolve(job, place)
    return job


def head_of(job: Job) -> JobHead:
    """The row that stands for this job in `jobs`."""
    spec = job.spec
    return JobHead(
        state=job.state,
        attempt=job.attempt,
        queue=spec.queue,
        priority=spec.priority,
        task=spec.task,
        tags=spec.tags,
        due_at=job.due_at,
        key=spec.key,
        lane=lane_of(spec.queue, spec.priority, spec.key) if job.awaits == "limits" else None,
        origin_id=None if spec.origin is None else spec.origin.id,
        awaits=_awaited(job),
    )


def _awaited(job: Job) -> tuple[UUID, ...]:
    if job.awaits != "dependencies" or job.spec.after is None:
        return ()
    return tuple(predecessor.id for predecessor in job.spec.after.predecessors)


def _changed(job: Job, changes: dict[str, Any]) -> Job:
    # dataclasses.replace runs the constructor for two dozen fields; this is on the path of every event.
    copy = object.__new__(Job)
    copy.__dict__.update(job.__dict__)
    copy.__dict__.update(changes)
    return copy


def _submitted(event: e.JobSubmitted, recorded: Recorded) -> Job:
    spec = event.spec
    immediate = spec.run_at is None and event.waits is None
    later: State = "scheduled" if event.waits is None else "waiting"
    return Job(
        id=recorded.stream_id,
        spec=spec,
        state="queued" if immediate else later,
        awaits=event.waits,
        version=recorded.version,
        position=recorded.position,
        first_position=recorded.position,
        submitted_at=recorded.recorded_at,
        changed_at=recorded.recorded_at,
        submitted_meta=recorded.meta,
        idempotency_key=event.idempotency_key,
        request_digest=event.request_digest,
        run_at=spec.run_at,
        expires_at=spec.expires_at,
        dispatched_at=recorded.recorded_at if immediate else None,
        dispatch_traceparent=recorded.meta.traceparent,
    )


Change = Callable[[Job, Any, datetime], dict[str, Any]]


def _dispatched(_job: Job, _event: e.JobDispatched, at: datetime) -> dict[str, Any]:
    return {"state": "queued", "awaits": None, "dispatched_at": at, "run_at": None}


def _held(_job: Job, _event: e.JobHeld, _at: datetime) -> dict[str, Any]:
    return {"state": "waiting", "awaits": "limits", "run_at": None}


def _met(_job: Job, event: e.DependenciesMet, _at: datetime) -> dict[str, Any]:
    if event.state == "scheduled":
        return {"state": "scheduled", "awaits": None}
    return {"state": "waiting", "awaits": "limits", "run_at": None}


def _rescheduled(job: Job, event: e.JobRescheduled, _at: datetime) -> dict[str, Any]:
    if job.awaits == "dependencies":
        return {"run_at": event.run_at}
    return {"state": "scheduled", "awaits": None, "run_at": event.run_at}


def _started(_job: Job, event: e.AttemptStarted, at: datetime) -> dict[str, Any]:
    return {
        "state": "running",
        "attempt": event.attempt,
        "executor": event.executor,
        "started_at": at,
        "progress": None,
    }


def _succeeded(_job: Job, event: e.AttemptSucceeded, at: datetime) -> dict[str, Any]:
    return {"state": "succeeded", "result": event.result, "error": None, "finished_at": at}


def _failed(job: Job, event: e.AttemptFailed, _at: datetime) -> dict[str, Any]:
    return {**_try_again(event.error, event.retry_at), "failures": job.failures + 1}


def _lost(job: Job, event: e.AttemptLost, _at: datetime) -> dict[str, Any]:
    error = AttemptError(type="Lost", message=event.reason)
    return {**_try_again(error, event.retry_at), "losses": job.losses + (not event.handed_back)}


def _try_again(error: AttemptError, retry_at: datetime | None) -> dict[str, Any]:
    # Without a next attempt the state stays `retrying` only until the unit's second event (dead, cancelled).
    return {"state": "retrying", "error": error, "run_at": retry_at}


def _cancelled(_job: Job, event: e.JobCancelled, at: datetime) -> dict[str, Any]:
    return {"state": "cancelled", "awaits": None, "finished_at": at, "reason": event.reason, "run_at": None}


def _requeued(job: Job, event: e.JobRequeued, at: datetime) -> dict[str, Any]:
    return {
        "state": "queued" if event.waits is None else "waiting",
        "awaits": event.waits,
        "dispatched_at": at if event.waits is None else job.dispatched_at,
        "finished_at": None,
        "failures": 0,
        "losses": 0,
        "cancel_requested": False,
        "cancel_cause": None,
        "reason": event.reason,
        "expires_at": None,
        "run_at": None,
        "result": None,
        "error": None,
    }


_DISPATCHES: frozenset[type[Event]] = frozenset({e.JobDispatched, e.JobRequeued})

_CHANGES: dict[type[Event], Change] = {
    e.JobDispatched: _dispatched,
    e.AttemptStarted: _started,
    e.AttemptSucceeded: _succeeded,
    e.AttemptFailed: _failed,
    e.AttemptLost: _lost,
    e.ResultRejected: lambda _job, _event, _at: {},
    e.CancelRequested: lambda _job, event, _at: {
        "cancel_requested": True,
        "cancel_cause": event.cause,
        "reason": event.reason,
    },
    e.JobCancelled: _cancelled,
    e.JobDead: lambda _job, event, at: {"state": "failed", "finished_at": at, "reason": event.reason},
    e.JobExpired: lambda _job, _event, at: {"state": "expired", "awaits": None, "finished_at": at, "run_at": None},
    e.JobRequeued: _requeued,
    e.JobRescheduled: _rescheduled,
    e.JobHeld: _held,
    e.DependenciesMet: _met,
    e.ProgressReported: lambda _job, event, _at: {"progress": (event.fraction, event.message)},
}
