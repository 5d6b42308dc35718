"""Which days of a month a recurrence rule's day parts choose, intervals and set positions aside."""

from __future__ import annotations

from calendar import isleap, monthrange
from datetime import date

from rota_server.domain.recurrence.rrule_text import RRule, WeekdayTerm

_MONTHS_KEPT = 48


class DayFilter:
    """The parts BYMONTH, BYWEEKNO, BYYEARDAY, BYMONTHDAY and BYDAY, with what DTSTART says when they are silent."""

    def __init__(self, rule: RRule, start: date) -> None:
        self._months = frozenset(rule.by_month)
        self._month_days = frozenset(rule.by_month_day)
        self._year_days = frozenset(rule.by_year_day)
        self._week_numbers = frozenset(rule.by_week_number)
        self._terms = rule.by_day
        self._week_start = rule.week_start
        self._nth_in_year = rule.frequency == "YEARLY" and not rule.by_month
        self._known: dict[tuple[int, int], tuple[int, ...]] = {}
        self._fill_in(rule, start)

    def of(self, year: int, month: int) -> tuple[int, ...]:
        """The days of that month that all parts choose, in order."""
        if self._months and month not in self._months:
            return ()
        key = (year, month)
        days = self._known.get(key)
        if days is None:
            if len(self._known) >= _MONTHS_KEPT:
                self._known.clear()
            days = self._known[key] = self._choose(year, month)
        return days

    def _fill_in(self, rule: RRule, start: date) -> None:
        """What the RFC takes from DTSTART when the rule does not say it."""
        if rule.by_week_number and not rule.by_day and not rule.by_month_day and not rule.by_year_day:
            self._terms = (WeekdayTerm(start.weekday(), 0),)
        if rule.by_week_number or rule.by_year_day or rule.by_month_day or rule.by_day:
            return
        if rule.frequency == "YEARLY" and not rule.by_month:
            self._months = frozenset({start.month})
        if rule.frequency in {"YEARLY", "MONTHLY"}:
            self._month_days = frozenset({start.day})
        elif rule.frequency == "WEEKLY":
            self._terms = (WeekdayTerm(start.weekday(), 0),)

    def _choose(self, year: int, month: int) -> tuple[int, ...]:
        first_weekday, length = monthrange(year, month)
        chosen = [
            day
            for day in range(1, length + 1)
            if not self._month_days or day in self._month_days or day - length - 1 in self._month_days
        ]
        if self._terms:
            chosen = [
                day for day in chosen if self._by_weekday(year, month, day, (first_weekday + day - 1) % 7, length)
            ]
        if self._year_days:
            chosen = [day for day in chosen if self._by_year_day(date(year, month, day))]
        if self._week_numbers:
            chosen = [day for day in chosen if self._by_week_number(date(year, month, day))]
        return tuple(chosen)

    def _by_weekday(self, year: int, month: int, day: int, weekday: int, length: int) -> bool:
        place, last = day, length
        for term in self._terms:
            if term.weekday != weekday:
                continue
            if term.nth == 0:
                return True
            if self._nth_in_year:
                last = _year_length(year)
                place = date(year, month, day).timetuple().tm_yday
            if term.nth in {(place + 6) // 7, -((last - place) // 7 + 1)}:
                return True
        return False

    def _by_year_day(self, day: date) -> bool:
        number = day.timetuple().tm_yday
        return number in self._year_days or number - _year_length(day.year) - 1 in self._year_days

    def _by_week_number(self, day: date) -> bool:
        number, weeks = self._week_of(day)
        return number in self._week_numbers or number - weeks - 1 in self._week_numbers

    def _week_of(self, day: date) -> tuple[int, int]:
        """The number of the week that `day` is in, and how many weeks that week's year has."""
        ordinal = day.toordinal()
        year = day.year
        if ordinal < self._first_week(year):
            year -= 1
        elif ordinal >= self._first_week(year + 1):
            year += 1
        first, following = self._first_week(year), self._first_week(year + 1)
        return (ordinal - first) // 7 + 1, (following - first) // 7

    def _first_week(self, year: int) -> int:
        """The ordinal of the first day of week 1: the first week with at least four days in the year."""
        fourth = date(year, 1, 4)
        return fourth.toordinal() - (fourth.weekday() - self._week_start) % 7


def _year_length(year: int) -> int:
    return 366 if isleap(year) else 365
