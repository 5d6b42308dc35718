"""A job that a task believes to run for."""

from __future__ import annotations

import contextlib
from typing import Any, Collection, Iterator, List, Mapping, Optional, Tuple

from rota.context import JobContext, Results, set_current

TEST_ID = "00000000-0000-7000-8000-000000000000"


class RunningJob(JobContext):
    """What `current_job()` answers in a test. `reports`: what the task said about its progress, in order."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.reports: "List[Tuple[Optional[float], Optional[str]]]" = []

    def _report(self, fraction: Optional[float], message: Optional[str]) -> None:
        self.reports.append((fraction, message))


@contextlib.contextmanager
def running_job(
    *,
    id: str = TEST_ID,  # noqa: A002 - the word of the contract
    attempt: int = 1,
    task: str = "test",
    queue: str = "default",
    tags: Optional[Mapping[str, str]] = None,
    results: Optional[Mapping[str, Any]] = None,
    omitted: "Collection[str]" = (),
    cancelled: bool = False,
) -> "Iterator[RunningJob]":
    """Let `current_job()` answer this job within the block.

    `results` are those of its predecessors, by name. `cancelled`: it has been asked to end.
    """
    job = RunningJob(
        id=id, attempt=attempt, task=task, queue=queue, tags=dict(tags or {}), traceparent=None,
        results=Results(results or {}, omitted),
    )  # fmt: skip
    job.cancelled = cancelled
    token = set_current(job)
    try:
        yield job
    finally:
        token.var.reset(token)
