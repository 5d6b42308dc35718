"""When a failed attempt is tried again. Pure: the jitter follows from the job and the attempt."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal
from uuid import UUID

Backoff = Literal["exponential", "linear", "fixed"]

MAX_ATTEMPTS_LIMIT = 1000
"""The greatest `max_attempts` that a job may ask for."""

MAX_LOSSES_LIMIT = 1000
DEFAULT_MAX_LOSSES = 5

DELAY_LIMIT_SECONDS = 30 * 24 * 3600
"""The longest delay between two attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, and after which delays in seconds, a job's attempts are repeated.

    `max_attempts` counts the first one; attempts that were lost do not count. `max_losses` says how many may be lost
    and repeated: nobody knows what those have done, so 0 keeps a job from running twice. `jitter` is the greatest
    relative deviation (0.1: 10 % up or down).
    """

    max_attempts: int = 5
    backoff: Backoff = "exponential"
    initial_seconds: float = 1.0
    factor: float = 2.0
    maximum_seconds: float = 3600.0
    jitter: float = 0.1
    max_losses: int = DEFAULT_MAX_LOSSES

    def delay_seconds(self, job_id: UUID, failures: int) -> float:
        """Seconds to wait after the `failures`th failure or loss (from 1), never above `maximum_seconds`."""
        delay = min(self._plain_delay(failures), self.maximum_seconds)
        spread = 1.0 + self.jitter * (2.0 * _fraction(job_id, failures) - 1.0)
        return min(delay * spread, self.maximum_seconds)

    def _plain_delay(self, failures: int) -> float:
        if self.backoff == "fixed":
            return self.initial_seconds
        if self.backoff == "linear":
            return self.initial_seconds * failures
        try:
            return self.initial_seconds * self.factor ** (failures - 1)
        except OverflowError:
            return self.maximum_seconds


def _fraction(job_id: UUID, failures: int) -> float:
    """A number in [0, 1) that looks random but is the same on every replay."""
    digest = blake2b(job_id.bytes + failures.to_bytes(8, "big"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
