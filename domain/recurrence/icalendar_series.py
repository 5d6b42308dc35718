"""Events that recur, as one asks about them: whether one of their occurrences is going on at an instant.

What is written in UTC about an event without a zone depends on the clock of whoever asks, so it is worked out then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from rota_server.domain.recurrence.dates import ListedDates
from rota_server.domain.recurrence.icalendar_events import Dated
from rota_server.domain.recurrence.icalendar_lines import Check, unchecked
from rota_server.domain.recurrence.instants import DAY, END_SECOND
from rota_server.domain.recurrence.rrule import BoundRRule
from rota_server.domain.recurrence.rrule_text import Moment, RRule
from rota_server.domain.recurrence.zones import Zone

_LOOK_AHEAD = 400 * DAY
"""How far a recurring event is searched for beyond what was asked."""


class _Known(NamedTuple):
    """From `asked` on, the first start is `end` (`found`), or there is none before `end`."""

    asked: int
    end: int
    found: bool


@dataclass(frozen=True, slots=True)
class Starts:
    """Starts of an event on its own clock, up to the reading `last`, and not after the instant `until`."""

    rule: BoundRRule | ListedDates
    last: int = END_SECOND
    until: int | None = None

    def last_on(self, clock: Zone) -> int:
        """The last reading of that clock at which one may be."""
        return self.last if self.until is None else min(self.last, self.until + clock.offset_at(self.until))


@dataclass(frozen=True, slots=True)
class Exceptions:
    """Starts that are none: readings, instants on the clock of who asks (`whole_days`: their day), and rules."""

    readings: frozenset[int] = frozenset()
    instants: tuple[int, ...] = ()
    rules: tuple[Starts, ...] = ()
    whole_days: bool = False

    def readings_on(self, clock: Zone) -> frozenset[int]:
        """The readings of that clock at which nothing starts, rules left aside."""
        if not self.instants:
            return self.readings
        found = (instant + clock.offset_at(instant) for instant in self.instants)
        return self.readings | {reading // DAY * DAY if self.whole_days else reading for reading in found}

    def by_rule(self, start: int, clock: Zone) -> bool:
        """Whether a rule takes the start away."""
        return any(
            start <= starts.last_on(clock) and starts.rule.next_local(start, 0, start + 1) == start
            for starts in self.rules
        )


@dataclass(frozen=True, slots=True)
class RecurringEvent:
    """An event with several starts. `zone` None: it is meant on the clock of whoever asks.

    It takes `seconds` on the wall clock from each of the starts in [`first`, `end`), `shift` later than these say.
    """

    text: str
    zone: Zone | None
    seconds: int
    starts: Starts
    exceptions: Exceptions
    first: int
    end: int = END_SECOND
    shift: int = 0
    _known: list[_Known] = field(default_factory=list, compare=False, repr=False)
    _on_clock: dict[str, tuple[int, frozenset[int]]] = field(default_factory=dict, compare=False, repr=False)

    def covers(self, second: int, local: int, asking: Zone) -> bool:
        """Whether the event is going on at an instant; `local` is that instant on the clock of who asks."""
        clock = self.zone or asking
        if self.zone is not None:
            local = second + clock.offset_at(second)
        local -= self.shift
        last_of_all, excluded = self._limits(clock)
        last = min(local, last_of_all, self.end - 1)
        start = self._first(local - self.seconds + 1, last)
        while start is not None and start <= last:
            if start not in excluded and not self.exceptions.by_rule(start, clock):
                return True
            start = self._first(start + 1, last)
        return False

    def _limits(self, clock: Zone) -> tuple[int, frozenset[int]]:
        known = self._on_clock.get(clock.name)
        if known is None:
            known = self._on_clock[clock.name] = (self.starts.last_on(clock), self.exceptions.readings_on(clock))
        return known

    def _first(self, earliest: int, last: int) -> int | None:
        """The first start at or after `earliest`, or None when there is none up to `last`.

        What it was is remembered: ticks come in order, and most find the same next occurrence before them.
        """
        earliest = max(earliest, self.first)
        for known in self._known:
            if known.asked <= earliest and (earliest <= known.end if known.found else last < known.end):
                return known.end if known.found else None
        limit = max(last, earliest) + _LOOK_AHEAD
        start = self.starts.rule.next_local(earliest, 0, limit)
        found = start is not None and start < limit
        self._known[:] = [_Known(earliest, start if start is not None and found else limit, found)]
        return start if found else None


def starts_of(rule: RRule, start: Dated, clock: Zone, file_zone: Zone | None, check: Check = unchecked) -> Starts:
    """The starts of a rule; `clock`: the event's zone, or UTC for one without."""
    bound = BoundRRule(rule, clock, start.moment.local, 0)
    last, until = _until(rule.until, start, file_zone)
    if rule.count is not None:
        local: int | None = start.moment.local - 1
        for _ in range(rule.count):
            check()
            local = None if local is None else bound.next_local(local + 1, 0, END_SECOND)
        last = last if local is None else min(last, local)
    return Starts(bound, last, until)


def _until(written: Moment | None, start: Dated, file_zone: Zone | None) -> tuple[int, int | None]:
    """The last reading of the event's clock, and the instant where it depends on the clock of who asks."""
    if written is None:
        return END_SECOND, None
    if written.all_day:
        return written.local + DAY - 1, None
    if not written.utc or (start.moment.all_day and _is_date(written)):
        return written.local, None
    zone = start.zone or file_zone
    return (END_SECOND, written.local) if zone is None else (written.local + zone.offset_at(written.local), None)


def _is_date(moment: Moment) -> bool:
    """Whether a time in UTC is how one writes a date."""
    return moment.local % DAY in {0, DAY - 1}


def readings_of(dated: Dated, start: Dated, file_zone: Zone | None) -> tuple[list[int], int | None]:
    """The starts that a moment may mean on the clock of the event with that `start`.

    No reading but the instant when it depends on the clock of who asks. A date stands for the start on that day. About
    an event of whole days a time means its date: there where it is written, or in UTC when it is midnight (or a second
    before) there, which is how dates are often written.
    """
    moment = dated.moment
    if moment.all_day:
        return [moment.local + start.moment.local % DAY], None
    if start.moment.all_day:
        return _days_of(moment, file_zone)
    if not moment.utc and (dated.zone is None or start.zone is None or dated.zone is start.zone):
        return [moment.local], None
    zone, instant = start.zone or file_zone, dated.instant
    if instant is None:
        return [moment.local], None
    return ([], instant) if zone is None else (list(_readings_at(instant, zone)), None)


def _days_of(moment: Moment, file_zone: Zone | None) -> tuple[list[int], int | None]:
    if not moment.utc or _is_date(moment):
        return [moment.local // DAY * DAY], None
    if file_zone is None:
        return [], moment.local
    return [(moment.local + file_zone.offset_at(moment.local)) // DAY * DAY], None


def _readings_at(instant: int, zone: Zone) -> Iterator[int]:
    """What the wall clock may read for a start at that instant: in a gap also what the offset before it gives."""
    reading = instant + zone.offset_at(instant)
    if zone.earliest(reading) == instant:
        yield reading
    piece = next(zone.pieces_from(instant))
    if piece.before < piece.offset and instant < piece.start + piece.offset - piece.before:
        yield instant + piece.before
