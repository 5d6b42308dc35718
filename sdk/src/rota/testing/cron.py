"""The times of a cron line of five fields, for schedules in memory. The store knows more; the rest is refused by name.

As docs/schedules.md has it: a line whose minutes or hours begin with a star ticks wherever the wall clock shows one of
its times; any other one ticks once after a gap, and in the first pass of a fold.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Dict, FrozenSet, List, Optional, Set

MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11,
    "dec": 12,
}  # fmt: skip
DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
NO_NAMES: "Dict[str, int]" = {}
FIELDS = ((0, 59, NO_NAMES), (0, 23, NO_NAMES), (1, 31, NO_NAMES), (1, 12, MONTHS), (0, 7, DAYS))
YEARS = 9
"""So far ahead a time is looked for: 29 February may be eight years away."""

_PART = re.compile(r"(?:(\*)|([a-z]+|\d+)(?:-([a-z]+|\d+))?)(?:/(\d+))?\Z")


class Cron:
    """A cron line on a clock."""

    def __init__(self, text: str, zone: tzinfo) -> None:
        words = MACROS.get(text.strip(), text).lower().split()
        if len(words) != len(FIELDS):
            raise NotImplementedError(f"cron: MemoryClient knows lines of five fields, not {text!r}")
        sets = [_values(word, *field) for word, field in zip(words, FIELDS)]
        self._minutes, self._hours, self._days, self._months, weekdays = sets
        self._weekdays = frozenset(day % 7 for day in weekdays)
        self._both = words[2].startswith("*") or words[4].startswith("*")
        self._elapsed = words[0].startswith("*") or words[1].startswith("*")
        self._zone = zone

    def after(self, instant: datetime) -> Optional[datetime]:
        """The first time after this instant, in UTC; None when there is none for years."""
        first = instant.astimezone(self._zone).date() - timedelta(days=1)
        for number in range(366 * YEARS):
            day = first + timedelta(days=number)
            if self._matches(day):
                later = [at for at in self._times(day) if at > instant]
                if later:
                    return min(later)
        return None

    def _matches(self, day: date) -> bool:
        of_month, of_week = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return day.month in self._months and (of_month and of_week if self._both else of_month or of_week)

    def _times(self, day: date) -> "List[datetime]":
        found = []
        for hour in sorted(self._hours):
            for minute in sorted(self._minutes):
                wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=self._zone)
                passes = [at for at in (_utc(wall.replace(fold=fold)) for fold in (0, 1)) if self._shows(at, wall)]
                if passes:
                    found += passes if self._elapsed else passes[:1]
                elif not self._elapsed:
                    found.append(self._end_of_gap(wall))
        return found

    def _shows(self, at: datetime, wall: datetime) -> bool:
        return at.astimezone(self._zone).replace(tzinfo=None, fold=0) == wall.replace(tzinfo=None)

    def _end_of_gap(self, wall: datetime) -> datetime:
        """The first instant after the gap that this reading of the clock falls into."""
        at = _utc(wall.replace(fold=1))
        after = _utc(wall.replace(fold=0)).astimezone(self._zone).utcoffset()
        while at.astimezone(self._zone).utcoffset() != after:
            at += timedelta(minutes=1)
        return at


def _utc(wall: datetime) -> datetime:
    return wall.astimezone(timezone.utc)


def _values(word: str, low: int, high: int, names: "Dict[str, int]") -> "FrozenSet[int]":
    found: "Set[int]" = set()
    for part in word.split(","):
        match = _PART.match(part)
        if match is None:
            raise NotImplementedError(f"cron: MemoryClient knows numbers, names, ranges and steps, not {part!r}")
        star, first, last, step = match.groups()
        begin = low if star else _number(first, names)
        end = high if star or (step and not last) else _number(last or first, names)
        if not low <= begin <= end <= high:
            raise ValueError(f"cron: {part!r} does not lie within {low} to {high}")
        found.update(range(begin, end + 1, int(step or 1) or 1))
    return frozenset(found)


def _number(text: str, names: "Dict[str, int]") -> int:
    if text.isdigit():
        return int(text)
    if not names:
        raise NotImplementedError(f"cron: MemoryClient knows numbers, names, ranges and steps, not {text!r}")
    if text not in names:
        raise ValueError(f"cron: {text!r} is no name of a month or day here")
    return names[text]
