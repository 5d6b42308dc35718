"""What is recorded about jobs, keys, leaders and published events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from rota_server.domain.events import Event, event, made
from rota_server.domain.jobs.spec import JobSpec, Priority, instant_from_json, spec_from_json

DispatchReason = Literal["due", "retry", "manual", "missing", "admitted", "dependencies"]
Waits = Literal["limits", "dependencies"]
"""What a waiting job waits for: its place within the limits of queue and key, or other jobs' ends."""


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted(Event):
    """A job was accepted. Without `spec.run_at` and `waits` this is at once its dispatch.

    `request_digest` identifies the request that came with an idempotency key.
    """

    spec: JobSpec
    idempotency_key: str | None = None
    request_digest: str | None = None
    waits: Waits | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobSubmitted:
        """Build nested values from their JSON objects."""
        return made(cls, data, spec=spec_from_json(data["spec"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobDispatched(Event):
    """The job was put onto its work stream; `reason` says why now, `note` what somebody who did it by hand said."""

    queue: str
    priority: Priority
    reason: DispatchReason
    key: str | None = None
    note: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobHeld(Event):
    """The job waits in line for the limits of its queue and key. `was`: the state before."""

    queue: str
    priority: Priority
    was: str
    reason: str
    key: str | None = None
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class DependenciesMet(Event):
    """What the job waited for has come true; its time (`scheduled`) or the limits (`waiting`) still hold it.

    Where nothing does, JobDispatched stands instead. `by_hand`: somebody let it go all the same, and said `note`.
    """

    state: Literal["scheduled", "waiting"]
    queue: str
    priority: Priority
    run_at: datetime | None = None
    key: str | None = None
    by_hand: bool = False
    note: str | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DependenciesMet:
        """Build nested values from their JSON objects."""
        return made(cls, data, run_at=instant_from_json(data.get("run_at")))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """An executor claimed the job; this attempt may run, and no other."""

    attempt: int
    executor: str
    queue: str
    priority: Priority
    timeout_seconds: float | None
    key: str | None = None
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSucceeded(Event):
    """The attempt returned `result`, any JSON value; the job has ended."""

    attempt: int
    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptError:
    """Why an attempt failed: an error class or `Timeout`, `ProcessCrashed`, `Lost` ...; and what it said."""

    type: str
    message: str
    traceback: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Event):
    """The attempt failed. `retry_at` None: there is no further one."""

    attempt: int
    error: AttemptError
    retry_at: datetime | None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AttemptFailed:
        """Build nested values from their JSON objects."""
        error = made(AttemptError, data["error"])
        return made(cls, data, error=error, retry_at=instant_from_json(data["retry_at"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost(Event):
    """Nobody knows how the attempt ended, and nobody will: its executor is gone or does not know it.

    `handed_back`: a stopping executor broke it off, and the job may be repeated at no cost.
    """

    attempt: int
    executor: str
    reason: str
    retry_at: datetime | None
    handed_back: bool = False

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AttemptLost:
        """Build nested values from their JSON objects."""
        return made(cls, data, retry_at=instant_from_json(data["retry_at"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRejected(Event):
    """An attempt that was over already (declared lost, or cancelled) reported; its outcome does not count."""

    attempt: int
    executor: str
    outcome: str
    reason: str


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody wants the running attempt to end; its executor will end it. `cause` as in JobCancelled."""

    attempt: int
    executor: str
    reason: str | None
    cause: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled(Event):
    """The job has ended because that was asked for. `forced`: the task had to be killed. `was`: the state before.

    `cause`: `dependency` when what it waited for cannot come true, `replaced` when a unique job took its place.
    """

    attempt: int
    reason: str | None
    was: str
    queue: str
    priority: Priority
    forced: bool = False
    cause: str | None = None
    key: str | None = None
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobDead(Event):
    """The job has failed for good after `attempts` attempts: a dead letter."""

    attempts: int
    reason: str
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobExpired(Event):
    """The job was not started before it expired, and never will be. `was`: the state before."""

    expires_at: datetime
    was: str
    queue: str
    priority: Priority
    key: str | None = None
    origin: str | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobExpired:
        """Build nested values from their JSON objects."""
        return made(cls, data, expires_at=datetime.fromisoformat(data["expires_at"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequeued(Event):
    """Somebody asked for an ended job to run again, with a fresh retry budget and without expiry.

    Without `waits` this is at once its dispatch.
    """

    queue: str
    priority: Priority
    reason: str | None
    waits: Waits | None = None
    key: str | None = None
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobRescheduled(Event):
    """The job is not to run before `run_at`. `was`: the state before."""

    run_at: datetime
    reason: str | None
    was: str
    queue: str
    priority: Priority
    key: str | None = None
    origin: str | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobRescheduled:
        """Build nested values from their JSON objects."""
        return made(cls, data, run_at=datetime.fromisoformat(data["run_at"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReported(Event):
    """The running task said how far it is: `fraction` between 0 and 1."""

    attempt: int
    fraction: float | None
    message: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class EventPublished(Event):
    """An event of the outside world (CloudEvents 1.0), published through Rota's log."""

    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Any = None
    data_base64: str | None = None
    extensions: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EventPublished:
        """Build nested values from their JSON objects."""
        return made(cls, data, time=instant_from_json(data.get("time")))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueClaimed(Event):
    """A job holds this unique key from now on, in the key's own stream. `released`: jobs that do not any more."""

    key: str
    job: str
    released: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> UniqueClaimed:
        """Build nested values from their JSON objects."""
        return made(cls, data, released=tuple(data["released"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderElected(Event):
    """A scheduler took the lead for `term`."""

    term: int
    node: str


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRefused(Event):
    """A scheduler of an older term tried to decide and was refused by the log."""

    term: int
    current_term: int
    node: str
