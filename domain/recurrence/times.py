"""The nominal times of a schedule: the one place where rule, zone, policies, bounds, calendars and jitter meet."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import count as counting
from typing import TYPE_CHECKING, NamedTuple

from rota_server.domain.recurrence import recurrences, zones
from rota_server.domain.recurrence.cron import CronRule
from rota_server.domain.recurrence.instants import END_SECOND, FIRST_SECOND, MICROS, instant_of, micros_of
from rota_server.domain.recurrence.rrule_text import Recurrence
from rota_server.domain.recurrence.rule_sets import RuleSet
from rota_server.domain.recurrence.rules import AtRule, CronLines, EveryRule
from rota_server.domain.recurrence.wall_clock import FoldPolicy, GapPolicy, Part
from rota_server.domain.recurrence.zones import Zone

if TYPE_CHECKING:
    from rota_server.domain.recurrence.timing import Timing

TICK = "tick"
SKIP = "skip"
CALENDAR = "calendar"
_FIRST = FIRST_SECOND * MICROS
_END = END_SECOND * MICROS


class Nominal(NamedTuple):
    """One nominal time of a schedule.

    `at`: in UTC, identifies the tick forever. `local`: the wall clock in the schedule's zone, RFC 3339 with offset.
    `outcome`: `tick` or `skip`, then with the `reason` `dst_gap` or `calendar`. `note`: what the policies changed, None
    where nothing. `run_at`: `at` plus jitter, always before the next nominal time.
    """

    at: datetime
    local: str
    outcome: str
    reason: str | None
    note: str | None
    run_at: datetime


class _Raw(NamedTuple):
    micros: int
    skipped: str | None = None
    note: str | None = None


def nominal_times(timing: Timing, after: datetime, *, until: datetime | None = None) -> Iterator[Nominal]:
    """All nominal times strictly after `after` and at most at `until`, in strictly increasing order.

    Ends with the rule, `end`, `count`, or the last year. Both instants must be aware.
    """
    zone = zones.zone(timing.timezone)
    stop = _END if until is None else micros_of(until)
    raws = _within(timing, zone, micros_of(after) + 1)
    current = next(raws, None)
    while current is not None and current.micros <= stop:
        following = next(raws, None) if timing.jitter else None
        yield _finish(timing, zone, current, following)
        current = following if timing.jitter else next(raws, None)


def _finish(timing: Timing, zone: Zone, raw: _Raw, following: _Raw | None) -> Nominal:
    at = instant_of(raw.micros)
    local = at.astimezone(zone.info).isoformat()
    reason, note = raw.skipped, raw.note
    if reason is None:
        for calendar in timing.calendars:
            found = calendar.reason(raw.micros, zone)
            if found is not None:
                reason = CALENDAR
                note = found if note is None else f"{note}; {found}"
                break
    if reason is not None:
        return Nominal(at, local, SKIP, reason, note, at)
    if not timing.jitter:
        return Nominal(at, local, TICK, None, note, at)
    delay = _jitter(timing, raw.micros, following)
    note = "jittered" if note is None else f"{note}; jittered"
    return Nominal(at, local, TICK, None, note, instant_of(raw.micros + delay))


def _jitter(timing: Timing, micros: int, following: _Raw | None) -> int:
    """A delay in microseconds that depends on the seed and the nominal time alone, and ends before the next one."""
    room = round(timing.jitter * MICROS) + 1
    if following is not None:
        room = min(room, following.micros - micros)
    digest = blake2b(f"{timing.seed}|{micros}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) * room >> 64


def _within(timing: Timing, zone: Zone, first: int) -> Iterator[_Raw]:
    """What the rule gives from `first` (microseconds) on, within start, end and count."""
    low, high = bounds(timing, zone)
    for raw in _unbounded(timing, zone, max(first, low)):
        if raw.micros > high:
            return
        yield raw


def bounds(timing: Timing, zone: Zone) -> tuple[int, int]:
    """The first and the last microsecond at which start, end and count allow a nominal time."""
    rule = timing.rule
    low, high = _FIRST, _END - 1
    if timing.start is not None:
        low = max(low, micros_of(timing.start))
    if timing.end is not None:
        high = min(high, micros_of(timing.end))
    if isinstance(rule, Recurrence):
        times = source(timing, zone)
        low, high = max(low, times.first * MICROS), min(high, times.last * MICROS)
    return low, min(high, _last_counted(timing, zone, low))


def _unbounded(timing: Timing, zone: Zone, first: int) -> Iterator[_Raw]:
    rule = timing.rule
    if isinstance(rule, EveryRule):
        return _every(rule, timing.start, first)
    if isinstance(rule, AtRule):
        return (_at(rule, micros) for micros in rule.instants[bisect_left(rule.instants, first) :])
    moments = source(timing, zone).times(zone, timing.gap, timing.fold, -(-first // MICROS))
    return (_Raw(second * MICROS, skipped, note) for second, skipped, note in moments)


def _at(rule: AtRule, micros: int) -> _Raw:
    mark = rule.marks.get(micros)
    return _Raw(micros) if mark is None else _Raw(micros, mark.skipped, mark.note)


def _every(rule: EveryRule, start: datetime | None, first: int) -> Iterator[_Raw]:
    since = phase(rule, start)
    return (_Raw(micros) for micros in counting(first + (since - first) % rule.interval, rule.interval))


def phase(rule: EveryRule, start: datetime | None) -> int:
    """An instant of the rule, in microseconds."""
    if rule.phase is not None:
        return rule.phase
    return 0 if start is None else micros_of(start)


def source(timing: Timing, zone: Zone) -> Part | RuleSet:
    """The times of a rule that looks at the wall clock, before start, end and count of the schedule."""
    rule = timing.rule
    if isinstance(rule, CronRule):
        return Part(rule)
    if isinstance(rule, CronLines):
        return _lines_together(rule)
    if isinstance(rule, Recurrence):
        return recurrences.bind(rule, zone, timing.start, timing.gap, timing.fold)
    raise TypeError(rule)


@lru_cache(maxsize=4096)
def _lines_together(rule: CronLines) -> RuleSet:
    return RuleSet(included=tuple(Part(line) for line in rule.lines))


def _last_counted(timing: Timing, zone: Zone, low: int) -> int:
    """The nominal time, in microseconds, that is the last one of `count` from `low` on; the end of all without it."""
    rule, count = timing.rule, timing.count
    if count is None:
        return _END
    if isinstance(rule, EveryRule):
        return low + (phase(rule, timing.start) - low) % rule.interval + (count - 1) * rule.interval
    if isinstance(rule, AtRule):
        place = bisect_left(rule.instants, low) + count - 1
        return rule.instants[place] if place < len(rule.instants) else _END
    second = _nth_second(source(timing, zone), zone, timing.gap, timing.fold, -(-low // MICROS), count)
    return _END if second is None else second * MICROS


@lru_cache(maxsize=16_384)
def _nth_second(
    times: Part | RuleSet, zone: Zone, gap: GapPolicy, fold: FoldPolicy, first: int, count: int
) -> int | None:
    return times.nth(zone, gap, fold, first, count)
