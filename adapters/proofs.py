"""How long ago something was last proven, by this process's own elapsed-time clock.

A proof counts from when it was asked for, not from when the answer came: in between, anything may have happened.
"""

from __future__ import annotations

import time


class Proofs:
    """Proofs that a place is still held. They hold good for `seconds`; whoever has none is in doubt."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._asked_at: float | None = None
        self._since = 0.0
        self._doubted_at = 0.0
        self._over = False

    def add(self, asked_at: float) -> None:
        """It was proven by a question asked at this time (`time.monotonic`)."""
        if asked_at < self._doubted_at:
            return
        if self._asked_at is None or asked_at - self._asked_at >= self._seconds:
            self._since = asked_at
        self._asked_at = asked_at if self._asked_at is None else max(asked_at, self._asked_at)

    def interrupt(self) -> None:
        """It is in doubt from now on, until it is proven again."""
        self._asked_at = None
        self._doubted_at = time.monotonic()

    def end(self) -> None:
        """It is over for good."""
        self._over = True

    @property
    def since(self) -> float | None:
        """Since when it has been beyond doubt without a break; None when it is in doubt."""
        if self._over or self._asked_at is None or time.monotonic() - self._asked_at >= self._seconds:
            return None
        return self._since
