"""What a running task may know and say about its job. Never talks to a server."""

from __future__ import annotations

import contextvars
from typing import Any, Mapping, Optional


class JobContext:
    """The job that the current task runs for.

    `id` is the job's, `attempt` counts from 1. `cancelled` becomes True when the job's end was asked for or its time
    is up: a plain function that works in steps may look at it between them.
    """

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - the word of the contract
        attempt: int,
        task: str,
        queue: str,
        tags: Mapping[str, str],
        traceparent: Optional[str],
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.task = task
        self.queue = queue
        self.tags = tags
        self.traceparent = traceparent
        self.cancelled = False

    def progress(self, fraction: Optional[float] = None, message: Optional[str] = None) -> None:
        """Say how far the task is; `fraction` between 0 and 1. Only the latest of frequent reports is kept."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"a fraction is between 0 and 1, not {fraction!r}")
        self._report(None if fraction is None else float(fraction), None if message is None else str(message))

    def cancel_requested(self) -> bool:
        """Whether the task has been asked to end."""
        return self.cancelled

    def _report(self, fraction: Optional[float], message: Optional[str]) -> None:
        """Pass progress on; the task process does, elsewhere there is nobody to hear."""


_current: "contextvars.ContextVar[Optional[JobContext]]" = contextvars.ContextVar("rota_job", default=None)


def current_job() -> JobContext:
    """The job of the running task. Raises RuntimeError outside of one.

    Known in the task itself, in what it awaits and in `asyncio.to_thread`; a bare `threading.Thread` starts without it
    (give it `contextvars.copy_context().run` as its target).
    """
    job = _current.get()
    if job is None:
        raise RuntimeError("current_job() is only known inside a task that Rota runs")
    return job


def set_current(job: Optional[JobContext]) -> "contextvars.Token[Any]":
    """For the task process, and for tests of tasks: what `current_job` answers in this context."""
    return _current.set(job)


current_or_none = _current.get
"""As `current_job`, None outside of a task."""
