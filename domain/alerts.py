"""Alerts: what a queue, or a task, has done when a job in it has failed for good. Pure.

An alert is a job like others, of `email.send` or `http.request`: it has a history, is retried, and can be looked up. It
is made once for each final failure, and none is made of an alert's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from rota_server.domain.builtin.tasks import check_arguments
from rota_server.domain.errors import Rejected
from rota_server.domain.ids import Position
from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.secret_references import secrets_in
from rota_server.domain.jobs.spec import JobSpec

ACTOR = "alert:"
"""How the actor of an alert's submission begins; nobody else's does."""

ALERT_QUEUE = "default"
TIMEOUT_SECONDS = 60.0
TEXT_LIMIT_CHARS = 2_000
QUEUE = re.compile(r"[A-Za-z0-9._-]{1,100}")
FIELDS = ("email", "webhook", "queue")


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


def declared_alert(value: Any) -> dict[str, Any]:
    """The alert that a task is declared with. Raises Rejected when it is not as it must be; nobody has checked it."""
    if not isinstance(value, dict):
        raise Rejected("alert: must be an object", field="alert", code="wrong-type")
    for name in value:
        if name not in FIELDS:
            raise Rejected(f"alert.{name}: there is no such field", field=f"alert.{name}", code="unknown-field")
    queue = value.get("queue")
    if queue is not None and not (isinstance(queue, str) and QUEUE.fullmatch(queue)):
        raise Rejected("alert.queue: must be a queue's name", field="alert.queue", code="invalid-argument")
    check_alert(value)
    return value


def beside(alert: Mapping[str, Any], other: Mapping[str, Any] | None) -> dict[str, Any]:
    """The alert without the places that `other` tells already."""
    told = other or {}
    left = [address for address in _addresses(alert) if address not in _addresses(told)]
    found = {name: value for name, value in alert.items() if name != "email"}
    if found.get("webhook") == told.get("webhook"):
        found.pop("webhook", None)
    return {**found, "email": left} if left else found


def _addresses(alert: Mapping[str, Any]) -> list[str]:
    email = alert.get("email") or []
    return [email] if isinstance(email, str) else list(email)


def is_alert(job: Job) -> bool:
    """Whether the job tells of another's failure."""
    return job.submitted_meta.actor.startswith(ACTOR)


def alerts_of(job: Job, alert: Mapping[str, Any], position: Position, *, by: str = "") -> list[Alert]:
    """The jobs that tell of this failure, recorded at this position; the same whenever they are made.

    `by` sets those of different owners apart; a queue's have none.
    """
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
            uuid5(job.id, f"alert:{position}:{by}{name}"),
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
