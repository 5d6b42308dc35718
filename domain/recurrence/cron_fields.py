"""The fields of a cron expression, read strictly: what is wrong is told with field and position.

The grammar is that of Debian's cron with the additions that cronsim has (`L`, `LW`, `#`) and `15W`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.limits import CRON_TERMS_MAXIMUM

_DIGITS = frozenset("0123456789")
_SHOWN = 20
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
LAST = "L"
LAST_WEEKDAY = "LW"


class FieldKind(NamedTuple):
    """What one field may hold."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    names_from: int = 0


SECOND = FieldKind("second", 0, 59)
MINUTE = FieldKind("minute", 0, 59)
HOUR = FieldKind("hour", 0, 23)
DAY_OF_MONTH = FieldKind("day of month", 1, 31)
MONTH = FieldKind("month", 1, 12, _MONTHS, 1)
DAY_OF_WEEK = FieldKind("day of week", 0, 7, _WEEKDAYS)


@dataclass(slots=True)
class Days:
    """The special terms of the two day fields, beside plain numbers."""

    last: bool = False
    last_weekday: bool = False
    nearest: frozenset[int] = frozenset()
    """Days of month (`15W`): the working day nearest to it in the same month."""
    last_of: frozenset[int] = frozenset()
    """Days of week (`5L`): the last one of the month. Monday is 0."""
    nth_of: frozenset[tuple[int, int]] = frozenset()
    """(day of week, n): the n-th one of the month (`5#2`). Monday is 0."""


@dataclass(slots=True)
class FieldText:
    """One field as written: `column` is its first character's place in the expression, from 1."""

    kind: FieldKind
    text: str
    column: int

    @property
    def starred(self) -> bool:
        """Whether it begins with a star, which is how cron tells unrestricted fields."""
        return self.text.startswith("*")

    def refuse(self, reason: str, at: int = 0) -> NoReturn:
        """Raise Rejected for what stands `at` characters into the field."""
        raise Rejected(f"{self.kind.name}, position {self.column + at}: {reason}", field="cron", code="cron")


def parse_numbers(field: FieldText) -> frozenset[int]:
    """A field of plain numbers."""
    numbers: set[int] = set()
    for term, at in _terms(field):
        numbers |= _numbers(field, term, at)
    return frozenset(numbers)


def parse_days_of_month(field: FieldText) -> tuple[frozenset[int], Days]:
    """Plain days and the special terms `L`, `LW`, `15W`."""
    numbers: set[int] = set()
    nearest: set[int] = set()
    days = Days()
    for term, at in _terms(field):
        if term == LAST:
            days.last = True
        elif term == LAST_WEEKDAY:
            days.last_weekday = True
        elif term.endswith("W"):
            nearest.add(_value(field, term[:-1], at))
        else:
            numbers |= _numbers(field, term, at)
    days.nearest = frozenset(nearest)
    return frozenset(numbers), days


def parse_days_of_week(field: FieldText) -> tuple[frozenset[int], Days]:
    """Plain weekdays (Monday is 0) and the special terms `5L` and `5#2`."""
    numbers: set[int] = set()
    last: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for term, at in _terms(field):
        if "#" in term:
            name, _, index = term.partition("#")
            place = at + len(name) + 1
            count = _digits(field, index, place)
            if not 1 <= count <= 5:
                field.refuse(f"#{count} is not between #1 and #5", place)
            nth.add((_monday_first(_value(field, name, at)), count))
        elif len(term) > 1 and term.endswith(LAST):
            last.add(_monday_first(_value(field, term[:-1], at)))
        else:
            numbers |= {_monday_first(number) for number in _numbers(field, term, at)}
    return frozenset(numbers), Days(last_of=frozenset(last), nth_of=frozenset(nth))


def _monday_first(number: int) -> int:
    return (number + 6) % 7


def _terms(field: FieldText) -> Iterator[tuple[str, int]]:
    if field.text.count(",") >= CRON_TERMS_MAXIMUM:
        field.refuse(f"more than {CRON_TERMS_MAXIMUM} terms")
    at = 0
    for term in field.text.split(","):
        if not term:
            field.refuse("an empty term", at)
        yield term, at
        at += len(term) + 1


def _numbers(field: FieldText, term: str, at: int) -> set[int]:
    body, slash, step_text = term.partition("/")
    step = 1
    if slash:
        step = _digits(field, step_text, at + len(body) + 1)
        if step == 0:
            field.refuse("a step of 0", at + len(body) + 1)
    low, high = _range(field, body, at, open_end=bool(slash))
    return set(range(low, high + 1, step))


def _range(field: FieldText, body: str, at: int, *, open_end: bool) -> tuple[int, int]:
    if body == "*":
        return field.kind.low, field.kind.high
    first, dash, last = body.partition("-")
    low = _value(field, first, at)
    if not dash:
        return low, field.kind.high if open_end else low
    high = _value(field, last, at + len(first) + 1)
    if field.kind is DAY_OF_WEEK and high == 0 < low:
        if last != _WEEKDAYS[0]:
            field.refuse(f"the range {body} runs backwards; Sunday at its end is 7: write {first}-7", at)
        high = field.kind.high
    if high < low:
        parts = f"{first}-{field.kind.high},{field.kind.low}-{last}"
        field.refuse(f"the range {body} runs backwards; write {parts}", at)
    return low, high


def _value(field: FieldText, text: str, at: int) -> int:
    kind = field.kind
    if text in kind.names:
        return kind.names.index(text) + kind.names_from
    value = _digits(field, text, at)
    if not kind.low <= value <= kind.high:
        field.refuse(f"{value} is not between {kind.low} and {kind.high}", at)
    return value


def _digits(field: FieldText, text: str, at: int) -> int:
    if not text:
        field.refuse("a number is missing", at)
    if not _DIGITS.issuperset(text):
        wanted = "a number or a name" if field.kind.names else "a number"
        field.refuse(f"{text[:_SHOWN]!r} is not {wanted}", at)
    if len(text) > 4:
        field.refuse(f"{text[:_SHOWN]} is too large", at)
    return int(text)
