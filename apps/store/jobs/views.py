"""How a job reads from outside: the contract's names, RFC 3339 instants, seconds. Pure."""

from __future__ import annotations

from typing import Any

from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.retry import DEFAULT_MAX_LOSSES
from rota_server.domain.jobs.spec import After, Unique
from rota_server.observability.tracing import trace_id_of


def job_view(job: Job) -> dict[str, Any]:
    """The job as JSON (instants are left to the encoder)."""
    spec = job.spec
    retry = spec.retry
    progress = None
    if job.progress is not None:
        progress = {"fraction": job.progress[0], "message": job.progress[1]}
    return {
        "id": job.id,
        "task": spec.task,
        "args": spec.args,
        "queue": spec.queue,
        "priority": spec.priority,
        "state": job.state,
        "attempt": job.attempt,
        "version": job.version,
        "position": job.position,
        "run_at": job.run_at if job.run_at is not None else spec.run_at,
        "timeout": spec.timeout_seconds,
        "expires_at": job.expires_at,
        "tags": spec.tags,
        "key": spec.key,
        "after": _after_view(spec.after),
        "after_mode": None if spec.after is None else spec.after.mode,
        "on_failure": None if spec.after is None else spec.after.on_failure,
        "origin": spec.origin,
        "unique": None if spec.unique is None else _unique_view(spec.unique),
        "retry": {
            "max_attempts": retry.max_attempts,
            "backoff": retry.backoff,
            "initial": retry.initial_seconds,
            "factor": retry.factor,
            "maximum": retry.maximum_seconds,
            "jitter": retry.jitter,
            **({} if retry.max_losses == DEFAULT_MAX_LOSSES else {"max_losses": retry.max_losses}),
        },
        "idempotent": spec.idempotent,
        "losses": job.losses,
        "submitted_at": job.submitted_at,
        "dispatched_at": job.dispatched_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "result": job.result,
        "error": job.error,
        "executor": job.executor,
        "reason": job.reason,
        "progress": progress,
        "cancel_requested": job.cancel_requested,
        "idempotency_key": job.idempotency_key,
        "trace_id": trace_id_of(job.submitted_meta.traceparent),
        "unreadable": job.unreadable,
        "correlation_id": job.submitted_meta.correlation_id,
        "caused_by": _cause(job),
    }


def _after_view(after: After | None) -> list[dict[str, Any]] | None:
    if after is None:
        return None
    return [{"job": p.id, "name": p.name, "outcome": p.outcome} for p in after.predecessors]


def _cause(job: Job) -> dict[str, Any] | None:
    """What led to the job: of a trigger's job the published event, by its position and its stream."""
    origin, cause = job.spec.origin, job.submitted_meta.causation_id
    if origin is None or origin.kind != "trigger" or cause is None:
        return None
    return {"event": {"position": int(cause), "stream_id": origin.name}, "trigger": origin.id}


def _unique_view(unique: Unique) -> dict[str, Any]:
    lasts = unique.seconds if unique.scope == "seconds" else unique.scope
    return {"key": unique.key, "while": lasts, "on_conflict": unique.on_conflict}
