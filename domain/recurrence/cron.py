"""Cron expressions: five fields, or six with seconds first, as wall-clock times.

Meant as Debian's cron and cronsim mean them (the tests compare). Times are found by jumping over months, days, hours
and minutes, so the next 29 February costs as little as the next minute.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence import cron_fields, cron_leads
from rota_server.domain.recurrence.cron_fields import Days, FieldText
from rota_server.domain.recurrence.day_times import NONE, DayTimes
from rota_server.domain.recurrence.instants import DAY, EPOCH_ORDINAL
from rota_server.domain.recurrence.limits import CRON_TEXT_MAXIMUM, LAST_YEAR

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_KINDS = (
    cron_fields.SECOND,
    cron_fields.MINUTE,
    cron_fields.HOUR,
    cron_fields.DAY_OF_MONTH,
    cron_fields.MONTH,
    cron_fields.DAY_OF_WEEK,
)
_SATURDAY = 5
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


@dataclass(frozen=True, slots=True)
class CronRule:
    """A cron expression, compiled. Equal when the text is.

    `elapsed`: a star begins the minutes or the hours, so the rule follows elapsed time and no gap or fold concerns it.
    """

    text: str
    elapsed: bool = field(compare=False)
    times: DayTimes = field(compare=False, repr=False)
    months: tuple[int, ...] = field(compare=False, repr=False)
    days: DaysOfMonth = field(compare=False, repr=False)

    offset_matters = False

    def fresh(self) -> CronRule:
        """Itself: a search leaves nothing behind."""
        return self

    def next_local(self, local: int, _offset: int = 0, _limit: int = 0) -> int | None:
        """The first matching wall-clock time at or after `local` (seconds), None after the last year."""
        day, time = divmod(local, DAY)
        found = self._next_day(day)
        if found == day:
            later = self.times.next(time)
            if later != NONE:
                return day * DAY + later
            found = self._next_day(day + 1)
        return None if found is None else found * DAY + self.times.first

    def count_local(self, low: int, high: int, _offset: int = 0) -> int:
        """How many wall-clock times match in [low, high)."""
        return self._count_below(low, high) - self._count_below(low, low)

    def nth_local(self, low: int, high: int, _offset: int, count: int) -> tuple[int, int | None]:
        """How many lie in [low, high), if there are fewer than `count`; else `count`, and that one."""
        within = self.count_local(low, high)
        if within < count:
            return within, None
        start = low
        while low < high - 1:
            middle = (low + high) // 2
            if self.count_local(start, middle) >= count:
                high = middle
            else:
                low = middle
        return count, low

    def day_bits(self, day: int, _offset: int = 0) -> int:
        """Those of a day, as one bit for each of its seconds."""
        at = date.fromordinal(day + EPOCH_ORDINAL)
        matches = at.month in self.months and at.day in self.days.of(at.year, at.month)
        return self.times.bits() if matches else 0

    def _count_below(self, origin: int, local: int) -> int:
        """Matches before `local`, counted from the beginning of the month of `origin`."""
        first = date.fromordinal(origin // DAY + EPOCH_ORDINAL)
        day, time = divmod(local, DAY)
        last = date.fromordinal(day + EPOCH_ORDINAL)
        count = 0
        for index in range(first.year * 12 + first.month - 1, last.year * 12 + last.month - 1):
            year, month = divmod(index, 12)
            if month + 1 in self.months:
                count += len(self.days.of(year, month + 1)) * self.times.size
        if last.month in self.months:
            days = self.days.of(last.year, last.month)
            place = bisect_left(days, last.day)
            count += place * self.times.size
            if place < len(days) and days[place] == last.day:
                count += self.times.count_below(time)
        return count

    def _next_day(self, day: int) -> int | None:
        """The first matching day at or after `day` (days since 1970)."""
        start = date.fromordinal(day + EPOCH_ORDINAL)
        year, month, wanted = start.year, start.month, start.day
        while year <= LAST_YEAR + 1:
            if month in self.months:
                days = self.days.of(year, month)
                place = bisect_left(days, wanted)
                if place < len(days):
                    return date(year, month, days[place]).toordinal() - EPOCH_ORDINAL
            wanted = 1
            month += 1
            if month > 12:
                month = 1
                year += 1
        return None


@dataclass(frozen=True, slots=True)
class DaysOfMonth:
    """Which days of a month match: depends on its length and first weekday alone, so there are 28 answers at most."""

    numbers: frozenset[int]
    month_terms: Days
    weekdays: frozenset[int]
    week_terms: Days
    both_must_match: bool
    _known: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def of(self, year: int, month: int) -> tuple[int, ...]:
        """The matching days of that month, in order."""
        return self.of_shape(*monthrange(year, month))

    def of_shape(self, first_weekday: int, length: int) -> tuple[int, ...]:
        """The matching days of any month that begins on that weekday (Monday is 0) and has that length."""
        key = (first_weekday, length)
        days = self._known.get(key)
        if days is None:
            days = self._known[key] = tuple(
                day for day in range(1, length + 1) if self._matches(day, first_weekday, length)
            )
        return days

    def _matches(self, day: int, first_weekday: int, length: int) -> bool:
        by_month = day in self.numbers or self._by_month_term(day, first_weekday, length)
        by_week = self._by_week(day, (first_weekday + day - 1) % 7, length)
        return by_month and by_week if self.both_must_match else by_month or by_week

    def _by_month_term(self, day: int, first_weekday: int, length: int) -> bool:
        terms = self.month_terms
        if terms.last and day == length:
            return True
        if terms.last_weekday and day == _nearest_working_day(length, first_weekday, length):
            return True
        return any(
            wanted <= length and day == _nearest_working_day(wanted, first_weekday, length) for wanted in terms.nearest
        )

    def _by_week(self, day: int, weekday: int, length: int) -> bool:
        terms = self.week_terms
        return (
            weekday in self.weekdays
            or (weekday, (day + 6) // 7) in terms.nth_of
            or (weekday in terms.last_of and day + 7 > length)
        )


def _nearest_working_day(day: int, first_weekday: int, length: int) -> int:
    weekday = (first_weekday + day - 1) % 7
    if weekday < _SATURDAY:
        return day
    if weekday == _SATURDAY:
        return day - 1 if day > 1 else day + 2
    return day + 1 if day < length else day - 2


def parse_cron(value: Any, field: str = "cron") -> CronRule:
    """The rule of an expression. Raises Rejected (naming `field`) with the expression's field, position and reason."""
    if not isinstance(value, str):
        raise Rejected("a cron expression is a string", field=field, code="cron")
    if len(value) > CRON_TEXT_MAXIMUM:
        raise Rejected(f"longer than {CRON_TEXT_MAXIMUM} characters", field=field, code="cron")
    try:
        return _compile(value)
    except Rejected as error:
        raise Rejected(cron_leads.refused(value, error.message), field=field, code=error.code) from None


def surprise(rule: CronRule) -> str | None:
    """What an expression does that hardly anybody means by it: a step beyond its field, as in `*/90`; None usually."""
    for part in _fields(rule.text):
        size = part.kind.high - part.kind.low + 1
        for term in part.text.split(","):
            body, _, step = term.partition("/")
            if step and int(step) > size:
                name = part.kind.name
                lead = ""
                if name in _SECONDS and body == "*":
                    lead = f". For every {step} {name}s give every: {int(step) * _SECONDS[name]}"
                return (
                    f"{name}, position {part.column}: a step of {step} is longer than the field, so {term} is one "
                    f"value of it, not every {step}{lead}"
                )
    return None


@lru_cache(maxsize=4096)
def _compile(text: str) -> CronRule:
    fields = _fields(text)
    seconds, minutes, hours = (cron_fields.parse_numbers(part) for part in fields[:3])
    numbers, month_terms = cron_fields.parse_days_of_month(fields[3])
    months = cron_fields.parse_numbers(fields[4])
    weekdays, week_terms = cron_fields.parse_days_of_week(fields[5])
    days = DaysOfMonth(numbers, month_terms, weekdays, week_terms, fields[3].starred or fields[5].starred)
    if not _ever(months, days):
        raise Rejected("this never comes: no such day exists in these months", field="cron", code="never")
    elapsed = fields[1].starred or fields[2].starred
    return CronRule(text, elapsed, DayTimes(hours, minutes, seconds), tuple(sorted(months)), days)


def _fields(text: str) -> list[FieldText]:
    expression = text.strip()
    if expression.startswith("@"):
        expression = _macro(expression)
    shift = 0 if expression != text.strip() else len(text) - len(text.lstrip())
    words: list[tuple[str, int]] = []
    column = shift + 1
    for word in expression.replace("\t", " ").split(" "):
        if word:
            words.append((word.upper(), column))
        column += len(word) + 1
    if len(words) not in {5, 6}:
        raise Rejected(
            f"{len(words)} fields; five are needed (minute, hour, day of month, month, day of week), "
            "or six with the second first",
            field="cron",
            code="cron",
        )
    if len(words) == 5:
        words.insert(0, ("0", 0))
    return [FieldText(kind, word, at) for kind, (word, at) in zip(_KINDS, words, strict=True)]


def _macro(expression: str) -> str:
    name = expression.lower()
    if name == "@reboot":
        raise Rejected("@reboot is no time: a schedule knows no machine's start", field="cron", code="cron")
    if name not in MACROS:
        known = ", ".join(MACROS)
        raise Rejected(f"{expression[:20]!r} is none of {known}", field="cron", code="cron")
    return MACROS[name]


def _ever(months: frozenset[int], days: DaysOfMonth) -> bool:
    """Whether any day matches: every length that a month can have begins on every weekday sooner or later."""
    lengths: set[int] = set()
    for month in months:
        lengths |= {28, 29} if month == 2 else {30 if month in {4, 6, 9, 11} else 31}
    return any(days.of_shape(weekday, length) for length in sorted(lengths) for weekday in range(7))
