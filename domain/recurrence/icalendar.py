"""The events of an iCalendar file (RFC 5545), as far as they say when something is.

Read are VEVENTs with DTSTART, DTEND or DURATION, RRULE, EXDATE, RDATE, RECURRENCE-ID, STATUS, UID and SUMMARY. A
cancelled event is none. All else is passed over, TRANSP too: calendars of holidays mark their days as transparent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from domain.errors import Rejected
from domain.recurrence import rrule, zones
from domain.recurrence.icalendar_lines import Line, event_lines
from domain.recurrence.instants import DAY, END_SECOND
from domain.recurrence.limits import (
    CALENDAR_COUNT_MAXIMUM,
    CALENDAR_RECURRING_MAXIMUM,
    EVENT_DAYS_MAXIMUM,
    EXDATES_MAXIMUM,
    ICALENDAR_TEXT_MAXIMUM,
)
from domain.recurrence.rrule_text import Moment, Reader, RRule, parse_moment, parse_recur
from domain.recurrence.spans import Span, Spans
from domain.recurrence.zones import Zone

_DURATION = re.compile(
    r"([+-]?)P(?:(\d{1,4})W|(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,8})S)?)?)", re.ASCII
)
_SUMMARY_MAXIMUM = 100
_SHOWN = 40
_LOOK_AHEAD = 400 * DAY
"""How far a recurring event is searched for beyond what was asked."""


class _Known(NamedTuple):
    """From `asked` on, the first start is `end` (`found`), or there is none before `end`."""

    asked: int
    end: int
    found: bool


@dataclass(frozen=True, slots=True)
class RecurringEvent:
    """An event with a rule. `zone` None: it is meant on the clock of whoever asks.

    It takes `seconds` on the wall clock from each time of the rule up to `last`, except from those in `excluded`.
    """

    text: str
    zone: Zone | None
    seconds: int
    rule: rrule.BoundRRule
    last: int
    excluded: frozenset[int]
    _known: list[_Known] = field(default_factory=list, compare=False, repr=False)

    def covers(self, second: int, local: int) -> bool:
        """Whether the event is going on at an instant; `local` is that instant on the clock of who asks."""
        offset = local - second
        if self.zone is not None:
            offset = self.zone.offset_at(second)
            local = second + offset
        last = min(local, self.last)
        start = self._first(local - self.seconds + 1, last, offset)
        while start is not None and start <= last:
            if start not in self.excluded:
                return True
            start = self._first(start + 1, last, offset)
        return False

    def _first(self, earliest: int, last: int, offset: int) -> int | None:
        """The first start at or after `earliest`, or None when there is none up to `last`.

        What it was is remembered: ticks come in order, and most find the same next occurrence before them.
        """
        for known in self._known:
            if known.asked <= earliest and (earliest <= known.end if known.found else last < known.end):
                return known.end if known.found else None
        limit = max(last, earliest) + _LOOK_AHEAD
        start = self.rule.next_local(max(earliest, self.rule.start_local), offset, limit)
        found = start is not None and start < limit
        self._known[:] = [_Known(earliest, start if start is not None and found else limit, found)]
        return start if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What a file says. `absolute` in seconds since 1970, `local` in such seconds on the clock of whoever asks."""

    absolute: Spans = field(default_factory=Spans)
    local: Spans = field(default_factory=Spans)
    recurring: tuple[RecurringEvent, ...] = ()

    def find(self, second: int, local: int) -> str | None:
        """The summary of an event that is going on at an instant, None when there is none."""
        found = self.absolute.find(second) or self.local.find(local)
        return found or next((event.text for event in self.recurring if event.covers(second, local)), None)


def parse_icalendar(text: Any, field_name: str) -> Events:
    """All events of a file. Raises Rejected naming the field, with line and reason."""
    if not isinstance(text, str):
        raise Rejected("an iCalendar file is a string", field=field_name, code="icalendar")
    if len(text) > ICALENDAR_TEXT_MAXIMUM:
        raise Rejected(f"longer than {ICALENDAR_TEXT_MAXIMUM} characters", field=field_name, code="icalendar")
    drafts = [_Draft(lines, field_name) for lines in event_lines(text, field_name)]
    replaced: dict[str, list[Moment]] = {}
    for draft in drafts:
        if draft.recurrence is not None:
            replaced.setdefault(draft.uid, []).append(draft.recurrence)
    collected = _Collected()
    for draft in drafts:
        if not draft.cancelled:
            draft.collect(collected, replaced.get(draft.uid, ()))
    return Events(
        absolute=Spans(collected.absolute), local=Spans(collected.local), recurring=tuple(collected.recurring)
    )


class _Collected:
    def __init__(self) -> None:
        self.absolute: list[Span] = []
        self.local: list[Span] = []
        self.recurring: list[RecurringEvent] = []
        self.counted = 0


class _Draft:
    """The lines of one VEVENT, read."""

    def __init__(self, lines: list[Line], field_name: str) -> None:
        self.uid = ""
        self.recurrence: Moment | None = None
        self.cancelled = False
        self._begin = Reader(field_name, f"line {lines[0].number}")
        self._summary = "event"
        self._start: Moment | None = None
        self._end: Moment | None = None
        self._duration: int | None = None
        self._rule: RRule | None = None
        self._excluded: list[Moment] = []
        self._more: list[Moment] = []
        for line in lines[1:]:
            read = _READERS.get(line.name)
            if read is not None:
                read(self, line, Reader(field_name, f"line {line.number}"))

    def collect(self, into: _Collected, replaced: Iterable[Moment]) -> None:
        """Add the event, without the occurrences that others of the same UID replace."""
        start = self._start
        if start is None:
            self._refuse("the event has no DTSTART")
        zone = None
        if start.utc or start.zone is not None:
            zone = zones.zone(start.zone or "UTC")
        clock = zone or zones.zone("UTC")
        seconds = self._seconds(start, clock)
        replaced = replaced if self.recurrence is None else ()
        excluded = frozenset(_excluded([*self._excluded, *replaced], clock, start.local % DAY))
        for local in {rrule.local_of(moment, clock) for moment in (start, *self._more)} - excluded:
            if zone is None:
                into.local.append(Span(local, local + seconds, self._summary))
            else:
                into.absolute.append(Span(zone.earliest(local), zone.earliest(local + seconds), self._summary))
        if self._rule is not None:
            if self._rule.elapsed:
                self._refuse("an event recurs daily or more rarely")
            into.counted += self._rule.count or 0
            if into.counted > CALENDAR_COUNT_MAXIMUM:
                self._refuse(f"all COUNTs together are more than {CALENDAR_COUNT_MAXIMUM}")
            if len(into.recurring) >= CALENDAR_RECURRING_MAXIMUM:
                self._refuse(f"more than {CALENDAR_RECURRING_MAXIMUM} events with a rule")
            rule = rrule.BoundRRule(self._rule, clock, start.local)
            last = _last(self._rule, rule, clock)
            into.recurring.append(RecurringEvent(self._summary, zone, seconds, rule, last, excluded))

    def _seconds(self, start: Moment, clock: Zone) -> int:
        """How long the event is on the wall clock."""
        seconds = self._duration
        if self._end is not None:
            if self._end.all_day != start.all_day:
                self._refuse("DTSTART and DTEND must both be dates, or both date-times")
            seconds = rrule.local_of(self._end, clock) - start.local
        if seconds is None:
            seconds = DAY if start.all_day else 0
        if seconds < 0 or (seconds == 0 and start.all_day):
            self._refuse("the event ends before it begins")
        if seconds > EVENT_DAYS_MAXIMUM * DAY:
            self._refuse(f"the event is longer than {EVENT_DAYS_MAXIMUM} days")
        return seconds

    def _refuse(self, reason: str) -> NoReturn:
        self._begin.refuse(reason)

    def _read_start(self, line: Line, reader: Reader) -> None:
        self._start = parse_moment(line.value, line.parameters, reader)

    def _read_end(self, line: Line, reader: Reader) -> None:
        self._end = parse_moment(line.value, line.parameters, reader)

    def _read_duration(self, line: Line, reader: Reader) -> None:
        self._duration = _duration(line.value, reader)

    def _read_rule(self, line: Line, reader: Reader) -> None:
        if self._rule is not None:
            reader.refuse("a second RRULE")
        self._rule = parse_recur(line.value, reader)

    def _read_recurrence(self, line: Line, reader: Reader) -> None:
        self.recurrence = parse_moment(line.value, line.parameters, reader)

    def _read_excluded(self, line: Line, reader: Reader) -> None:
        _extend(self._excluded, line, reader)

    def _read_more(self, line: Line, reader: Reader) -> None:
        _extend(self._more, line, reader)

    def _read_status(self, line: Line, _reader: Reader) -> None:
        self.cancelled = line.value.strip().upper() == "CANCELLED"

    def _read_summary(self, line: Line, _reader: Reader) -> None:
        self._summary = _plain(line.value) or "event"

    def _read_uid(self, line: Line, _reader: Reader) -> None:
        self.uid = line.value


_READERS: dict[str, Callable[[_Draft, Line, Reader], None]] = {
    "DTSTART": _Draft._read_start,  # noqa: SLF001 # the table of the class above
    "DTEND": _Draft._read_end,  # noqa: SLF001
    "DURATION": _Draft._read_duration,  # noqa: SLF001
    "RRULE": _Draft._read_rule,  # noqa: SLF001
    "RECURRENCE-ID": _Draft._read_recurrence,  # noqa: SLF001
    "EXDATE": _Draft._read_excluded,  # noqa: SLF001
    "RDATE": _Draft._read_more,  # noqa: SLF001
    "STATUS": _Draft._read_status,  # noqa: SLF001
    "SUMMARY": _Draft._read_summary,  # noqa: SLF001
    "UID": _Draft._read_uid,  # noqa: SLF001
}


def _extend(known: list[Moment], line: Line, reader: Reader) -> None:
    known.extend(parse_moment(part, line.parameters, reader) for part in line.value.split(","))
    if len(known) > EXDATES_MAXIMUM:
        reader.refuse(f"more than {EXDATES_MAXIMUM} dates")


def _last(rule: RRule, bound: rrule.BoundRRule, clock: Zone) -> int:
    """The last wall-clock start of a rule."""
    last = END_SECOND
    if rule.until is not None:
        last = rrule.local_of(rule.until, clock) + (DAY - 1 if rule.until.all_day else 0)
    if rule.count is None:
        return last
    offset = clock.offset_at(bound.start_local)
    local: int | None = bound.start_local - 1
    for _ in range(rule.count):
        local = None if local is None else bound.next_local(local + 1, offset, END_SECOND)
    return last if local is None else min(last, local)


def _excluded(moments: list[Moment], clock: Zone, time: int) -> Iterator[int]:
    """Excluded starts on the wall clock; a date without time stands for the start on that day."""
    for moment in moments:
        yield moment.local + time if moment.all_day else rrule.local_of(moment, clock)


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
