"""What a running task may know and say about its job. Never talks to a server."""

from __future__ import annotations

import contextlib
import contextvars
from typing import Any, Collection, ContextManager, Dict, Mapping, Optional


class Results(Dict[str, Any]):
    """What the jobs that this one waited for have returned, by their names: of a workflow's node, else the job's id.

    A predecessor that has not succeeded has no result. `omitted` names those whose results were too large to go along
    (together they may have 1 MiB as JSON); `Client.get` reads them.
    """

    def __init__(self, results: Mapping[str, Any], omitted: Collection[str] = ()) -> None:
        super().__init__(results)
        self.omitted = frozenset(omitted)

    def __missing__(self, name: str) -> Any:
        if name in self.omitted:
            raise KeyError(f"the result of {name} is too large to go along with the job: read it with Client.get")
        known = ", ".join(sorted(self)) or "none"
        raise KeyError(f"there is no result of {name}; there are: {known}")


class JobContext:
    """The job that the current task runs for.

    `id` is the job's, `attempt` counts from 1. `cancelled` becomes True when the job's end was asked for or its time
    is up: a plain function that works in steps may look at it between them, and has its task's `cancel_grace` to end by
    itself before the exception comes. `results` are what its predecessors have
    returned.
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
        results: Optional[Results] = None,
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.task = task
        self.queue = queue
        self.tags = tags
        self.traceparent = traceparent
        self.results = Results({}) if results is None else results
        self.cancelled = False

    def progress(self, fraction: Optional[float] = None, message: Optional[str] = None) -> None:
        """Say how far the task is; `fraction` between 0 and 1. Only the latest of frequent reports is kept."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"a fraction is between 0 and 1, not {fraction!r}")
        self._report(None if fraction is None else float(fraction), None if message is None else str(message))

    def cancel_requested(self) -> bool:
        """Whether the task has been asked to end."""
        return self.cancelled

    def shield(self) -> "ContextManager[None]":
        """Protect what must not be torn apart: inside `with current_job().shield():` no cancellation is raised.

        A cancellation that is due meanwhile is raised at the end of the block; in an async task at the first await
        after it. The time is bounded all the same: a task that does not end is ended together with its process.
        """
        return contextlib.nullcontext()

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
