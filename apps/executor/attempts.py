"""What the executor's parts hand to each other: an attempt to run, and how it came out.

Plain values only. Nothing here runs, stores or publishes anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One claimed attempt of a job. `number` counts from 1; `timeout_seconds` None means no limit.

    `results` are those of the job's predecessors by name, None when it has none; `omitted` names those that have a
    result which did not fit. `correlation_id` and `depth` are those of the job's submission: what the attempt publishes
    goes on with them. `claimed_at` is by the elapsed-time clock (`time.monotonic`): it must begin soon after that.
    `begins` is called when it does, with how many seconds after its claim that is.
    """

    job_id: UUID
    number: int
    task: str
    args: Mapping[str, Any]
    queue: str = "default"
    timeout_seconds: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    results: Mapping[str, Any] | None = None
    omitted: tuple[str, ...] = ()
    correlation_id: str | None = None
    depth: int = 0
    claimed_at: float = field(default_factory=time.monotonic)
    begins: Callable[[float], None] | None = field(default=None, compare=False, repr=False)

    @property
    def waited_seconds(self) -> float:
        """How long ago it was claimed."""
        return time.monotonic() - self.claimed_at

    def begin(self) -> None:
        """Its task begins now: whoever runs it says so once."""
        if self.begins is not None:
            self.begins(self.waited_seconds)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The task returned. `result` is JSON-compatible."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised, timed out or crashed. `type` is an error class or one of `Timeout`, `ProcessCrashed`.

    `retryable` False: no further attempt may help (for instance arguments that cannot be right). `again`: after how
    many seconds, or when, the task wants its next attempt; None: as the job's policy has it.
    """

    type: str
    message: str
    traceback: str | None = None
    retryable: bool = True
    again: float | datetime | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task ended because its cancellation was asked for; `forced` when it had to be killed."""

    forced: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt was taken down with its task process for another attempt's sake; it is not to blame.

    `handed_back`: this executor stops, and has broken it off for that. `begun` False: nothing of its task has run.
    """

    reason: str
    handed_back: bool = False
    begun: bool = True


STOPPED = Lost("its executor stopped", handed_back=True)
SESSION_LOST = Lost("its executor lost its session")


Outcome = Succeeded | Failed | Cancelled | Lost


class AttemptSink(Protocol):
    """Where a running attempt's by-products go. Called on the event loop; must not block."""

    def output(self, attempt: Attempt, stream: Literal["stdout", "stderr"], text: str) -> None:
        """Keep text which the task printed."""

    def progress(self, attempt: Attempt, fraction: float | None, message: str | None) -> None:
        """Keep what the task said about its progress; `fraction` is between 0 and 1."""


class Runner(Protocol):
    """Runs attempts of some kind of tasks: built-in ones, or Python tasks in task processes."""

    async def run(self, attempt: Attempt, sink: AttemptSink) -> Outcome:
        """Run the attempt to its end, its timeout included. Never raises for what the task does."""

    def cancel(self, attempt: Attempt) -> None:
        """Ask a running attempt to end: politely, then by force. `run` then returns its outcome."""
