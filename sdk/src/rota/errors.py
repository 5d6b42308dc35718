"""What can go wrong between a program and Rota."""

from __future__ import annotations

from typing import Any, Optional


class RotaError(Exception):
    """Anything that this package raises on purpose."""


class Unreachable(RotaError):
    """The store did not answer, or answered that it can not serve now."""


class Refused(RotaError):
    """The store refused the request. `field` names what is wrong, `problem` is the whole problem document."""

    def __init__(self, status: int, problem: "dict[str, Any]") -> None:
        self.status = status
        self.problem = problem
        self.field: Optional[str] = problem.get("field")
        detail = problem.get("detail") or problem.get("title") or "refused"
        super().__init__(f"{detail} (field {self.field})" if self.field else str(detail))


class NotFound(Refused):
    """There is no such job."""


class JobFailed(RotaError):
    """A job that was waited for ended in another state than `succeeded`; `job` is its final state."""

    def __init__(self, job: Any) -> None:
        self.job = job
        error = job.error or {}
        said = f": {error.get('type')}: {error.get('message')}" if error else ""
        super().__init__(f"job {job.id} ended as {job.state}{said}")


class TaskCancelled(BaseException):
    """Raised inside a plain function whose job was cancelled or timed out. Let it pass."""
