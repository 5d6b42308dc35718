"""The four kinds of rules, from their JSON form. A schedule has exactly one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.clocks import Clock, Meant
from rota_server.domain.recurrence.cron import CronRule, parse_cron
from rota_server.domain.recurrence.instants import MICROS, micros_of
from rota_server.domain.recurrence.limits import (
    AT_INSTANTS_MAXIMUM,
    EVERY_SECONDS_MAXIMUM,
    EVERY_SECONDS_MINIMUM,
    RULES_MAXIMUM,
)
from rota_server.domain.recurrence.rrule_text import Recurrence, parse_rrule

KINDS = ("cron", "every", "rrule", "at")
UTC_CLOCK = Clock("UTC", "shift", "first")


@dataclass(frozen=True, slots=True)
class EveryRule:
    """A fixed interval of elapsed time, in microseconds; without a phase the schedule's start is one, else 1970."""

    interval: int
    phase: int | None = None


@dataclass(frozen=True, slots=True)
class CronLines:
    """Several cron expressions as one rule: each time that any of them names."""

    lines: tuple[CronRule, ...]


@dataclass(frozen=True, slots=True)
class AtRule:
    """A list of instants, in microseconds since 1970, in order and without repetition.

    `marks`: what the policies did to those that were written as readings of the wall clock.
    """

    instants: tuple[int, ...]
    marks: Mapping[int, Meant] = field(default_factory=dict, hash=False)


Rule: TypeAlias = CronRule | CronLines | EveryRule | Recurrence | AtRule


def parse_rule(spec: Mapping[str, Any], clock: Clock = UTC_CLOCK) -> Rule:
    """The rule of a schedule's JSON: exactly one of `cron`, `every`, `rrule`, `at`, and `phase` beside `every`.

    `clock`: what times without an offset are read on. A null counts as absent. Raises Rejected with the field, and the
    place in it where there is one.
    """
    given = [kind for kind in KINDS if spec.get(kind) is not None]
    if not given:
        raise Rejected(f"a schedule needs a rule: one of {', '.join(KINDS)}", field="cron", code="rule")
    if len(given) > 1:
        raise Rejected(f"a schedule has one rule, not {' and '.join(given)}", field=given[1], code="rule")
    kind = given[0]
    if spec.get("phase") is not None and kind != "every":
        raise Rejected("a phase belongs to an interval (every)", field="phase", code="rule")
    if kind == "cron":
        return _parse_cron(spec["cron"])
    if kind == "every":
        return _parse_every(spec["every"], spec.get("phase"), clock)
    if kind == "rrule":
        return parse_rrule(spec["rrule"])
    return _parse_at(spec["at"], clock)


def _parse_cron(value: Any) -> CronRule | CronLines:
    if not isinstance(value, list | tuple):
        return parse_cron(value)
    if not 1 <= len(value) <= RULES_MAXIMUM:
        raise Rejected(f"a list has 1 to {RULES_MAXIMUM} cron expressions", field="cron", code="cron")
    lines: dict[CronRule, None] = {}
    for place, line in enumerate(value):
        lines[parse_cron(line, f"cron.{place}")] = None
    return next(iter(lines)) if len(lines) == 1 else CronLines(tuple(lines))


def _parse_every(value: Any, phase: Any, clock: Clock) -> EveryRule:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Rejected("an interval is a number of seconds", field="every", code="every")
    if not EVERY_SECONDS_MINIMUM <= value <= EVERY_SECONDS_MAXIMUM:
        raise Rejected(
            f"an interval is {EVERY_SECONDS_MINIMUM} to {EVERY_SECONDS_MAXIMUM} seconds long",
            field="every",
            code="every",
        )
    return EveryRule(round(value * MICROS), None if phase is None else micros_of(clock.instant(phase, "phase")))


def _parse_at(value: Any, clock: Clock) -> AtRule:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise Rejected("a list of instants is needed", field="at", code="at")
    if not 1 <= len(value) <= AT_INSTANTS_MAXIMUM:
        raise Rejected(f"a list has 1 to {AT_INSTANTS_MAXIMUM} instants", field="at", code="at")
    places: dict[int, int] = {}
    marks: dict[int, Meant] = {}
    for place, item in enumerate(value):
        for meant in clock.instants(item, f"at.{place}"):
            earlier = places.setdefault(meant.micros, place)
            if earlier != place and meant.note is None and meant.micros not in marks:
                raise Rejected(f"the same instant as at.{earlier}", field=f"at.{place}", code="at")
            if meant.note is not None and earlier == place:
                marks[meant.micros] = meant
            elif meant.note is None:
                # What a gap swallowed is one time with what happens at its end anyway.
                marks.pop(meant.micros, None)
    return AtRule(tuple(sorted(places)), marks)
