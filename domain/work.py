"""A bound for work on foreign input, counted in steps: the same input takes the same steps on every machine.

So whether something is too much work is decided alike by every leader, whoever is busy with what. Pure.
"""

from __future__ import annotations

from rota_server.domain.errors import Rejected


class TooMuchWork(Rejected):
    """What was asked takes more steps than it may."""

    def __init__(self, what: str, steps: int) -> None:
        super().__init__(f"{what} takes more than {steps} steps", code="too-much-work")


class Work:
    """Steps that may still be taken for something; `what` says for what. A step is about a microsecond."""

    __slots__ = ("_left", "_limit", "_what")

    def __init__(self, what: str, steps: int) -> None:
        self._what = what
        self._limit = self._left = steps

    @property
    def spent(self) -> int:
        """Steps that were taken."""
        return self._limit - self._left

    def spend(self, steps: int = 1) -> None:
        """Take steps. Raises TooMuchWork when there are not so many left."""
        self._left -= steps
        if self._left < 0:
            raise TooMuchWork(self._what, self._limit)
