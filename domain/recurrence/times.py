"""The nominal times of a schedule: the one place where rule, zone, policies, bounds, calendars and jitter meet."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import count as counting
from typing import TYPE_CHECKING, NamedTuple

from domain.recurrence import rrule, zones
from domain.recurrence.cron import CronRule
from domain.recurrence.instants import DAY, END_SECOND, FIRST_SECOND, MICROS, instant_of, micros_of
from domain.recurrence.rrule_text import Moment as WrittenMoment
from domain.recurrence.rrule_text import RRule
from domain.recurrence.rules import AtRule, EveryRule, Rule
from domain.recurrence.wall_clock import FoldPolicy, GapPolicy, LocalRule, nth_time, wall_clock_times
from domain.recurrence.zones import Zone

if TYPE_CHECKING:
    from domain.recurrence.timing import Timing

TICK = "tick"
SKIP = "skip"
CALENDAR = "calendar"
_FIRST = FIRST_SECOND * MICROS
_END = END_SECOND * MICROS


class Nominal(NamedTuple):
    """One nominal time of a schedule.

    `at`: in UTC, identifies the tick for ever. `local`: the wall clock in the schedule's zone, RFC 3339 with offset.
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
    if isinstance(rule, RRule):
        begins = anchor(rule, zone, timing.start).second * MICROS
        low = max(low, begins)
        # COUNT counts what the rule gives, before dates are left out.
        whole = replace(rule, excluded=()) if rule.excluded else rule
        high = min(high, _until(rule.until, zone), _last_counted(whole, timing, zone, begins, rule.count))
    return low, min(high, _last_counted(rule, timing, zone, low, timing.count))


def _unbounded(timing: Timing, zone: Zone, first: int) -> Iterator[_Raw]:
    rule = timing.rule
    if isinstance(rule, EveryRule):
        return _every(rule, timing.start, first)
    if isinstance(rule, AtRule):
        return (_Raw(micros) for micros in rule.instants[bisect_left(rule.instants, first) :])
    local, origin = local_rule(rule, zone, timing.start)
    moments = wall_clock_times(local, zone, timing.gap, timing.fold, -(-first // MICROS), origin)
    return (_Raw(second * MICROS, skipped, note) for second, skipped, note in moments)


def _every(rule: EveryRule, start: datetime | None, first: int) -> Iterator[_Raw]:
    since = phase(rule, start)
    return (_Raw(micros) for micros in counting(first + (since - first) % rule.interval, rule.interval))


def phase(rule: EveryRule, start: datetime | None) -> int:
    """An instant of the rule, in microseconds."""
    if rule.phase is not None:
        return rule.phase
    return 0 if start is None else micros_of(start)


class Anchor(NamedTuple):
    """DTSTART of a recurrence rule: its instant in seconds, and the reading of the zone's clock that it stands for."""

    second: int
    local: int


def local_rule(rule: CronRule | RRule, zone: Zone, start: datetime | None) -> tuple[LocalRule, int | None]:
    """The rule as wall-clock times in the zone, and the instant from which it counts, None when it counts nothing."""
    if not isinstance(rule, RRule):
        return rule, None
    begins = anchor(rule, zone, start)
    return rrule.bind(rule, zone, begins.local, begins.second), begins.second


def anchor(rule: RRule, zone: Zone, start: datetime | None) -> Anchor:
    """Where the rule begins: its own DTSTART, else the schedule's start, else the default.

    A start between two seconds counts as the later one, since nothing may come before the start.
    """
    if rule.start is None and start is not None:
        second = -(-micros_of(start) // MICROS)
        return Anchor(second, second + zone.offset_at(second))
    if rule.start is not None and rule.start.utc:
        second = rule.start.local
        return Anchor(second, second + zone.offset_at(second))
    local = rrule.DEFAULT_START_LOCAL if rule.start is None else rrule.local_of(rule.start, zone)
    second = zone.earliest(local)
    if rule.elapsed and second + zone.offset_at(second) != local:
        # In a gap RFC 5545 takes the offset before it: time that passes is counted from there.
        second = local - zone.offset_at(second - 1)
        local = second + zone.offset_at(second)
    return Anchor(second, local)


def _until(until: WrittenMoment | None, zone: Zone) -> int:
    if until is None:
        return _END
    if until.utc:
        return until.local * MICROS
    return zone.latest(until.local + (DAY - 1 if until.all_day else 0)) * MICROS


def _last_counted(rule: Rule, timing: Timing, zone: Zone, low: int, count: int | None) -> int:
    """The nominal time, in microseconds, that is the `count`-th from `low` on; the end of all times without it."""
    if count is None:
        return _END
    if isinstance(rule, EveryRule):
        return low + (phase(rule, timing.start) - low) % rule.interval + (count - 1) * rule.interval
    if isinstance(rule, AtRule):
        place = bisect_left(rule.instants, low) + count - 1
        return rule.instants[place] if place < len(rule.instants) else _END
    local, origin = local_rule(rule, zone, timing.start)
    second = _nth_second(local, zone, timing.gap, timing.fold, -(-low // MICROS), count, origin)
    return _END if second is None else second * MICROS


@lru_cache(maxsize=16_384)
def _nth_second(
    rule: LocalRule, zone: Zone, gap: GapPolicy, fold: FoldPolicy, first: int, count: int, origin: int | None
) -> int | None:
    return nth_time(rule, zone, gap, fold, first, count, origin)
