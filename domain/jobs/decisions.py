"""Which events a command leads to. All rules about what may follow what live here.

`decide` is pure: state, command and time in; events out. An empty answer means that the command is true already
or has lost its point, which is not an error. `NotPossible` tells a caller that the state forbids it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from rota_server.domain.errors import Conflict, NotPossible, Unreadable
from rota_server.domain.events import Event
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs import events as e
from rota_server.domain.jobs.job import Job, foresee, head_of
from rota_server.domain.jobs.retry import DELAY_LIMIT_SECONDS
from rota_server.domain.log import Meta, StreamWrite

Events = Sequence[Event]


def decide(job: Job | None, command: c.Command, now: datetime) -> Events:
    """The events that the command leads to in this state at this time.

    Raises:
        NotPossible: the state does not allow what a caller asked for.
        Unreadable: the job's stream holds an event that this version of Rota cannot read.
        Conflict: the job exists already (SubmitJob) or does not exist yet (everything else).
    """
    if isinstance(command, c.SubmitJob):
        if job is not None:
            raise Conflict("the job exists already", streams=[str(job.id)])
        return [
            e.JobSubmitted(
                spec=command.spec,
                idempotency_key=command.idempotency_key,
                request_digest=command.request_digest,
                waits=_waits(command),
            )
        ]
    if job is None:
        raise Conflict("the job does not exist")
    if job.unreadable is not None:
        raise Unreadable(job.unreadable, stream_id=job.id)
    return _DECISIONS[type(command)](job, command, now)


def write_for(job: Job | None, job_id: UUID, events: Events, meta: Meta, now: datetime) -> tuple[StreamWrite, Job]:
    """The append that records these events (at least one), and the job as it will be after them."""
    after = foresee(job, job_id, events, meta, now)
    assert after is not None, "no events, nothing to write"  # noqa: S101 - an invariant of the callers
    version = after.version - len(events)
    write = StreamWrite(
        stream_id=job_id,
        expected_version=type(after.version)(version),
        events=events,
        head=head_of(after),
    )
    return write, after


def _waits(command: c.SubmitJob) -> e.Waits | None:
    spec = command.spec
    if spec.after is not None:
        return "dependencies"
    held = command.managed or spec.key is not None
    return "limits" if held and spec.run_at is None else None


def _expired(job: Job, now: datetime) -> bool:
    return job.expires_at is not None and job.expires_at <= now


def _dispatch(job: Job, reason: e.DispatchReason) -> Events:
    spec = job.spec
    return [e.JobDispatched(queue=spec.queue, priority=spec.priority, reason=reason, key=spec.key)]


def _hold(job: Job, reason: str) -> Events:
    return [e.JobHeld(reason=reason, **_place(job))]


def _line(job: Job) -> dict[str, Any]:
    """Where a reader of the feed finds the job without knowing it."""
    spec = job.spec
    origin = None if spec.origin is None else str(spec.origin.id)
    return {"queue": spec.queue, "priority": spec.priority, "key": spec.key, "origin": origin}


def _place(job: Job) -> dict[str, Any]:
    """What a reader of the feed needs to count queued jobs without knowing each."""
    return {"was": job.state, **_line(job)}


def _expire(job: Job) -> Events:
    assert job.expires_at is not None  # noqa: S101 - callers have compared it
    return [e.JobExpired(expires_at=job.expires_at, **_place(job))]


def _decide_dispatch(job: Job, command: c.DispatchJob, now: datetime) -> Events:
    if job.state not in ("scheduled", "retrying", "queued", "waiting"):
        return []
    if command.reason == "missing" and job.state != "queued":
        return []  # it has another time meanwhile, and no dispatch that could be missing
    if command.reason == "admitted" and job.awaits != "limits":
        return []
    return _expire(job) if _expired(job, now) else _dispatch(job, command.reason)


def _decide_time(job: Job, command: c.ActOnTime, now: datetime) -> Events:
    if job.state not in ("scheduled", "retrying", "queued", "waiting"):
        return []
    if _expired(job, now):
        return _expire(job)
    if job.state in ("queued", "waiting") or job.run_at is None or job.run_at > now:
        return []
    if command.managed or job.spec.key is not None:
        return _hold(job, "due" if job.state == "scheduled" else "retry")
    return _dispatch(job, "due" if job.state == "scheduled" else "retry")


def _decide_expire(job: Job, _command: c.ExpireJob, now: datetime) -> Events:
    waits = job.state in ("scheduled", "retrying", "queued", "waiting")
    return _expire(job) if waits and _expired(job, now) else []


def _decide_start(job: Job, command: c.StartAttempt, now: datetime) -> Events:
    if job.state != "queued":
        raise Conflict(f"job {job.id} is {job.state}, not queued", streams=[str(job.id)])
    if _expired(job, now):
        return _expire(job)
    spec = job.spec
    return [
        e.AttemptStarted(
            attempt=job.attempt + 1,
            executor=command.executor,
            timeout_seconds=spec.timeout_seconds,
            **_line(job),
        )
    ]


def _runs(job: Job, attempt: int) -> bool:
    return job.state == "running" and job.attempt == attempt


def _too_late(job: Job, attempt: int, executor: str, outcome: str) -> Events:
    reason = f"attempt {attempt} was over: the job is {job.state}, its attempt {job.attempt}"
    return [e.ResultRejected(attempt=attempt, executor=executor, outcome=outcome, reason=reason)]


def _decide_success(job: Job, command: c.SucceedAttempt, _now: datetime) -> Events:
    if not _runs(job, command.attempt):
        return _too_late(job, command.attempt, command.executor, "succeeded")
    return [e.AttemptSucceeded(attempt=command.attempt, result=command.result)]


def _retry_at(job: Job, now: datetime, again: float | datetime | None = None) -> datetime | None:
    """When the next attempt is due, None when there is none left; `again`: what the task has chosen, within bounds."""
    failures = job.failures + 1
    if failures >= job.spec.retry.max_attempts:
        return None
    if again is not None:
        latest = now + timedelta(seconds=DELAY_LIMIT_SECONDS)
        if isinstance(again, datetime):
            return min(max(again, now), latest)
        return min(now + timedelta(seconds=min(max(again, 0.0), DELAY_LIMIT_SECONDS)), latest)
    return now + timedelta(seconds=job.spec.retry.delay_seconds(job.id, failures))


def _after_last(job: Job, last: Event, reason: str) -> Events:
    """The last attempt's end, and what it means for the job."""
    if job.cancel_requested:
        ended = e.JobCancelled(attempt=job.attempt, reason=job.reason, cause=job.cancel_cause, **_place(job))
        return [last, ended]
    return [last, e.JobDead(attempts=job.attempt, reason=reason, origin=_line(job)["origin"])]


def _decide_failure(job: Job, command: c.FailAttempt, now: datetime) -> Events:
    if not _runs(job, command.attempt):
        return _too_late(job, command.attempt, command.executor, "failed")
    wanted = command.retryable and not job.cancel_requested
    retry_at = _retry_at(job, now, command.again) if wanted else None
    failed = e.AttemptFailed(attempt=command.attempt, error=command.error, retry_at=retry_at)
    if retry_at is not None:
        return [failed]
    return _after_last(job, failed, "no attempts left" if command.retryable else "not retryable")


def _decide_loss(job: Job, command: c.LoseAttempt, now: datetime) -> Events:
    if not _runs(job, command.attempt):
        return []
    free = command.handed_back and (job.spec.idempotent or not command.begun)
    retry_at = None
    if not job.cancel_requested:
        retry_at = now if free else _repeat_at(job, now)
    lost = e.AttemptLost(
        attempt=command.attempt,
        executor=job.executor or "",
        reason=command.reason,
        retry_at=retry_at,
        handed_back=free,
    )
    return [lost] if retry_at is not None else _after_last(job, lost, "lost too often")


def _repeat_at(job: Job, now: datetime) -> datetime | None:
    """When a lost attempt is repeated: losses are nobody's failures and have a budget of their own."""
    losses = job.losses + 1
    if losses > job.spec.retry.max_losses:
        return None
    return now + timedelta(seconds=job.spec.retry.delay_seconds(job.id, losses))


def _decide_cancel(job: Job, command: c.RequestCancel, _now: datetime) -> Events:
    if job.state == "cancelled" or (job.state == "running" and job.cancel_requested):
        return []
    if job.ended:
        raise NotPossible(f"job {job.id} has {job.state} and cannot be cancelled any more", code="ended")
    if job.state == "running":
        executor = job.executor or ""
        return [e.CancelRequested(attempt=job.attempt, executor=executor, reason=command.reason, cause=command.cause)]
    return [e.JobCancelled(attempt=job.attempt, reason=command.reason, cause=command.cause, **_place(job))]


def _decide_cancelled(job: Job, command: c.ConfirmCancel, _now: datetime) -> Events:
    if not _runs(job, command.attempt):
        return _too_late(job, command.attempt, command.executor, "cancelled")
    forced, cause = command.forced, job.cancel_cause
    return [e.JobCancelled(attempt=command.attempt, reason=job.reason, forced=forced, cause=cause, **_place(job))]


def _decide_retry(job: Job, command: c.RetryJob, _now: datetime) -> Events:
    held = command.managed or job.spec.key is not None
    if job.state == "retrying":
        return _hold(job, "manual") if held else _dispatch(job, "manual")
    if job.state in ("failed", "cancelled", "expired"):
        waits: e.Waits | None = "limits" if held else None
        if command.dependencies and job.spec.after is not None:
            waits = "dependencies"
        return [e.JobRequeued(reason=command.reason, waits=waits, **_line(job))]
    raise NotPossible(f"job {job.id} is {job.state}; only failed, cancelled, expired and retrying ones are retried")


def _decide_reschedule(job: Job, command: c.RescheduleJob, _now: datetime) -> Events:
    if job.state not in ("scheduled", "retrying", "queued", "waiting"):
        raise NotPossible(f"job {job.id} is {job.state} and cannot be given another time")
    return [e.JobRescheduled(run_at=command.run_at, reason=command.reason, **_place(job))]


def _decide_hold(job: Job, command: c.HoldJob, now: datetime) -> Events:
    if job.state != "queued":
        return []
    return _expire(job) if _expired(job, now) else _hold(job, command.reason)


def _decide_met(job: Job, command: c.MeetDependencies, now: datetime) -> Events:
    if job.awaits != "dependencies":
        if command.by_hand:
            raise NotPossible(f"job {job.id} is {job.state} and does not wait for other jobs")
        return []
    if _expired(job, now):
        return _expire(job)
    spec = job.spec
    where: dict[str, Any] = {"queue": spec.queue, "priority": spec.priority, "key": spec.key, "note": command.reason}
    if job.run_at is not None and job.run_at > now:
        return [e.DependenciesMet(state="scheduled", run_at=job.run_at, by_hand=command.by_hand, **where)]
    if command.managed or spec.key is not None:
        return [e.DependenciesMet(state="waiting", by_hand=command.by_hand, **where)]
    return [e.JobDispatched(reason="manual" if command.by_hand else "dependencies", **where)]


def _decide_unmet(job: Job, command: c.FailDependencies, _now: datetime) -> Events:
    if job.awaits != "dependencies":
        return []
    return [e.JobCancelled(attempt=job.attempt, reason=command.reason, cause="dependency", **_place(job))]


def _decide_progress(job: Job, command: c.ReportProgress, _now: datetime) -> Events:
    if not _runs(job, command.attempt):
        return []
    return [e.ProgressReported(attempt=command.attempt, fraction=command.fraction, message=command.message)]


_DECISIONS: dict[type[Any], Callable[[Job, Any, datetime], Events]] = {
    c.DispatchJob: _decide_dispatch,
    c.ActOnTime: _decide_time,
    c.ExpireJob: _decide_expire,
    c.StartAttempt: _decide_start,
    c.SucceedAttempt: _decide_success,
    c.FailAttempt: _decide_failure,
    c.LoseAttempt: _decide_loss,
    c.RequestCancel: _decide_cancel,
    c.ConfirmCancel: _decide_cancelled,
    c.RetryJob: _decide_retry,
    c.RescheduleJob: _decide_reschedule,
    c.ReportProgress: _decide_progress,
    c.HoldJob: _decide_hold,
    c.MeetDependencies: _decide_met,
    c.FailDependencies: _decide_unmet,
}
