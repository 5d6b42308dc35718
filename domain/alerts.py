"""Alerts: what a queue has done when a job in it has failed for good. Pure.

An alert is a job like others, of `email.send` or `http.request`: it has a history, is retried, and can be looked up. It
is made once for each final failure, and none is made of an alert's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from domain.builtin_tasks import check_arguments
from domain.errors import Rejected
from domain.ids import Position
from domain.jobs import Job
from domain.secret_references import secrets_in
from domain.specs import JobSpec

ACTOR = "alert:"
"""How the actor of an alert's submission begins; nobody else's does."""

ALERT_QUEUE = "default"
TIMEOUT_SECONDS = 60.0
TEXT_LIMIT_CHARS = 2_000


class Alert(NamedTuple):
    """A job that tells of a failure."""

    id: UUID
    spec: JobSpec


def check_alert(alert: Mapping[str, Any]) -> None:
    """Raise Rejected when these places could not be told: `email` (one or several), `webhook` (a URL, or a secret)."""
    if not any(alert.get(name) for name in ("email", "webhook")):
        raise Rejected("alert: needs email or webhook", field="alert", code="missing")
    for name, task, args in _told(alert, "", "", {}):
        try:
            check_arguments(task, args, [one.place for one in secrets_in(args)])
        except Rejected as error:
            message = error.message.rpartition(": ")[2]
            raise Rejected(f"alert.{name}: {message}", field=f"alert.{name}", code=error.code) from None


def is_alert(job: Job) -> bool:
    """Whether the job tells of another's failure."""
    return job.submitted_meta.actor.startswith(ACTOR)


def alerts_of(job: Job, alert: Mapping[str, Any], position: Position) -> list[Alert]:
    """The jobs that tell of this failure, recorded at this position; the same whenever they are made."""
    error = job.error
    kind, said = ("", "") if error is None else (error.type, error.message[:TEXT_LIMIT_CHARS])
    about = {
        "type": "rota.job.failed",
        "position": position,
        "job": {
            "id": str(job.id),
            "task": job.spec.task,
            "queue": job.spec.queue,
            "key": job.spec.key,
            "tags": dict(job.spec.tags),
            "attempts": job.attempt,
            "error": {"type": kind, "message": said},
        },
    }
    subject = f"{job.spec.task} has failed for good (queue {job.spec.queue})"
    text = (
        f"{job.spec.task} on queue {job.spec.queue} has failed for good after {job.attempt} attempts.\n\n"
        f"{kind}: {said}\n\nrota why {job.id}\nrota jobs retry {job.id}\n"
    )
    queue = alert.get("queue") or ALERT_QUEUE
    return [
        Alert(
            uuid5(job.id, f"alert:{position}:{name}"),
            JobSpec(task=task, args=args, queue=queue, timeout_seconds=TIMEOUT_SECONDS, tags={"alert-of": str(job.id)}),
        )
        for name, task, args in _told(alert, subject, text, about)
    ]


def _told(
    alert: Mapping[str, Any], subject: str, text: str, about: Mapping[str, Any]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """For each place: what it is called in the alert, and the task and arguments that tell it."""
    if alert.get("email"):
        yield "email", "email.send", {"to": alert["email"], "subject": subject, "text": text}
    if alert.get("webhook"):
        yield "webhook", "http.request", {"method": "POST", "url": alert["webhook"], "json": dict(about)}
