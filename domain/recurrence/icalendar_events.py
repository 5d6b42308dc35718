"""What one event of an iCalendar file says, line by line, before it is known which others belong to it.

Whatever would change when the event is, is read or refused with its line; what is passed over is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.icalendar_lines import UNREADABLE, Component, Line
from rota_server.domain.recurrence.icalendar_zones import Zones
from rota_server.domain.recurrence.instants import DAY
from rota_server.domain.recurrence.limits import EVENT_DAYS_MAXIMUM, EXDATES_MAXIMUM, RULES_MAXIMUM
from rota_server.domain.recurrence.rrule_text import Moment, Reader, RRule, parse_moment, parse_recur
from rota_server.domain.recurrence.zones import Zone

_DURATION = re.compile(
    r"([+-]?)P(?:(\d{1,4})W|(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,8})S)?)?)", re.ASCII
)
_SUMMARY_MAXIMUM = 100
_SHOWN = 40
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
STAMPS = ("DTSTAMP", "LAST-MODIFIED")
_ABOUT = frozenset({"STATUS", "SEQUENCE", *STAMPS})
ONCE = frozenset({"DTSTART", "DTEND", "DURATION", "RECURRENCE-ID"})

Warn = Callable[[int, str], None]
"""Takes the number of a line and what is to be told about it."""


class Dated(NamedTuple):
    """A moment with the zone that it is written in, None for one without; `line`: where it stands."""

    moment: Moment
    zone: Zone | None
    line: int

    @property
    def instant(self) -> int | None:
        """The instant in seconds; None for a date, or a reading of whatever clock is looked at."""
        if self.moment.all_day or self.zone is None:
            return None
        return self.moment.local if self.moment.utc else self.zone.earliest(self.moment.local)


class More(NamedTuple):
    """A further occurrence; `seconds`: how long, when that is not as long as the others."""

    start: Dated
    seconds: int | None


class Draft:
    """The lines of one VEVENT, read. Raises Rejected with the line."""

    def __init__(self, component: Component, field_name: str, zones: Zones, utc: Zone, warn: Warn) -> None:
        self.line = component.number
        self.uid, self.summary = titles(component)
        self.cancelled = False
        self.sequence = 0
        self._stamps: dict[str, int] = {}
        self.start: Dated | None = None
        self.recurrence: Dated | None = None
        self.this_and_future = False
        self.rules: list[RRule] = []
        self.exception_rules: list[RRule] = []
        self.excluded: list[Dated] = []
        self.more: list[More] = []
        self.reader = Reader(field_name, f"line {component.number}")
        self._end: Dated | None = None
        self._duration: int | None = None
        self._zones = zones
        self._utc = utc
        self._warn = warn
        seen: set[str] = set()
        for line in component.lines:
            reader = Reader(field_name, f"line {line.number}")
            if line.name in ONCE and line.name in seen:
                reader.refuse(f"a second {line.name}")
            seen.add(line.name)
            self._read(line, reader)
        if self._end is not None and self._duration is not None:
            warn(self.line, "the event has a DTEND and a DURATION; DTEND counts")

    @property
    def seconds(self) -> int:
        """How long the event is on the wall clock."""
        start = self.start
        assert start is not None  # noqa: S101 # asked of events with a start only
        seconds = self._duration
        if self._end is not None:
            seconds = self._between(start, self._end, self.reader)
        if start.moment.all_day and not seconds:
            return DAY
        return self._checked(seconds or 0, self.reader)

    @property
    def revision(self) -> tuple[int, ...]:
        """The greater it is, the later is this text of the event: SEQUENCE, then DTSTAMP, then LAST-MODIFIED."""
        return (self.sequence, *(self._stamps.get(name, 0) for name in STAMPS))

    @property
    def place(self) -> tuple[str, int | None, int | None]:
        """Which event, or which occurrence of it, this is about; equal for two texts about the same."""
        if self.recurrence is None:
            return self.uid, None, None
        instant = self.recurrence.instant
        return self.uid, self.recurrence.moment.local if instant is None else None, instant

    def _read(self, line: Line, reader: Reader) -> None:
        name, value = line.name, line.value
        if name == "DTSTART":
            self.start = self._dated(value, line, reader)
        elif name == "DTEND":
            self._end = self._dated(value, line, reader)
        elif name == "DURATION":
            self._duration = _duration(value, reader)
        elif name in {"RRULE", "EXRULE"}:
            self._read_rule(line, reader)
        elif name == "RECURRENCE-ID":
            self.recurrence = self._dated(value, line, reader)
            self._read_range(line.parameters.get("RANGE", "").upper(), reader)
        elif name in {"EXDATE", "RDATE"}:
            self._read_dates(line, reader)
        elif name in _ABOUT:
            self._read_about(line, reader)
        elif name == UNREADABLE:
            reader.refuse(f"{value[:_SHOWN]!r} is not of the form NAME:VALUE")

    def _read_rule(self, line: Line, reader: Reader) -> None:
        if not line.value.strip(" ;"):
            return
        rules = self.rules if line.name == "RRULE" else self.exception_rules
        rule = parse_recur(line.value, reader)
        if rule.elapsed:
            reader.refuse("an event recurs daily or more rarely")
        rules.append(rule)
        if len(self.rules) + len(self.exception_rules) > RULES_MAXIMUM:
            reader.refuse(f"more than {RULES_MAXIMUM} rules")

    def _read_about(self, line: Line, reader: Reader) -> None:
        if line.name == "STATUS":
            self.cancelled = line.value.strip().upper() == "CANCELLED"
        elif line.name == "SEQUENCE":
            self._read_sequence(line)
        else:
            self._read_stamp(line, reader)

    def _read_sequence(self, line: Line) -> None:
        match = _NUMBER.fullmatch(line.value.strip())
        if match is None:
            self._warn(line.number, f"{line.value[:_SHOWN]!r} is no SEQUENCE; it counts as 0")
        else:
            self.sequence = int(match[0])

    def _read_stamp(self, line: Line, reader: Reader) -> None:
        """When this text of the event was written: it decides between two of the same SEQUENCE, and nothing else."""
        try:
            dated = self._dated(line.value, line, reader)
        except Rejected:
            self._warn(line.number, f"{line.value[:_SHOWN]!r} is no {line.name}; it is passed over")
            return
        self._stamps[line.name] = dated.moment.local if dated.instant is None else dated.instant

    def _read_range(self, text: str, reader: Reader) -> None:
        if text not in {"", "THISANDFUTURE"}:
            reader.refuse(f"RANGE={text[:_SHOWN]} is not understood, THISANDFUTURE alone")
        self.this_and_future = text == "THISANDFUTURE"

    def _read_dates(self, line: Line, reader: Reader) -> None:
        for part in line.value.split(",") if line.value.strip() else ():
            if line.name == "EXDATE":
                self.excluded.append(self._dated(part, line, reader))
            else:
                self.more.append(self._further(part, line, reader))
        if max(len(self.excluded), len(self.more)) > EXDATES_MAXIMUM:
            reader.refuse(f"more than {EXDATES_MAXIMUM} dates")

    def _further(self, text: str, line: Line, reader: Reader) -> More:
        first, slash, last = text.partition("/")
        if not slash:
            return More(self._dated(text, line, reader), None)
        start = self._dated(first, line, reader)
        if last.strip()[:1].upper() in {"P", "+", "-"}:
            return More(start, self._checked(_duration(last, reader), reader))
        return More(start, self._checked(self._between(start, self._dated(last, line, reader), reader), reader))

    def _dated(self, text: str, line: Line, reader: Reader) -> Dated:
        parameters = dict(line.parameters)
        name = parameters.pop("TZID", None)
        if parameters.get("VALUE", "").upper() == "PERIOD":
            del parameters["VALUE"]
        moment = parse_moment(text, parameters, reader, earliest_year=1)
        if moment.utc or moment.all_day:
            if name is not None and name.upper() not in {"UTC", "GMT", "ETC/UTC"}:
                self._warn(line.number, f"the zone {name[:_SHOWN]!r} says nothing about {text[:_SHOWN]!r}")
            return Dated(moment, self._utc if moment.utc else None, line.number)
        return Dated(moment, None if name is None else self._zones.named(name, reader), line.number)

    def _between(self, start: Dated, end: Dated, reader: Reader) -> int:
        if end.moment.all_day != start.moment.all_day:
            reader.refuse("DTSTART and DTEND must both be dates, or both date-times")
        if end.zone is start.zone or start.zone is None:
            return end.moment.local - start.moment.local
        instant = end.instant
        if instant is None:
            return end.moment.local - start.moment.local
        return instant + start.zone.offset_at(instant) - start.moment.local

    def _checked(self, seconds: int, reader: Reader) -> int:
        if seconds < 0:
            reader.refuse("the event ends before it begins")
        if seconds > EVENT_DAYS_MAXIMUM * DAY:
            reader.refuse(f"the event is longer than {EVENT_DAYS_MAXIMUM} days")
        return seconds


def titles(component: Component) -> tuple[str, str]:
    """UID and SUMMARY of an event, as far as they can be read."""
    uid = next((line.value for line in component.lines if line.name == "UID"), "")
    summary = next((line.value for line in component.lines if line.name == "SUMMARY"), "")
    return uid, _plain(summary) or "event"


def _duration(text: str, reader: Reader) -> int:
    match = _DURATION.fullmatch(text.strip().upper())
    if match is None or not any(match.groups()[1:]):
        reader.refuse(f"{text[:_SHOWN]!r} is no duration such as PT1H30M")
    sign, weeks, days, hours, minutes, seconds = match.groups()
    total = int(weeks or 0) * 7 * DAY + int(days or 0) * DAY
    total += int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return -total if sign == "-" else total


def _plain(text: str) -> str:
    plain = text.replace("\\n", " ").replace("\\N", " ").replace("\\,", ",").replace("\\;", ";").replace("\\\\", "\\")
    return "".join(character for character in plain if character.isprintable()).strip()[:_SUMMARY_MAXIMUM]
