"""A schedule's timing: its rule, and what zone, policies, bounds, jitter and calendars make of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.calendars import Calendar
from rota_server.domain.recurrence.clocks import Clock
from rota_server.domain.recurrence.instants import FIRST_SECOND, MICROS, instant_of
from rota_server.domain.recurrence.limits import (
    CALENDARS_MAXIMUM,
    COUNT_MAXIMUM,
    JITTER_SECONDS_MAXIMUM,
    RRULE_COUNT_MAXIMUM,
)
from rota_server.domain.recurrence.rrule_text import Recurrence
from rota_server.domain.recurrence.rules import KINDS, CronLines, EveryRule, Rule, parse_rule
from rota_server.domain.recurrence.times import Nominal, nominal_times
from rota_server.domain.recurrence.wall_clock import FoldPolicy, GapPolicy
from rota_server.domain.recurrence.zones import parse_zone_name

DEFAULT_ZONE = "UTC"
_BEGINNING = instant_of(FIRST_SECOND * MICROS - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a schedule ticks.

    `timezone` is an IANA name. `start` and `end` are inclusive. `count` nominal times, skipped ones included, are
    counted from `start`. `jitter` in seconds. `seed` makes the jitter of one schedule differ from another's: its id.
    """

    rule: Rule
    timezone: str = DEFAULT_ZONE
    gap: GapPolicy = "shift"
    fold: FoldPolicy = "first"
    start: datetime | None = None
    end: datetime | None = None
    count: int | None = None
    jitter: float = 0.0
    calendars: tuple[Calendar, ...] = ()
    seed: str = ""


def parse_timing(
    spec: Mapping[str, Any], calendars: Iterable[Calendar] = (), *, seed: object = "", created: datetime | None = None
) -> Timing:
    """The timing in the JSON of a schedule; other fields are ignored, a null counts as absent.

    `calendars`: those that the schedule names, in order. `seed`: the schedule's id. `created`: from when to count when
    `count` is given without `start`. Raises Rejected naming the field, also when there is no nominal time at all.
    """
    gap = cast("GapPolicy", _choice(spec, "gap", ("shift", "skip")))
    fold = cast("FoldPolicy", _choice(spec, "fold", ("first", "last", "both")))
    given = spec.get("timezone")
    clock = Clock(DEFAULT_ZONE if given is None else parse_zone_name(given), gap, fold)
    rule = parse_rule(spec, clock)
    clock = clock._replace(timezone=_parse_timezone(given, rule))
    start = None if spec.get("start") is None else clock.instant(spec["start"], "start")
    end = None if spec.get("end") is None else clock.instant(spec["end"], "end", bound="last")
    if start is not None and end is not None and end < start:
        raise Rejected("the end lies before the start", field="end", code="end")
    count = _parse_count(spec.get("count"), rule)
    if start is None and _needs_start(rule, count):
        if created is None:
            raise Rejected("a count needs a start to count from", field="start", code="start")
        rule, start = _counted_from(rule, created)
    timing = Timing(
        rule=rule,
        timezone=clock.timezone,
        gap=gap,
        fold=fold,
        start=start,
        end=end,
        count=count,
        jitter=_parse_jitter(spec.get("jitter")),
        calendars=_limited(calendars),
        seed=str(seed),
    )
    _check_that_it_comes(timing, spec)
    return timing


def next_time(timing: Timing, after: datetime) -> Nominal | None:
    """The first nominal time strictly after `after`, None when there is none."""
    return next(nominal_times(timing, after), None)


def _counted_from(rule: Rule, created: datetime) -> tuple[Rule, datetime]:
    """The rule and its start when the creation stands for the start: the first time is the first one behind it.

    The instant of the creation itself never ticks, so it is not counted, and an interval does not begin at it.
    """
    if isinstance(rule, Recurrence):
        return rule, created.replace(microsecond=0) + timedelta(seconds=1)
    if isinstance(rule, EveryRule) and rule.phase is None:
        rule = replace(rule, phase=0)
    return rule, created + timedelta(microseconds=1)


def _needs_start(rule: Rule, count: int | None) -> bool:
    if isinstance(rule, Recurrence):
        return rule.start is None and (count is not None or rule.counts)
    return count is not None


def _parse_timezone(value: Any, rule: Rule) -> str:
    written = rule.start.zone if isinstance(rule, Recurrence) and rule.start is not None else None
    if value is None:
        return written or DEFAULT_ZONE
    name = parse_zone_name(value)
    if written is not None and written != name:
        raise Rejected(f"DTSTART is in {written}, the schedule in {name}", field="timezone", code="timezone")
    return name


def _choice(spec: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = spec.get(name)
    if value is None:
        return choices[0]
    if not isinstance(value, str) or value not in choices:
        raise Rejected(f"one of {', '.join(choices)} is needed", field=name, code="choice")
    return value


def _parse_count(value: Any, rule: Rule) -> int | None:
    if value is None:
        return None
    highest = RRULE_COUNT_MAXIMUM if isinstance(rule, Recurrence | CronLines) else COUNT_MAXIMUM
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
        raise Rejected(f"a count is a whole number from 1 to {highest}", field="count", code="count")
    return value


def _parse_jitter(value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Rejected("a jitter is a number of seconds", field="jitter", code="jitter")
    if not 0 <= value <= JITTER_SECONDS_MAXIMUM:
        raise Rejected(f"a jitter is 0 to {JITTER_SECONDS_MAXIMUM} seconds", field="jitter", code="jitter")
    return float(value)


def _limited(calendars: Iterable[Calendar]) -> tuple[Calendar, ...]:
    result = tuple(calendars)
    if len(result) > CALENDARS_MAXIMUM:
        raise Rejected(f"more than {CALENDARS_MAXIMUM} calendars", field="calendars", code="calendars")
    return result


def _check_that_it_comes(timing: Timing, spec: Mapping[str, Any]) -> None:
    if next_time(timing, _BEGINNING) is not None:
        return
    kind = next(kind for kind in KINDS if spec.get(kind) is not None)
    endless = replace(timing, end=None, count=None)
    if timing.end is not None and next_time(endless, _BEGINNING) is not None:
        raise Rejected("no time of the rule lies before the end", field="end", code="never")
    if (
        timing.start is not None
        and not isinstance(timing.rule, Recurrence)
        and next_time(replace(endless, start=None), _BEGINNING) is not None
    ):
        raise Rejected("no time of the rule lies after the start", field="start", code="never")
    raise Rejected("this never comes", field=kind, code="never")
