"""What a running task may know and say about its job."""

from __future__ import annotations

import contextvars
from typing import Any, Callable, Mapping, Optional


class JobContext:
    """The job that the current task runs for."""

    def __init__(
        self,
        *,
        id: str,
        attempt: int,
        task: str,
        queue: str,
        tags: Mapping[str, str],
        traceparent: Optional[str],
        report: Callable[[Optional[float], Optional[str]], None],
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.task = task
        self.queue = queue
        self.tags = tags
        self.traceparent = traceparent
        self.cancel_requested = False
        self._report = report

    def progress(self, fraction: Optional[float] = None, message: Optional[str] = None) -> None:
        """Say how far the task is; `fraction` between 0 and 1. Only the latest of frequent reports is kept."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"a fraction is between 0 and 1, not {fraction!r}")
        self._report(None if fraction is None else float(fraction), None if message is None else str(message))


_current: "contextvars.ContextVar[Optional[JobContext]]" = contextvars.ContextVar("rota_job", default=None)


def current_job() -> JobContext:
    """The job of the running task. Raises RuntimeError outside of one."""
    job = _current.get()
    if job is None:
        raise RuntimeError("current_job() is only known inside a task that Rota runs")
    return job


def set_current(job: Optional[JobContext]) -> "contextvars.Token[Any]":
    """For the task process: what `current_job` answers in this context."""
    return _current.set(job)


def current_or_none() -> Optional[JobContext]:
    """As `current_job`, None outside of a task."""
    return _current.get()
