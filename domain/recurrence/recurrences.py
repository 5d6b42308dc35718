"""Recurrence sets bound to their DTSTART, zone and policies: where each of their rules begins and ends."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from rota_server.domain.recurrence import rrule, zones
from rota_server.domain.recurrence.dates import ListedDates
from rota_server.domain.recurrence.instants import DAY, END_SECOND, MICROS, micros_of
from rota_server.domain.recurrence.rrule_text import Moment, Recurrence, RRule
from rota_server.domain.recurrence.rule_sets import RuleSet
from rota_server.domain.recurrence.wall_clock import FoldPolicy, GapPolicy, Part
from rota_server.domain.recurrence.zones import Zone


class Anchor(NamedTuple):
    """DTSTART of a rule: its instant in seconds, and the reading of the zone's clock that it stands for."""

    second: int
    local: int


@lru_cache(maxsize=4096)
def bind(
    recurrence: Recurrence, zone: Zone, start: datetime | None, gap: GapPolicy, fold: FoldPolicy
) -> Part | RuleSet:
    """The times of the set. `start`: the schedule's, which stands for DTSTART where there is none."""
    anchor = _Anchors(recurrence.start, zone, start)
    included = [_part(rule, anchor(elapsed=rule.elapsed), zone, gap, fold) for rule in recurrence.rules]
    begins = anchor(elapsed=False)
    included += [
        Part(dates, begins.second, dates.last) for dates in _listed(recurrence.dates, zone, begins.local % DAY)
    ]
    excluded = [_part(rule, anchor(elapsed=rule.elapsed), zone, gap, fold) for rule in recurrence.exception_rules]
    if len(included) == 1 and not excluded and not recurrence.excluded:
        return included[0]
    return RuleSet(
        included=tuple(included),
        excluded=tuple(excluded),
        readings=frozenset(moment.local for moment in recurrence.excluded if _is_reading(moment, zone)),
        days=frozenset(moment.local // DAY for moment in recurrence.excluded if moment.all_day),
        instants=frozenset(second for moment in recurrence.excluded if (second := _instant(moment, zone)) is not None),
    )


class _Anchors:
    def __init__(self, written: Moment | None, zone: Zone, start: datetime | None) -> None:
        self._written = written
        self._zone = zone
        self._start = start

    def __call__(self, *, elapsed: bool) -> Anchor:
        """Where a rule begins: its own DTSTART, else the schedule's start, else the default.

        A start between two seconds counts as the later one, since nothing may come before the start.
        """
        zone, written = self._zone, self._written
        if written is None and self._start is not None:
            second = -(-micros_of(self._start) // MICROS)
            return Anchor(second, second + zone.offset_at(second))
        if written is not None and written.utc:
            return Anchor(written.local, written.local + zone.offset_at(written.local))
        local = rrule.DEFAULT_START_LOCAL if written is None else rrule.local_of(written, zone)
        second = zone.earliest(local)
        if elapsed and second + zone.offset_at(second) != local:
            # In a gap RFC 5545 takes the offset before it: time that passes is counted from there.
            second = local - zone.offset_at(second - 1)
            local = second + zone.offset_at(second)
        return Anchor(second, local)


def _part(rule: RRule, anchor: Anchor, zone: Zone, gap: GapPolicy, fold: FoldPolicy) -> Part:
    bound = rrule.bind(rule, zone, anchor.local, anchor.second)
    part = Part(bound, anchor.second, _until(rule.until, zone), anchor.second)
    if rule.count is None:
        return part
    last = part.nth(zone, gap, fold, anchor.second, rule.count)
    return part if last is None else Part(bound, anchor.second, min(part.last, last), anchor.second)


def _until(until: Moment | None, zone: Zone) -> int:
    if until is None:
        return END_SECOND - 1
    if until.utc:
        return until.local
    return zone.latest(until.local + (DAY - 1 if until.all_day else 0))


def _listed(moments: Iterable[Moment], zone: Zone, time: int) -> list[ListedDates]:
    """The dates of a set; one without a time is at the time of its DTSTART."""
    readings: list[int] = []
    instants: list[int] = []
    for moment in moments:
        second = _instant(moment, zone)
        if second is not None:
            instants.append(second)
        else:
            readings.append(moment.local + (time if moment.all_day else 0))
    found = ((readings, False), (instants, True))
    return [ListedDates(values, instants=exact) for values, exact in found if values]


def _instant(moment: Moment, zone: Zone) -> int | None:
    """The instant of a moment that is written in UTC or in another zone; None for a reading of the zone's own clock."""
    if moment.all_day or _is_reading(moment, zone):
        return None
    return moment.local if moment.utc else zones.zone(moment.zone or zone.name).earliest(moment.local)


def _is_reading(moment: Moment, zone: Zone) -> bool:
    return not moment.all_day and not moment.utc and moment.zone in {None, zone.name}
