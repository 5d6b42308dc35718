"""How many nominal times lie in a stretch of time, and which are its last, without walking through it.

A schedule of one second that was paused for a year has passed over thirty million of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from typing import NamedTuple

from rota_server.domain.recurrence import zones
from rota_server.domain.recurrence.instants import MICROS, instant_of, micros_of
from rota_server.domain.recurrence.rules import AtRule, EveryRule
from rota_server.domain.recurrence.times import Nominal, bounds, nominal_times, phase, source
from rota_server.domain.recurrence.timing import Timing

_SHORTEST = timedelta(seconds=64)


class Tail(NamedTuple):
    """The last nominal times of a stretch; the `earlier` ones before them all lie at or before `until`."""

    earlier: int
    until: datetime
    last: list[Nominal]


def count_times(timing: Timing, after: datetime, until: datetime) -> int:
    """How many nominal times, skipped ones included, lie strictly after `after` and at most at `until`."""
    zone = zones.zone(timing.timezone)
    low, high = bounds(timing, zone)
    low, high = max(low, micros_of(after) + 1), min(high, micros_of(until))
    if low > high:
        return 0
    rule = timing.rule
    if isinstance(rule, EveryRule):
        first = low + (phase(rule, timing.start) - low) % rule.interval
        return 0 if first > high else (high - first) // rule.interval + 1
    if isinstance(rule, AtRule):
        return bisect_right(rule.instants, high) - bisect_left(rule.instants, low)
    return source(timing, zone).count(zone, timing.gap, timing.fold, -(-low // MICROS), high // MICROS)


def tail(timing: Timing, after: datetime, until: datetime, wanted: int) -> Tail:
    """The last `wanted` nominal times in (`after`, `until`], and how many come before them."""
    total = count_times(timing, after, until)
    if total <= wanted:
        return Tail(0, after, list(nominal_times(timing, after, until=until)))
    if wanted == 0:
        return Tail(total, until, [])
    span, begin = _SHORTEST, after
    while until - span > after:
        if count_times(timing, until - span, until) >= wanted:
            begin = until - span
            break
        span *= 2
    begin = _close_to(timing, begin, until, wanted)
    last = list(nominal_times(timing, begin, until=until))[-wanted:]
    return Tail(total - len(last), last[0].at - timedelta(microseconds=1), last)


def before_last(timing: Timing, after: datetime, until: datetime, count: int) -> datetime:
    """The latest instant up to which all nominal times in (`after`, `until`] lie but the last `count`."""
    low, high = micros_of(after), micros_of(until)
    while low < high:
        middle = (low + high + 1) // 2
        if count_times(timing, instant_of(middle), until) >= count:
            low = middle
        else:
            high = middle - 1
    return instant_of(low)


def _close_to(timing: Timing, begin: datetime, until: datetime, wanted: int) -> datetime:
    """An instant behind which at least `wanted`, and not many more, nominal times lie."""
    low, high = begin, until
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if count_times(timing, middle, until) >= wanted:
            low = middle
        else:
            high = middle
    return low
