"""The times of a day that are given by sets of hours, minutes and seconds, without listing their product."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from functools import lru_cache

NONE = -1
"""No such time on this day."""


class DayTimes:
    """Seconds of a day `hour * 3600 + minute * 60 + second` for all combinations, in order."""

    __slots__ = ("_hours", "_minutes", "_next_hour", "_next_minute", "_next_second", "_seconds", "first", "size")

    def __init__(self, hours: Collection[int], minutes: Collection[int], seconds: Collection[int]) -> None:
        self._hours, self._minutes, self._seconds = (tuple(sorted(set(part))) for part in (hours, minutes, seconds))
        self._next_hour = _successors(self._hours, 24)
        self._next_minute = _successors(self._minutes, 60)
        self._next_second = _successors(self._seconds, 60)
        self.first = self._hours[0] * 3600 + self._minutes[0] * 60 + self._seconds[0]
        self.size = len(self._hours) * len(self._minutes) * len(self._seconds)

    def next(self, time: int) -> int:
        """The first one at or after `time` (seconds of the day), or NONE."""
        hour, rest = divmod(time, 3600)
        if self._next_hour[hour] == hour:
            minute, second = divmod(rest, 60)
            if self._next_minute[minute] == minute:
                later = self._next_second[second]
                if later != NONE:
                    return hour * 3600 + minute * 60 + later
            later = self._next_minute[minute + 1]
            if later != NONE:
                return hour * 3600 + later * 60 + self._seconds[0]
        later = self._next_hour[hour + 1]
        return NONE if later == NONE else later * 3600 + self._minutes[0] * 60 + self._seconds[0]

    def count_below(self, time: int) -> int:
        """How many lie before `time`, which may be the end of the day (86,400)."""
        hour, rest = divmod(time, 3600)
        minute, second = divmod(rest, 60)
        hours = bisect_left(self._hours, hour)
        count = hours * len(self._minutes) * len(self._seconds)
        if hours < len(self._hours) and self._hours[hours] == hour:
            minutes = bisect_left(self._minutes, minute)
            count += minutes * len(self._seconds)
            if minutes < len(self._minutes) and self._minutes[minutes] == minute:
                count += bisect_left(self._seconds, second)
        return count

    def bits(self) -> int:
        """All of them, as one bit for each second of the day."""
        return _bits(self._hours, self._minutes, self._seconds)

    def at(self, index: int) -> int:
        """The one with this index, 0 is the first."""
        index, second = divmod(index, len(self._seconds))
        hour, minute = divmod(index, len(self._minutes))
        return self._hours[hour] * 3600 + self._minutes[minute] * 60 + self._seconds[second]


@lru_cache(maxsize=256)
def _bits(hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]) -> int:
    within_minute = sum(1 << second for second in seconds)
    within_hour = sum(within_minute << minute * 60 for minute in minutes)
    return sum(within_hour << hour * 3600 for hour in hours)


def _successors(values: tuple[int, ...], size: int) -> tuple[int, ...]:
    """For 0 to `size`, the first value at or after it, or NONE."""
    result = [NONE] * (size + 1)
    following = NONE
    members = set(values)
    for index in range(size - 1, -1, -1):
        if index in members:
            following = index
        result[index] = following
    return tuple(result)
