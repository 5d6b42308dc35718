"""Suggestions for misspelt names of tasks and arguments. A comfort, so bounded in time: many get none."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable
from itertools import islice

NAME_LIMIT_CHARS = 100
CANDIDATES_LIMIT = 100
PER_SECOND = 5
"""Suggestions in a second: a bulk request of 10,000 misspelt jobs must not hold the loop for a minute."""


class _Budget:
    def __init__(self) -> None:
        self._second = 0
        self._left = 0

    def take(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._left = second, PER_SECOND
        self._left -= 1
        return self._left >= 0


_budget = _Budget()


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: `; did you mean 'x'?`, or nothing."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LIMIT_CHARS or not _budget.take():
        return ""
    near = (one for one in known if abs(len(one) - len(name)) <= 1 + max(len(one), len(name)) // 3)
    close = difflib.get_close_matches(name, islice(near, CANDIDATES_LIMIT), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
