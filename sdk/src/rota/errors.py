"""What can go wrong between a program and Rota."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

if TYPE_CHECKING:
    from rota.groups import Group
    from rota.jobs import Job


MONTH_SECONDS = 30 * 24 * 3600


class RotaError(Exception):
    """Anything that this package raises on purpose."""


class Unreachable(RotaError):
    """The store did not answer, or answered that it cannot serve now."""


class Refused(RotaError):
    """The store refused the request.

    `status` is the HTTP status, `problem` the whole problem document, of which `title`, `detail`, `code` and `field`
    (what is wrong, as a dotted path) are attributes; None when the document does not have them.
    """

    def __init__(self, status: int, problem: "Dict[str, Any]") -> None:
        self.status = status
        self.problem = problem
        self.title: Optional[str] = problem.get("title")
        self.detail: Optional[str] = problem.get("detail")
        self.code: Optional[str] = problem.get("code")
        self.field: Optional[str] = problem.get("field")
        said = self.detail or self.title or f"the store answered {status}"
        super().__init__(f"{said} (field {self.field})" if self.field and self.field not in said else said)


class NotFound(Refused):
    """There is no such job."""


class Conflict(Refused):
    """The state does not allow it, or an idempotency key was used for another request."""


class NotAllowed(Refused):
    """The token is missing, unknown or not enough."""


class JobFailed(RotaError):
    """A job that was waited for ended in another state than `succeeded`.

    `job` is the ended job; `state` and `error` (its JSON object: type, message, ...) are taken from it.
    """

    def __init__(self, job: "Job") -> None:
        self.job = job
        self.state: str = job.state
        self.error: "Dict[str, Any]" = job.error or {}
        said = f": {self.error.get('type')}: {self.error.get('message')}" if self.error else ""
        super().__init__(f"job {job.id} ended as {job.state}{said}")


class GroupFailed(RotaError):
    """A workflow or batch that was waited for ended in another state than `succeeded`; `group` is the ended one."""

    def __init__(self, group: "Group") -> None:
        self.group = group
        self.state: str = group.state
        self.counts: "Dict[str, int]" = group.counts
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))
        super().__init__(f"{group.kind} {group.id} ended as {group.state}: {counts}")


class WaitTimeout(RotaError, TimeoutError):
    """What was waited for (a job) has not ended in time; `job` is what it was when last seen, or None."""

    def __init__(self, job_id: str, timeout: float, job: Any, *, what: str = "job") -> None:
        self.job = job
        super().__init__(f"{what} {job_id} is {'unknown' if job is None else job.state} after {timeout:g} s")


class NotJson(RotaError, TypeError):
    """A value that has no form in JSON: an argument or a result, or something in it.

    `place` leads to it, as `args.orders.3.price`; `reason` says what it is.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        self.reason = reason
        self.place = place
        super().__init__(f"{place}: {reason}" if place else reason)

    def within(self, name: str) -> "NotJson":
        """The same, told from outside of the value that `name` leads into."""
        return NotJson(self.reason, f"{name}.{self.place}" if self.place else name)


class Mismatch(RotaError, ValueError):
    """A JSON value that cannot be what an annotation says it is; `place` and `reason` as in `NotJson`."""

    def __init__(self, reason: str, place: str = "") -> None:
        self.reason = reason
        self.place = place
        super().__init__(f"{place}: {reason}" if place else reason)

    def within(self, name: str) -> "Mismatch":
        """The same, told from outside of the value that `name` leads into."""
        return Mismatch(self.reason, f"{name}.{self.place}" if self.place else name)


class NoRetry(RotaError):
    """Raise it in a task whose attempt failed in a way that no further attempt can mend."""


class Retry(RotaError):
    """Raise it in a task to have another attempt: after so many seconds, or at an instant.

    Without either, and where the job's policy has no attempt left, it is a failure as any other. `retry_on` and
    `no_retry_on` of the task do not count for it. The delay is at most 30 days.
    """

    def __init__(
        self, message: str = "", *, after: "Union[float, timedelta, None]" = None, at: Optional[datetime] = None
    ) -> None:
        if after is not None and at is not None:
            raise TypeError("after and at exclude each other")
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds <= MONTH_SECONDS:
            raise ValueError(f"after: must be from 0 to {MONTH_SECONDS} seconds, not {seconds!r}")
        if at is not None and at.tzinfo is None:
            raise ValueError("at: needs a time zone: use an aware datetime")
        self.after = seconds
        self.at = at
        super().__init__(message or "the task asks for another attempt" + self._when())

    def _when(self) -> str:
        if self.at is not None:
            return f" at {self.at.isoformat()}"
        return "" if self.after is None else f" after {self.after:g} s"


class TaskCancelled(BaseException):
    """Raised inside a plain function whose job was cancelled or whose time is up. Let it pass."""


def refusal(status: int, problem: "Dict[str, Any]") -> Refused:
    """The error for a refusing answer."""
    kinds = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 409: Conflict}
    return kinds.get(status, Refused)(status, problem)
