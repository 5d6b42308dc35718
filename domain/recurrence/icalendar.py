"""The events of an iCalendar file (RFC 5545), as far as they say when something is.

A cancelled event is none. TRANSP is passed over: calendars of holidays mark their days as transparent. What else would
change when an event is, is honoured, refused with its line, or told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence import zones
from rota_server.domain.recurrence.dates import ListedDates
from rota_server.domain.recurrence.icalendar_events import Dated, Draft, More, titles
from rota_server.domain.recurrence.icalendar_lines import (
    EVENT,
    UNREADABLE,
    Check,
    Component,
    read_components,
    unchecked,
)
from rota_server.domain.recurrence.icalendar_series import Exceptions, RecurringEvent, Starts, readings_of, starts_of
from rota_server.domain.recurrence.icalendar_zones import Zones
from rota_server.domain.recurrence.instants import END_SECOND
from rota_server.domain.recurrence.limits import (
    CALENDAR_COUNT_MAXIMUM,
    CALENDAR_RECURRING_MAXIMUM,
    ICALENDAR_TEXT_MAXIMUM,
)
from rota_server.domain.recurrence.rrule_text import Reader, RRule
from rota_server.domain.recurrence.spans import Span, Spans
from rota_server.domain.recurrence.zones import Zone

LIMIT = "icalendar-limit"
TOLD_MAXIMUM = 1_000
"""Skipped events, and warnings, that are told of one file."""
_PLACE = re.compile(r"line (\d+): (.*)", re.DOTALL)
_SHOWN = 40
_LONG_AGO = -END_SECOND * 8


class Told(NamedTuple):
    """Something about a file that its reader should know: the line, the text, and of which event if of one."""

    line: int
    text: str
    event: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What a file says. `absolute` in seconds since 1970, `local` in such seconds on the clock of whoever asks.

    `skipped`: events that could not be understood. `warnings`: what was passed over in the others.
    """

    absolute: Spans = field(default_factory=Spans)
    local: Spans = field(default_factory=Spans)
    recurring: tuple[RecurringEvent, ...] = ()
    skipped: tuple[Told, ...] = field(default=(), compare=False)
    warnings: tuple[Told, ...] = field(default=(), compare=False)

    def find(self, second: int, local: int, asking: Zone) -> str | None:
        """The summary of an event that is going on at an instant, None when there is none."""
        found = self.absolute.find(second) or self.local.find(local)
        return found or next((event.text for event in self.recurring if event.covers(second, local, asking)), None)


def parse_icalendar(text: Any, field_name: str, *, skip_invalid: bool = False, check: Check = unchecked) -> Events:
    """All events of a file. Raises Rejected naming the field, with line and reason; and what `check` raises.

    `skip_invalid`: an event that cannot be understood is left out and told; the file as a whole must still be one.
    """
    if not isinstance(text, str):
        raise Rejected("an iCalendar file is a string", field=field_name, code="icalendar")
    if len(text) > ICALENDAR_TEXT_MAXIMUM:
        raise Rejected(f"longer than {ICALENDAR_TEXT_MAXIMUM} characters", field=field_name, code="icalendar")
    collected = _Collected(check)
    for calendar in read_components(text, field_name, check):
        _File(calendar, field_name, collected, skip_invalid=skip_invalid).collect()
    return Events(
        absolute=Spans(collected.absolute),
        local=Spans(collected.local),
        recurring=tuple(collected.recurring),
        skipped=tuple(sorted(collected.skipped)[:TOLD_MAXIMUM]),
        warnings=tuple(sorted(collected.warnings)[:TOLD_MAXIMUM]),
    )


class _Collected:
    def __init__(self, check: Check) -> None:
        self.check = check
        self.absolute: list[Span] = []
        self.local: list[Span] = []
        self.recurring: list[RecurringEvent] = []
        self.skipped: list[Told] = []
        self.warnings: list[Told] = []
        self.counted = 0

    def warn(self, line: int, text: str) -> None:
        self.warnings.append(Told(line, text))


class _File:
    """One VCALENDAR, read event by event."""

    def __init__(self, calendar: Component, field_name: str, into: _Collected, *, skip_invalid: bool) -> None:
        self._calendar = calendar
        self._field = field_name
        self._into = into
        self._skips = skip_invalid
        self._zones = Zones(_defined_zones(calendar), field_name, into.check)
        self._zone: Zone | None = None

    def collect(self) -> None:
        """Add its events to what is collected. Raises Rejected."""
        cancels = self._read_properties()
        drafts: list[Draft] = []
        for component in self._calendar.components:
            self._into.check()
            if component.name == EVENT:
                drafts += self._draft(component)
            elif component.name != "VTIMEZONE":
                self._into.warn(component.number, f"{component.name[:_SHOWN]} is not read, only events are")
        if cancels:
            return
        drafts = self._latest(drafts)
        masters = {draft.uid for draft in drafts if draft.recurrence is None}
        replacing: dict[str, list[Draft]] = {}
        for draft in drafts:
            if draft.recurrence is not None and draft.uid in masters:
                replacing.setdefault(draft.uid, []).append(draft)
        for draft in drafts:
            if draft.recurrence is None:
                self._add(draft, replacing.get(draft.uid, ()))
            elif not (draft.this_and_future and draft.uid in masters):
                self._add_alone(draft)

    def _latest(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Of several texts about the same event or occurrence the latest ones; two that are of the same age both count.

        Some programs give all of their events one UID.
        """
        latest: dict[tuple[str, int | None, int | None], Draft] = {}
        for draft in drafts:
            before = latest.setdefault(draft.place, draft)
            if draft.revision > before.revision:
                latest[draft.place] = draft
        kept: list[Draft] = []
        for draft in drafts:
            newer = latest[draft.place]
            if not draft.uid or draft.revision == newer.revision:
                kept.append(draft)
            else:
                self._into.warn(draft.line, f"a later text of this event, in line {newer.line}, counts in its place")
        return kept

    def _read_properties(self) -> bool:
        """What the file says about all of its events; whether it is a list of cancellations."""
        cancels = False
        for line in self._calendar.lines:
            reader = Reader(self._field, f"line {line.number}")
            value = line.value.strip().upper()
            if line.name == "CALSCALE" and value != "GREGORIAN":
                reader.refuse(f"CALSCALE is GREGORIAN, not {line.value[:_SHOWN]!r}")
            elif line.name == "METHOD" and value == "CANCEL":
                self._into.warn(line.number, "the file cancels events (METHOD:CANCEL), so it leaves nothing out")
                cancels = True
            elif line.name == "X-WR-TIMEZONE" and line.value.strip():
                try:
                    self._zone = self._zones.named(line.value.strip(), reader)
                except Rejected as error:
                    self._into.warn(line.number, _place(error)[1])
            elif line.name == UNREADABLE:
                self._into.warn(line.number, f"{line.value[:_SHOWN]!r} is not of the form NAME:VALUE")
        return cancels

    def _draft(self, component: Component) -> list[Draft]:
        try:
            draft = Draft(component, self._field, self._zones, zones.zone("UTC"), self._into.warn)
            if draft.start is None and not (draft.cancelled and draft.recurrence is not None):
                draft.reader.refuse("the event has no DTSTART")
        except Rejected as error:
            self._skip(error, component)
            return []
        return [draft]

    def _add(self, draft: Draft, replacing: Sequence[Draft]) -> None:
        self._into.check()
        if draft.cancelled or draft.start is None:
            return
        try:
            series = _Series(draft, draft.start, replacing, self._zone, self._into)
            series.collect()
        except Rejected as error:
            self._skip(error, draft)
            return
        self._take(series, draft)

    def _add_alone(self, draft: Draft) -> None:
        """An occurrence that another event's rule does not give."""
        if draft.rules or draft.exception_rules or draft.more or draft.excluded:
            self._into.warn(draft.line, "an exception to a series recurs by itself; its own time alone counts")
            draft.rules, draft.exception_rules, draft.more, draft.excluded = [], [], [], []
        self._add(draft, ())

    def _take(self, series: _Series, draft: Draft) -> None:
        into = self._into
        into.absolute += series.absolute
        into.local += series.local
        into.recurring += series.recurring
        into.counted = series.counted
        if len(into.recurring) > CALENDAR_RECURRING_MAXIMUM:
            message = f"more than {CALENDAR_RECURRING_MAXIMUM} events with a rule"
            raise Rejected(f"line {draft.line}: {message}", field=self._field, code=LIMIT)
        if not series.takes_time:
            into.warn(draft.line, "the event takes no time, so it leaves nothing out")

    def _skip(self, error: Rejected, event: Component | Draft) -> None:
        if error.code == LIMIT:
            raise error
        line, text = _place(error)
        if not self._skips:
            message = f"{error.message}; skip_invalid would leave out such events and tell which"
            raise Rejected(message, field=error.field, code=error.code) from None
        uid, summary = titles(event) if isinstance(event, Component) else (event.uid, event.summary)
        self._into.skipped.append(Told(line, text, uid or summary))


class _Segment(NamedTuple):
    """Starts of a series in [`first`, `end`), and what becomes of them; None: they are cancelled."""

    first: int
    end: int
    shift: int
    seconds: int
    text: str


class _Series:
    """An event, with what others of its UID say about its occurrences."""

    def __init__(
        self, draft: Draft, start: Dated, replacing: Sequence[Draft], file_zone: Zone | None, into: _Collected
    ) -> None:
        self.absolute: list[Span] = []
        self.local: list[Span] = []
        self.recurring: list[RecurringEvent] = []
        self.counted = into.counted
        self._check = into.check
        self._draft = draft
        self._start = start
        self._file_zone = file_zone
        self._clock = start.zone or zones.zone("UTC")
        self._segments = self._cut([other for other in replacing if other.this_and_future])
        self._exceptions = self._excepted([other for other in replacing if not other.this_and_future])

    @property
    def takes_time(self) -> bool:
        """Whether anything of it can be going on at an instant."""
        return any(segment.seconds for segment in self._segments) or any(more.seconds for more in self._draft.more)

    def collect(self) -> None:
        """Work out its occurrences. Raises Rejected."""
        draft = self._draft
        floating: list[int] = []
        for more in (More(self._start, None), *draft.more):
            self._add_one(more, floating)
        if floating:
            self._add_starts(Starts(ListedDates(floating, instants=False)), min(floating))
        for rule in draft.rules:
            self._count(rule)
            self._add_starts(self._starts_of(rule), self._start.moment.local)

    def _starts_of(self, rule: RRule) -> Starts:
        return starts_of(rule, self._start, self._clock, self._file_zone, self._check)

    def _count(self, rule: RRule) -> None:
        self.counted += rule.count or 0
        if self.counted > CALENDAR_COUNT_MAXIMUM:
            message = f"all COUNTs together are more than {CALENDAR_COUNT_MAXIMUM}"
            raise Rejected(f"line {self._draft.line}: {message}", field=self._draft.reader.field, code=LIMIT)

    def _add_starts(self, starts: Starts, first: int) -> None:
        for segment in self._segments:
            low = max(first, segment.first)
            if low < segment.end and segment.seconds:
                event = RecurringEvent(
                    segment.text, self._start.zone, segment.seconds, starts, self._exceptions, low, segment.end,
                    segment.shift,
                )  # fmt: skip
                self.recurring.append(event)

    def _add_one(self, more: More, floating: list[int]) -> None:
        """One occurrence that is listed; into `floating` when its exceptions depend on the clock of who asks."""
        readings, instant = readings_of(more.start, self._start, self._file_zone)
        zone, exact = self._start.zone, None
        if more.start.zone is not zone and not readings:
            exact = instant
        if zone is not None and more.start.instant is not None and more.start.zone is not zone:
            exact = more.start.instant
            readings = [exact + zone.offset_at(exact)]
        for reading in readings[:1]:
            if self._is_excepted(reading):
                return
            if zone is None and self._exceptions.instants and more.seconds is None:
                floating.append(reading)
                return
        segment = self._segment_of(readings[0]) if readings else self._segments[0]
        if segment is None:
            return
        seconds = segment.seconds if more.seconds is None else more.seconds
        if exact is not None and not segment.shift:
            self.absolute.append(Span(exact, exact + seconds, segment.text))
        elif zone is None:
            low = readings[0] + segment.shift
            self.local.append(Span(low, low + seconds, segment.text))
        else:
            low = readings[0] + segment.shift
            self.absolute.append(Span(zone.earliest(low), zone.earliest(low + seconds), segment.text))

    def _is_excepted(self, reading: int) -> bool:
        return reading in self._exceptions.readings or self._exceptions.by_rule(reading, self._clock)

    def _segment_of(self, reading: int) -> _Segment | None:
        return next((found for found in self._segments if found.first <= reading < found.end), None)

    def _excepted(self, replaced: Iterable[Draft]) -> Exceptions:
        dates = [*self._draft.excluded, *(draft.recurrence for draft in replaced if draft.recurrence is not None)]
        readings: set[int] = set()
        instants: set[int] = set()
        for dated in dates:
            found, instant = readings_of(dated, self._start, self._file_zone)
            readings.update(found)
            if instant is not None:
                instants.add(instant)
        rules = []
        for rule in self._draft.exception_rules:
            self._count(rule)
            rules.append(self._starts_of(rule))
        whole_days = self._start.moment.all_day
        return Exceptions(frozenset(readings), tuple(sorted(instants)), tuple(rules), whole_days)

    def _cut(self, changes: Iterable[Draft]) -> list[_Segment]:
        """The series cut where it is moved from there on (RANGE=THISANDFUTURE)."""
        cuts = sorted(((self._reading(draft), draft) for draft in changes), key=lambda cut: cut[0])
        ends = [at for at, _ in cuts] + [END_SECOND]
        segments = [_Segment(_LONG_AGO, ends[0], 0, self._draft.seconds, self._draft.summary)]
        for (at, draft), end in zip(cuts, ends[1:], strict=True):
            if not draft.cancelled and draft.start is not None:
                segments.append(
                    _Segment(at, end, self._moved_to(draft, draft.start) - at, draft.seconds, draft.summary)
                )
        return segments

    def _reading(self, draft: Draft) -> int:
        found, _ = readings_of(draft.recurrence or self._start, self._start, self._file_zone)
        if not found:
            draft.reader.refuse("from where on the series changes must be written as its DTSTART is")
        return found[0]

    def _moved_to(self, draft: Draft, start: Dated) -> int:
        """The new start on the clock of the series."""
        if draft.rules:
            draft.reader.refuse("a series that is changed from here on has no rule of its own")
        if start.moment.all_day != self._start.moment.all_day:
            draft.reader.refuse("the series must stay one of whole days, or of times")
        if start.zone is self._start.zone:
            return start.moment.local
        instant = start.instant
        if instant is None or self._start.zone is None:
            draft.reader.refuse("the series must keep its clock")
        return instant + self._start.zone.offset_at(instant)


def _defined_zones(calendar: Component) -> dict[str, Component]:
    defined: dict[str, Component] = {}
    for component in calendar.components:
        if component.name == "VTIMEZONE":
            names = [line.value.strip() for line in component.lines if line.name == "TZID"]
            if names:
                defined.setdefault(names[0].strip('"'), component)
    return defined


def _place(error: Rejected) -> tuple[int, str]:
    match = _PLACE.fullmatch(error.message)
    return (0, error.message) if match is None else (int(match[1]), match[2])
