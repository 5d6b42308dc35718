"""An attempt on its way through a task process, and what its end there means. Plain values and pure functions."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from rota_server.apps.executor.attempts import Attempt, AttemptSink, Cancelled, Failed, Lost, Outcome, Succeeded
from rota_server.domain.jobs.retry import DELAY_LIMIT_SECONDS
from rota_server.domain.leader_state import BEGIN_LIMIT

Ending = Literal["cancel", "timeout"]

UNKNOWN_TASK = "UnknownTask"
"""The type, without a traceback, by which a task process says that it has no such task (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long things may take, in seconds.

    `cancel`, `timeout`: how long an attempt may go on after it was asked to end, before its process is killed.
    `neighbours`: how long the other attempts of such a process may still finish. `begin`: how long an attempt waits
    between its claim and its beginning, for a process and in it.
    """

    cancel: float = 5.0
    timeout: float = 2.0
    neighbours: float = 10.0
    begin: float = BEGIN_LIMIT.total_seconds()


class RunningProcess(Protocol):
    """Where an attempt runs."""

    def end(self, run: Run, why: Ending) -> None:
        """Ask the task to end, then make it end."""


class Run:
    """One attempt, from its sending to its outcome, which is the result of `future`.

    `begun`: the process has said that it runs. `heard`: it has itself said something.
    `suspended`: its time was up before that, so it is measured from then.
    """

    __slots__ = (
        "attempt",
        "begun",
        "counted",
        "ending",
        "future",
        "heard",
        "key",
        "process",
        "sent_at",
        "sink",
        "stack",
        "suspended",
        "timer",
    )

    def __init__(self, attempt: Attempt, sink: AttemptSink, future: asyncio.Future[Outcome]) -> None:
        self.attempt = attempt
        self.sink = sink
        self.future = future
        self.key = 0
        self.process: RunningProcess | None = None
        self.sent_at = 0.0
        self.begun = self.counted = False
        self.heard = False
        self.suspended = False
        self.ending: Ending | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.stack: str | None = None

    def begin(self) -> None:
        """Its process runs it; that may be said again after another task has blocked the process."""
        self.begun = True
        if not self.counted:
            self.counted = True
            self.attempt.begin()

    def finish(self, outcome: Outcome) -> None:
        """Set the outcome, unless there is one."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.future.done():
            self.future.set_result(outcome)


def outcome_of(run: Run, message: list[Any]) -> Outcome:
    """What the process's last message about an attempt means.

    A task that was asked to end and returned all the same has succeeded; one whose time was up has not.
    """
    kind = message[0]
    if run.ending == "timeout":
        return timed_out(run, message[2] if kind == "cancelled" else None)
    if kind == "ok":
        return Succeeded(message[2])
    if run.ending == "cancel":
        return Cancelled()
    if kind == "cancelled":
        return Failed("CancelledError", "the task has cancelled itself", message[2])
    if message[2] == UNKNOWN_TASK and message[4] is None:
        # Said by the process itself: nothing of the user's has run, so it costs nothing.
        return Lost(message[3], handed_back=True, begun=False)
    error, text, traceback, retryable = message[2:6]
    return Failed(error, text, traceback, retryable, again=_again(message[6]) if len(message) > 6 else None)


def _again(said: Any) -> float | datetime | None:
    """When a task wants its next attempt, as its process says it: seconds or an instant. Anything else is nothing."""
    if isinstance(said, int | float) and not isinstance(said, bool):
        return min(max(float(said), 0.0), float(DELAY_LIMIT_SECONDS))
    try:
        instant = datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
    return None if instant.tzinfo is None else instant


def timed_out(run: Run, traceback: str | None = None) -> Failed:
    """The failure of an attempt that took too long; the traceback shows where it was."""
    text = f"the attempt did not end within {run.attempt.timeout_seconds:g} s"
    return Failed("Timeout", text, run.stack or traceback)


def crashed(status: int, together: int, stderr: str) -> Failed:
    """The failure of an attempt whose process ended under it, together with `together - 1` others."""
    text = f"the task process ended ({describe_status(status)})"
    if together > 1:
        text += f" while it ran {together} attempts, any of which may be the cause"
    return Failed("ProcessCrashed", text, stderr or None)


def describe_status(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    return f"signal {name}" + (", perhaps for want of memory" if -status == signal.SIGKILL else "")
