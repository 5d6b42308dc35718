"""Meters of starts against a rate limit. Instants are seconds since the epoch by the log's clock.

What is dispatched but has not started counts as if it started now: whenever it does start, the limit holds, as measured
by the starts in the log. So a meter is asked with the number of such jobs, and told of starts only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from rota_server.domain.admission.queues import RateLimit

SLICES = 60
"""Parts of a period in which starts are counted together; a part leaves the period as a whole, when its end does."""


class RateLimiter(Protocol):
    """Counts starts. Grows with neither time nor the limit."""

    limit: RateLimit

    def capacity_left(self, now: float, unstarted: int) -> int:
        """How many more may be dispatched now."""

    def started(self, at: float) -> None:
        """A job started at this instant; instants may come slightly out of order."""

    def next_capacity(self, now: float) -> float:
        """When there is more room than now, if nothing starts meanwhile."""

    def idle(self, now: float) -> bool:
        """Whether a new meter would say the same from now on."""

    def state(self) -> dict[str, Any]:
        """What `limiter_from` needs to go on."""


class SlidingWindow:
    """At most `limit` starts in any period: a sliding window, counted in slices and never too little."""

    def __init__(self, limit: RateLimit, slices: Mapping[int, int] | None = None) -> None:
        self.limit = limit
        self._width = limit.per / SLICES
        self._slices: deque[list[int]] = deque([number, count] for number, count in sorted((slices or {}).items()))
        self._count = sum(count for _, count in self._slices)

    def capacity_left(self, now: float, unstarted: int) -> int:
        """See RateLimiter."""
        while self._slices and self._leaves_at(self._slices[0][0]) <= now:
            self._count -= self._slices.popleft()[1]
        return self.limit.limit - self._count - unstarted

    def started(self, at: float) -> None:
        """See RateLimiter."""
        number = math.floor(at / self._width)
        self._count += 1
        if self._slices and self._slices[-1][0] >= number:
            self._slices[-1][1] += 1  # in order, or later than it was: it leaves with the last slice
        else:
            self._slices.append([number, 1])

    def next_capacity(self, now: float) -> float:
        """See RateLimiter."""
        return self._leaves_at(self._slices[0][0]) if self._slices else now

    def idle(self, now: float) -> bool:
        """See RateLimiter."""
        return self.capacity_left(now, 0) == self.limit.limit

    def state(self) -> dict[str, Any]:
        """See RateLimiter."""
        return {"per": self.limit.per, "slices": [[number, count] for number, count in self._slices]}

    def _leaves_at(self, number: int) -> float:
        return (number + 1) * self._width + self.limit.per


class TokenBucket:
    """A token bucket of `burst` starts, refilled evenly."""

    def __init__(self, limit: RateLimit, tokens: float | None = None, at: float = 0.0) -> None:
        self.limit = limit
        self._size = float(limit.burst or 1)
        self._per_second = limit.limit / limit.per
        self._tokens = self._size if tokens is None else min(tokens, self._size)
        self._at = at

    def capacity_left(self, now: float, unstarted: int) -> int:
        """See RateLimiter."""
        self._refill(now)
        return math.floor(self._tokens + 1e-9) - unstarted

    def started(self, at: float) -> None:
        """See RateLimiter."""
        self._refill(at)
        self._tokens -= 1.0

    def next_capacity(self, now: float) -> float:
        """See RateLimiter."""
        self._refill(now)
        return self._at + (math.floor(self._tokens + 1e-9) + 1 - self._tokens) / self._per_second

    def idle(self, now: float) -> bool:
        """See RateLimiter."""
        self._refill(now)
        return self._tokens >= self._size

    def state(self) -> dict[str, Any]:
        """See RateLimiter."""
        return {"tokens": self._tokens, "at": self._at}

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._size, self._tokens + (now - self._at) * self._per_second)
            self._at = now


def limiter_for(limit: RateLimit) -> RateLimiter:
    """A meter that has seen no start."""
    return SlidingWindow(limit) if limit.burst is None else TokenBucket(limit)


def limiter_from(limit: RateLimit, state: Mapping[str, Any]) -> RateLimiter:
    """The meter that goes on from `state`; a new one when the state is of another kind of meter."""
    if limit.burst is None and "slices" in state and state["per"] == limit.per:
        return SlidingWindow(limit, {int(number): int(count) for number, count in state["slices"]})
    if limit.burst is not None and "tokens" in state:
        return TokenBucket(limit, float(state["tokens"]), float(state["at"]))
    return limiter_for(limit)


def limiter_after_change(old: RateLimiter | None, limit: RateLimit | None) -> RateLimiter | None:
    """The meter for a changed limit: what has started counts on where the period is the same."""
    if limit is None:
        return None
    if old is None or old.limit.per != limit.per or (old.limit.burst is None) != (limit.burst is None):
        return limiter_for(limit)
    return limiter_from(limit, old.state())
