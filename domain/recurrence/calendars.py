"""Calendars of times at which a schedule does not tick: dates, weekly windows, intervals, and iCalendar files.

Dates, weekly windows and events without a zone are meant on the clock of the schedule that uses the calendar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence import zones
from rota_server.domain.recurrence.icalendar import Events, parse_icalendar
from rota_server.domain.recurrence.icalendar_lines import Check, unchecked
from rota_server.domain.recurrence.instants import DAY, EPOCH_ORDINAL, MICROS, micros_of, parse_instant
from rota_server.domain.recurrence.limits import (
    CALENDAR_DATES_MAXIMUM,
    CALENDAR_INTERVALS_MAXIMUM,
    CALENDAR_WINDOWS_MAXIMUM,
    FIRST_YEAR,
    LAST_YEAR,
)
from rota_server.domain.recurrence.spans import Span, Spans
from rota_server.domain.recurrence.zones import Zone

_WEEK = 7 * DAY
_EPOCH_WEEKDAY = 3
"""1 January 1970 was a Thursday; Monday is 0."""
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?|24:00(?::00)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FIELDS = ("name", "dates", "weekly", "intervals", "icalendar", "skip_invalid", "skipped", "warnings")
_NAME_MAXIMUM = 200
_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """What is left out. Built by `parse_calendar`.

    `dates`: days since 1970. `weekly` in seconds since Monday's midnight. `intervals` in microseconds since 1970.
    """

    name: str = ""
    dates: frozenset[int] = frozenset()
    weekly: Spans = field(default_factory=Spans)
    intervals: Spans = field(default_factory=Spans)
    events: Events = field(default_factory=Events)

    def excludes(self, instant: datetime, timezone: str) -> bool:
        """Whether a schedule in that zone leaves out the instant."""
        return self.reason(micros_of(instant), zones.zone(timezone)) is not None

    def reason(self, micros: int, zone: Zone) -> str | None:
        """Why the instant (microseconds) is left out, in words; None when it is not."""
        second = micros // MICROS
        local = second + zone.offset_at(second)
        found = self._on(local // DAY) or self.weekly.find((local + _EPOCH_WEEKDAY * DAY) % _WEEK)
        found = found or self.intervals.find(micros) or self.events.find(second, local, zone)
        return f"calendar {self.name}: {found}" if found and self.name else found

    def _on(self, day: int) -> str | None:
        return date.fromordinal(day + EPOCH_ORDINAL).isoformat() if day in self.dates else None


def parse_calendar(spec: Mapping[str, Any], check: Check = unchecked) -> Calendar:
    """The calendar of its JSON form. Raises Rejected naming field and place; and what `check` raises in between.

    `dates`: `["2026-12-25"]`. `weekly`: `[{"days": ["sat", "sun"], "from": "00:00", "to": "24:00"}]`; an end at or
    before the start is on the next day. `intervals`: `[{"from": INSTANT, "to": INSTANT}]`, the end excluded.
    `icalendar`: the text of an iCalendar file; `skip_invalid`: without its events that cannot be understood. `name` is
    shown in the reason. `skipped` and `warnings`, which tell what became of a file, are passed over.
    """
    unknown = next((name for name in spec if name not in _FIELDS), None)
    if unknown is not None:
        raise Rejected(f"a calendar has only {', '.join(_FIELDS[:6])}", field=str(unknown)[:_SHOWN], code="calendar")
    text, skips = spec.get("icalendar"), spec.get("skip_invalid", False)
    if not isinstance(skips, bool):
        raise Rejected("true or false is needed", field="skip_invalid", code="calendar")
    return Calendar(
        name=_parse_name(spec.get("name")),
        dates=frozenset(
            _parse_date(item, f"dates.{place}") for place, item in _items(spec, "dates", CALENDAR_DATES_MAXIMUM)
        ),
        weekly=Spans(
            window
            for place, item in _items(spec, "weekly", CALENDAR_WINDOWS_MAXIMUM)
            for window in _parse_weekly(item, f"weekly.{place}")
        ),
        intervals=Spans(
            _parse_interval(item, f"intervals.{place}")
            for place, item in _items(spec, "intervals", CALENDAR_INTERVALS_MAXIMUM)
        ),
        events=Events() if text is None else parse_icalendar(text, "icalendar", skip_invalid=skips, check=check),
    )


def _items(spec: Mapping[str, Any], name: str, maximum: int) -> Iterable[tuple[int, Any]]:
    value = spec.get(name)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise Rejected("a list is needed", field=name, code="calendar")
    if len(value) > maximum:
        raise Rejected(f"more than {maximum} entries", field=name, code="calendar")
    return enumerate(value)


def _parse_name(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable() or len(value) > _NAME_MAXIMUM:
        raise Rejected(f"a name has at most {_NAME_MAXIMUM} printable characters", field="name", code="calendar")
    return value


def _parse_date(value: Any, field: str) -> int:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise Rejected("a date is a string such as 2026-12-25", field=field, code="date")
    try:
        day = date.fromisoformat(value)
    except ValueError as error:
        raise Rejected(f"{value!r} is no possible date: {error}", field=field, code="date") from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise Rejected(f"a date lies in the years {FIRST_YEAR} to {LAST_YEAR}", field=field, code="date")
    return day.toordinal() - EPOCH_ORDINAL


def _parse_weekly(item: Any, field: str) -> list[Span]:
    known = _fields(item, field, ("days", "from", "to"))
    days = known.get("days")
    if not isinstance(days, list | tuple) or not 1 <= len(days) <= len(_WEEKDAYS):
        raise Rejected("a list of weekdays is needed", field=f"{field}.days", code="calendar")
    start = _parse_clock(known.get("from", "00:00"), f"{field}.from")
    end = _parse_clock(known.get("to", "24:00"), f"{field}.to")
    if start == DAY:
        raise Rejected("a window cannot begin at 24:00", field=f"{field}.from", code="calendar")
    if end <= start:
        end += DAY
    windows: list[Span] = []
    for place, day in enumerate(days):
        if not isinstance(day, str) or day.lower() not in _WEEKDAYS:
            raise Rejected(f"one of {', '.join(_WEEKDAYS)} is needed", field=f"{field}.days.{place}", code="calendar")
        first = _WEEKDAYS.index(day.lower()) * DAY
        windows.append(Span(first + start, min(first + end, _WEEK), "weekly window"))
        if first + end > _WEEK:
            windows.append(Span(0, first + end - _WEEK, "weekly window"))
    return windows


def _parse_clock(value: Any, field: str) -> int:
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Rejected("a time of day is a string such as 09:30, at most 24:00", field=field, code="calendar")
    hour, minute, second = match.groups()
    return DAY if hour is None else int(hour) * 3600 + int(minute) * 60 + int(second or 0)


def _parse_interval(item: Any, field: str) -> Span:
    known = _fields(item, field, ("from", "to"))
    start, end = (micros_of(parse_instant(known.get(name), f"{field}.{name}")) for name in ("from", "to"))
    if end <= start:
        raise Rejected("the end must lie after the start", field=f"{field}.to", code="calendar")
    return Span(start, end, "interval")


def _fields(item: Any, field: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise Rejected("an object is needed", field=field, code="calendar")
    unknown = next((name for name in item if name not in names), None)
    if unknown is not None:
        raise Rejected(f"only {', '.join(names)} stand here", field=f"{field}.{unknown}"[:100], code="calendar")
    return item
