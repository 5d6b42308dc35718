"""When to ask again for something that is waited for, and when to give up."""

from __future__ import annotations

import time
from typing import Any, Optional

from rota.errors import WaitTimeout

POLL_SECONDS = (0.02, 1.0)


class Waiting:
    """Waiting for the end of a job, or of `what` else, at most `timeout` seconds."""

    def __init__(self, job_id: str, timeout: Optional[float], *, what: str = "job") -> None:
        self._job_id = job_id
        self._what = what
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._pause, self._longest = POLL_SECONDS

    def patience(self, patience: float) -> float:
        """For how long a store that does not answer may be asked."""
        return patience if self._deadline is None else max(0.0, min(patience, self._deadline - time.monotonic()))

    def is_over(self, found: Any) -> bool:
        """Whether it has ended. Raises WaitTimeout."""
        if found.ended:
            return True
        if self._timeout is not None and self._deadline is not None and time.monotonic() >= self._deadline:
            raise WaitTimeout(self._job_id, self._timeout, found, what=self._what)
        return False

    def pause(self) -> float:
        """Seconds until it is worth asking again."""
        pause, self._pause = self._pause, min(self._pause * 1.5, self._longest)
        return pause if self._deadline is None else max(0.0, min(pause, self._deadline - time.monotonic()))
