"""What may be asked of a job. Commands are imperative; whether and how they come true, `decisions` says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rota_server.domain.jobs.events import AttemptError, DispatchReason
from rota_server.domain.jobs.spec import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitJob:
    """Accept a new job; the key and digest come with an idempotent request.

    `managed`: the job's queue has limits or is paused, so the leader decides when it is dispatched. A job with a key
    always waits for its turn.
    """

    spec: JobSpec
    idempotency_key: str | None = None
    request_digest: str | None = None
    managed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchJob:
    """Put the job onto its work stream now."""

    reason: DispatchReason


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAttempt:
    """Claim the queued job for `executor`."""

    executor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SucceedAttempt:
    """The attempt returned `result`."""

    attempt: int
    executor: str
    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FailAttempt:
    """The attempt failed; `retryable` False: further attempts cannot help.

    `again`: after how many seconds, or when, the task wants its next attempt; None: as the job's policy has it.
    """

    attempt: int
    executor: str
    error: AttemptError
    retryable: bool = True
    again: float | datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseAttempt:
    """The attempt's executor is gone, or does not know the attempt, or let its deadline pass.

    `handed_back`: the executor itself has ended the attempt in order to stop; `begun` False: the task had not begun.
    """

    attempt: int
    reason: str
    handed_back: bool = False
    begun: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancel:
    """End the job, whatever it does now. `cause` as in JobCancelled."""

    reason: str | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmCancel:
    """The attempt's executor has ended the task because a cancellation was requested."""

    attempt: int
    executor: str
    forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireJob:
    """The job's `expires_at` has passed without a start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActOnTime:
    """The job's `due_at` has come: dispatch it, retry it or let it expire, whichever it is.

    `managed` as in SubmitJob: instead of being dispatched the job joins its line.
    """

    managed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryJob:
    """Run an ended job again with a fresh retry budget, or a retrying one at once.

    `managed` as in SubmitJob. `dependencies`: an ended job first waits for its predecessors again.
    """

    reason: str | None = None
    managed: bool = False
    dependencies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldJob:
    """Take the queued job back from its work stream: it waits for the limits of its queue and key."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeetDependencies:
    """What the job waited for has come true, or somebody lets it go all the same (`by_hand`, for `reason`).

    `managed` as in SubmitJob.
    """

    managed: bool = False
    by_hand: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailDependencies:
    """What the job waits for cannot come true any more, and `on_failure` is `cancel`."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RescheduleJob:
    """Do not start the job before `run_at`."""

    run_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportProgress:
    """The running task says how far it is."""

    attempt: int
    fraction: float | None
    message: str | None


Command = (
    SubmitJob
    | DispatchJob
    | StartAttempt
    | SucceedAttempt
    | FailAttempt
    | LoseAttempt
    | RequestCancel
    | ConfirmCancel
    | ExpireJob
    | ActOnTime
    | RetryJob
    | RescheduleJob
    | ReportProgress
    | HoldJob
    | MeetDependencies
    | FailDependencies
)
