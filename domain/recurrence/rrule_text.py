"""Recurrence rules of RFC 5545 as text: read strictly, what is wrong is told with place and reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple, NoReturn

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.instants import DAY, EPOCH, EPOCH_ORDINAL
from rota_server.domain.recurrence.limits import (
    EXDATES_MAXIMUM,
    FIRST_YEAR,
    LAST_YEAR,
    RRULE_COUNT_MAXIMUM,
    RRULE_INTERVAL_MAXIMUM,
    RRULE_TEXT_MAXIMUM,
    RULES_MAXIMUM,
)
from rota_server.domain.recurrence.zones import parse_zone_name

Frequency = Literal["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"]
FREQUENCIES: tuple[Frequency, ...] = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

_BY_PARTS = {
    "BYSECOND": (0, 59, False),
    "BYMINUTE": (0, 59, False),
    "BYHOUR": (0, 23, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYMONTH": (1, 12, False),
    "BYSETPOS": (1, 366, True),
}
"""Lowest and highest value, and whether they may be counted from the end (negative)."""

_ALLOWED = {
    "BYWEEKNO": {"YEARLY"},
    "BYYEARDAY": {"YEARLY", "HOURLY", "MINUTELY", "SECONDLY"},
    "BYMONTHDAY": {"YEARLY", "MONTHLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"},
}
"""Parts that the RFC allows with some frequencies only."""

_INTEGER = re.compile(r"[+-]?\d{1,7}", re.ASCII)
_WEEKDAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_MOMENT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?", re.ASCII)
_SHOWN = 40


class Moment(NamedTuple):
    """A date or date-time as iCalendar writes it.

    `local`: seconds since 1970 on its own clock; `utc`: that clock is UTC; `all_day`: only a date was given; `zone`:
    its TZID, None for a floating time.
    """

    local: int
    utc: bool = False
    all_day: bool = False
    zone: str | None = None


class WeekdayTerm(NamedTuple):
    """`MO` or `2MO` or `-1FR`. Monday is 0; `nth` is 0 for every one."""

    weekday: int
    nth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RRule:
    """A recurrence rule as written; when it happens depends on its DTSTART and zone, see `rrule`."""

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    until: Moment | None = None
    week_start: int = 0
    by_second: tuple[int, ...] = ()
    by_minute: tuple[int, ...] = ()
    by_hour: tuple[int, ...] = ()
    by_day: tuple[WeekdayTerm, ...] = ()
    by_month_day: tuple[int, ...] = ()
    by_year_day: tuple[int, ...] = ()
    by_week_number: tuple[int, ...] = ()
    by_month: tuple[int, ...] = ()
    by_set_position: tuple[int, ...] = ()

    @property
    def elapsed(self) -> bool:
        """Whether the rule follows elapsed time: HOURLY and finer."""
        return self.frequency in {"HOURLY", "MINUTELY", "SECONDLY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """A recurrence set as written: what its rules and dates name, without what exception rules and dates name."""

    text: str
    rules: tuple[RRule, ...] = ()
    dates: tuple[Moment, ...] = ()
    exception_rules: tuple[RRule, ...] = ()
    excluded: tuple[Moment, ...] = ()
    start: Moment | None = None

    @property
    def counts(self) -> bool:
        """Whether a rule of it ends by counting."""
        return any(rule.count is not None for rule in (*self.rules, *self.exception_rules))


def parse_rrule(value: Any, field: str = "rrule") -> Recurrence:
    """The set of `FREQ=...`, or of lines DTSTART, RRULE, RDATE, EXRULE, EXDATE, folded or not.

    Raises Rejected with field, place and reason.
    """
    if not isinstance(value, str):
        raise Rejected("a recurrence rule is a string", field=field, code="rrule")
    if len(value) > RRULE_TEXT_MAXIMUM:
        raise Rejected(f"longer than {RRULE_TEXT_MAXIMUM} characters", field=field, code="rrule")
    return _parse(value, field)


@lru_cache(maxsize=2048)
def _parse(text: str, field: str) -> Recurrence:
    lines = _lines(text)
    rules: dict[str, list[RRule]] = {"RRULE": [], "EXRULE": []}
    dates: dict[str, list[Moment]] = {"RDATE": [], "EXDATE": []}
    start: Moment | None = None
    for number, line in enumerate(lines, start=1):
        reader = _Reader(field, f"line {number}" if len(lines) > 1 else None)
        name, parameters, content = _property(line, reader)
        if name in rules:
            if content.strip(" ;"):
                rules[name].append(parse_recur(content, reader))
        elif name in dates:
            dates[name] += parse_moments(content, parameters, reader)
        elif name == "DTSTART":
            if start is not None:
                reader.refuse("a second DTSTART")
            start = parse_moment(content, parameters, reader)
        else:
            reader.refuse(f"{name[:_SHOWN]!r} is none of DTSTART, {', '.join((*rules, *dates))}")
    _check_sizes(rules, dates, field)
    return Recurrence(
        text=text,
        rules=tuple(rules["RRULE"]),
        dates=tuple(dates["RDATE"]),
        exception_rules=tuple(rules["EXRULE"]),
        excluded=tuple(dates["EXDATE"]),
        start=start,
    )


def _check_sizes(rules: dict[str, list[RRule]], dates: dict[str, list[Moment]], field: str) -> None:
    if not rules["RRULE"] and not dates["RDATE"]:
        raise Rejected("there is no RRULE, such as FREQ=DAILY;BYHOUR=9", field=field, code="rrule")
    for name, found in dates.items():
        if len(found) > EXDATES_MAXIMUM:
            raise Rejected(f"more than {EXDATES_MAXIMUM} {name}s", field=field, code="rrule")
    if sum(map(len, rules.values())) > RULES_MAXIMUM:
        raise Rejected(f"more than {RULES_MAXIMUM} rules", field=field, code="rrule")


_NAMES = r"(?:DTSTART|RRULE|RDATE|EXRULE|EXDATE)[;:]"
_NEXT_PROPERTY = re.compile(rf"(?<![ \t])[ \t]+(?={_NAMES})", re.ASCII | re.IGNORECASE)
_PROPERTY = re.compile(_NAMES, re.ASCII | re.IGNORECASE)


def _lines(text: str) -> list[str]:
    """The content lines: unfolded as in files, and parted where several stand on one line."""
    lines: list[str] = []
    for raw in text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if raw[:1] in {" ", "\t"} and lines and not _PROPERTY.match(raw.lstrip(" \t")):
            lines[-1] += raw[1:]
        elif raw.strip():
            lines.append(raw)
    return [part.strip(" \t") for line in lines for part in _NEXT_PROPERTY.split(line.strip(" \t")) if part.strip()]


class _Reader:
    """Where the text stands that is being read, for the refusal."""

    def __init__(self, field: str, place: str | None) -> None:
        self.field = field
        self.place = place

    def refuse(self, reason: str) -> NoReturn:
        message = f"{self.place}: {reason}" if self.place else reason
        raise Rejected(message, field=self.field, code="rrule")


Reader = _Reader


def _property(line: str, reader: Reader) -> tuple[str, dict[str, str], str]:
    """Name, parameters and value of a content line; a bare rule counts as RRULE."""
    if ":" not in line:
        return "RRULE", {}, line
    head, _, content = line.partition(":")
    name, *parts = head.upper().split(";")
    original = head.split(";")[1:]
    parameters: dict[str, str] = {}
    for part, raw in zip(parts, original, strict=True):
        key, equals, _ = part.partition("=")
        if not equals or key in parameters:
            reader.refuse(f"the parameter {raw[:_SHOWN]!r} cannot be read")
        parameters[key] = raw.partition("=")[2].strip('"')
    return name, parameters, content


def parse_moment(
    text: str, parameters: dict[str, str], reader: Reader, *, earliest_year: int = FIRST_YEAR - 100
) -> Moment:
    """A DATE or DATE-TIME with the property's parameters VALUE and TZID. Raises Rejected."""
    match = _MOMENT.fullmatch(text.strip().upper())
    if match is None:
        reader.refuse(f"{text[:_SHOWN]!r} is no date (20270131) and no date-time (20270131T090000, ...Z)")
    numbers = [int(part) for part in match.groups()[:6] if part]
    try:
        at = datetime(*numbers[:3], *numbers[3:], tzinfo=UTC)  # type: ignore[arg-type,misc] # as many as were found
    except ValueError as error:
        reader.refuse(f"{text[:_SHOWN]!r} is no possible date: {error}")
    if not earliest_year <= at.year <= LAST_YEAR:
        reader.refuse(f"the year {at.year} is not between {earliest_year} and {LAST_YEAR}")
    all_day = match.group(4) is None
    if parameters.get("VALUE", "").upper() not in ({"DATE"} if all_day else {"", "DATE-TIME"}) and not (
        all_day and "VALUE" not in parameters
    ):
        reader.refuse(f"{text[:_SHOWN]!r} is not a {parameters['VALUE'][:_SHOWN]}")
    zone = parameters.get("TZID")
    utc = match.group(7) == "Z"
    if zone is not None and (utc or all_day):
        reader.refuse(f"{text[:_SHOWN]!r} cannot have a TZID")
    if zone is not None:
        try:
            zone = parse_zone_name(zone)
        except Rejected as error:
            reader.refuse(error.message)
    return Moment(int((at - EPOCH).total_seconds()), utc, all_day, zone)


def parse_moments(text: str, parameters: dict[str, str], reader: Reader) -> list[Moment]:
    """The dates, date-times or starts of periods of a list, which may be empty. Raises Rejected."""
    if not text.strip():
        return []
    if parameters.get("VALUE", "").upper() == "PERIOD":
        kept = {name: value for name, value in parameters.items() if name != "VALUE"}
        return [parse_moment(part.partition("/")[0], kept, reader) for part in text.split(",")]
    return [parse_moment(part, parameters, reader) for part in text.split(",")]


def parse_recur(text: str, reader: Reader) -> RRule:
    """The value of an RRULE property. Raises Rejected."""
    parts: dict[str, str] = {}
    for name, value in _parts(text.strip().upper().removesuffix(";"), reader):
        if name in parts:
            reader.refuse(f"{name} stands twice")
        parts[name] = value
    frequency = parts.pop("FREQ", None)
    if frequency is None:
        reader.refuse("FREQ is missing")
    if frequency not in FREQUENCIES:
        reader.refuse(f"FREQ={frequency[:_SHOWN]} is none of {', '.join(FREQUENCIES)}")
    if parts.pop("RSCALE", "GREGORIAN") != "GREGORIAN":
        reader.refuse("RSCALE is GREGORIAN, no other calendar")
    if (skip := parts.pop("SKIP", "OMIT")) != "OMIT":
        reader.refuse(
            f"SKIP={skip[:_SHOWN]} is not understood, OMIT alone; BYMONTHDAY=-1 is the last day of each month"
        )
    if "COUNT" in parts and "UNTIL" in parts:
        reader.refuse("COUNT and UNTIL exclude each other")
    values = {name: _by(name, parts[name], reader) for name in _BY_PARTS if name in parts}
    rule = RRule(
        frequency=frequency,
        interval=_number("INTERVAL", parts.get("INTERVAL", "1"), 1, RRULE_INTERVAL_MAXIMUM, reader),
        count=_number("COUNT", parts["COUNT"], 1, RRULE_COUNT_MAXIMUM, reader) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"], reader) if "UNTIL" in parts else None,
        week_start=_week_start(parts.get("WKST", "MO"), reader),
        by_day=_by_day(parts["BYDAY"], reader) if "BYDAY" in parts else (),
        by_second=values.get("BYSECOND", ()),
        by_minute=values.get("BYMINUTE", ()),
        by_hour=values.get("BYHOUR", ()),
        by_month_day=values.get("BYMONTHDAY", ()),
        by_year_day=values.get("BYYEARDAY", ()),
        by_week_number=values.get("BYWEEKNO", ()),
        by_month=values.get("BYMONTH", ()),
        by_set_position=values.get("BYSETPOS", ()),
    )
    _check_combination(rule, parts, reader)
    return rule


def _until(text: str, reader: Reader) -> Moment | None:
    """The end of a rule; one after the last year, which calendars write for "forever", is none."""
    year = text[:4]
    if len(text) in {8, 15, 16} and year.isdigit() and int(year) > LAST_YEAR:
        return None
    return parse_moment(text, {}, reader, earliest_year=1)


def _parts(text: str, reader: Reader) -> Iterator[tuple[str, str]]:
    column = 1
    known = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", "RSCALE", "SKIP", *_BY_PARTS}
    for part in text.split(";"):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            reader.refuse(f"position {column}: {part[:_SHOWN]!r} is not of the form NAME=VALUE")
        if name not in known:
            reader.refuse(f"position {column}: {name[:_SHOWN]!r} is not known")
        yield name, value
        column += len(part) + 1


def _check_combination(rule: RRule, parts: dict[str, str], reader: Reader) -> None:
    for name, allowed in _ALLOWED.items():
        if name in parts and rule.frequency not in allowed:
            reader.refuse(f"{name} cannot stand with FREQ={rule.frequency}")
    numbered = any(term.nth for term in rule.by_day)
    if numbered and rule.frequency not in {"YEARLY", "MONTHLY"}:
        reader.refuse(f"BYDAY with a number cannot stand with FREQ={rule.frequency}")
    if numbered and rule.by_week_number:
        reader.refuse("BYDAY with a number cannot stand with BYWEEKNO")
    if rule.by_set_position and not any(name.startswith("BY") and name != "BYSETPOS" for name in parts):
        reader.refuse("BYSETPOS needs another BY... part to choose from")


def _by(name: str, text: str, reader: Reader) -> tuple[int, ...]:
    low, high, negative = _BY_PARTS[name]
    return tuple(sorted({_number(name, part, low, high, reader, negative=negative) for part in text.split(",")}))


def _number(name: str, text: str, low: int, high: int, reader: Reader, *, negative: bool = False) -> int:
    if not _INTEGER.fullmatch(text):
        reader.refuse(f"{name}: {text[:_SHOWN]!r} is not a number of at most seven digits")
    value = int(text)
    if not low <= (abs(value) if negative else value) <= high:
        reader.refuse(f"{name}: {value} is not between {low} and {high}" + (", or from the end" if negative else ""))
    return value


def _by_day(text: str, reader: Reader) -> tuple[WeekdayTerm, ...]:
    terms: set[WeekdayTerm] = set()
    for part in text.split(","):
        match = _WEEKDAY.fullmatch(part)
        if match is None:
            reader.refuse(f"BYDAY: {part[:_SHOWN]!r} is not a weekday such as MO, 2MO or -1FR")
        number, weekday = match.groups()
        if number is not None and not 1 <= abs(int(number)) <= 53:
            reader.refuse(f"BYDAY: {number} is not between 1 and 53, or from the end")
        terms.add(WeekdayTerm(WEEKDAYS.index(weekday), int(number or 0)))
    return tuple(sorted(terms))


def _week_start(text: str, reader: Reader) -> int:
    if text not in WEEKDAYS:
        reader.refuse(f"WKST: {text[:_SHOWN]!r} is none of {', '.join(WEEKDAYS)}")
    return WEEKDAYS.index(text)


def day_of(moment: Moment) -> date:
    """The date on the moment's own clock."""
    return date.fromordinal(moment.local // DAY + EPOCH_ORDINAL)
