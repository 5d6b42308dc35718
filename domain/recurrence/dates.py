"""Dates that are listed one by one, as rules: readings of the wall clock, which obey the policies, and instants."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from rota_server.domain.recurrence.instants import DAY


class ListedDates:
    """Listed readings of the wall clock (`instants` false), or instants, in seconds since 1970."""

    def __init__(self, values: Iterable[int], *, instants: bool) -> None:
        self._values = tuple(sorted(set(values)))
        self.elapsed = instants
        self.offset_matters = instants

    @property
    def last(self) -> int:
        """An instant after all of them: no clock is a day from UTC."""
        return self._values[-1] + DAY

    def fresh(self) -> ListedDates:
        """Itself: a search leaves nothing behind."""
        return self

    def next_local(self, local: int, offset: int, _limit: int = 0) -> int | None:
        """The first one at or after `local`, as a reading; None when there is none."""
        shift = offset if self.elapsed else 0
        place = bisect_left(self._values, local - shift)
        return self._values[place] + shift if place < len(self._values) else None

    def count_local(self, low: int, high: int, offset: int) -> int:
        """How many lie in [low, high)."""
        shift = offset if self.elapsed else 0
        return max(0, bisect_left(self._values, high - shift) - bisect_left(self._values, low - shift))

    def nth_local(self, low: int, high: int, offset: int, count: int) -> tuple[int, int | None]:
        """How many lie in [low, high), if there are fewer than `count`; else `count`, and that one."""
        within = self.count_local(low, high, offset)
        if within < count:
            return within, None
        shift = offset if self.elapsed else 0
        return count, self._values[bisect_left(self._values, low - shift) + count - 1] + shift

    def day_bits(self, day: int, offset: int) -> int:
        """Those of a day, as one bit for each of its seconds."""
        shift = offset if self.elapsed else 0
        midnight = day * DAY
        low, high = (bisect_left(self._values, edge - shift) for edge in (midnight, midnight + DAY))
        return sum(1 << self._values[place] + shift - midnight for place in range(low, high))
