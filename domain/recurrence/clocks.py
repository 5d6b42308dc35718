"""Times that are written without an offset: readings of a schedule's own clock, which its policies make instants of."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence import zones
from rota_server.domain.recurrence.instants import MICROS, instant_of, micros_of, parse_instant
from rota_server.domain.recurrence.wall_clock import DST_GAP, FoldPolicy, GapPolicy, clock_text

_READING = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?", re.ASCII)


class Meant(NamedTuple):
    """An instant in microseconds. `skipped`: why nothing happens at it, None usually; `note`: what was changed."""

    micros: int
    skipped: str | None = None
    note: str | None = None


class Clock(NamedTuple):
    """A schedule's zone and policies."""

    timezone: str
    gap: GapPolicy
    fold: FoldPolicy

    def instant(self, value: Any, field: str, *, bound: Literal["first", "last"] = "first") -> datetime:
        """The instant of a text or datetime, in UTC. Raises Rejected naming `field`.

        A reading that comes twice is the first one by the policy `first`, the second by `last`, and by `both` the outer
        one: `bound` says which. One in a gap is the end of the gap.
        """
        reading = _reading(value, field)
        if reading is None:
            return parse_instant(value, field)
        second, micros = divmod(reading, MICROS)
        zone = zones.zone(self.timezone)
        late = self.fold == "last" or (self.fold == "both" and bound == "last")
        found = zone.latest(second) if late else zone.earliest(second)
        in_gap = found + zone.offset_at(found) != second
        return parse_instant(instant_of(found * MICROS + (0 if in_gap else micros)), field)

    def instants(self, value: Any, field: str) -> list[Meant]:
        """The instants of an item of a list: two where a reading comes twice and the policy wants both."""
        reading = _reading(value, field)
        if reading is None:
            return [Meant(micros_of(parse_instant(value, field)))]
        second, micros = divmod(reading, MICROS)
        zone = zones.zone(self.timezone)
        first, last = zone.earliest(second), zone.latest(second)
        parse_instant(instant_of(first * MICROS), field)
        if first + zone.offset_at(first) != second:
            text = clock_text(second, first + zone.offset_at(first))
            if self.gap == "skip":
                return [Meant(first * MICROS, DST_GAP, f"{text} falls into the gap")]
            return [Meant(first * MICROS, None, f"shifted from {text} by the gap")]
        if first == last:
            return [Meant(first * MICROS + micros)]
        both = [
            Meant(first * MICROS + micros, None, "first of two"),
            Meant(last * MICROS + micros, None, "second of two"),
        ]
        return {"first": both[:1], "last": both[1:], "both": both}[self.fold]


def _reading(value: Any, field: str) -> int | None:
    """Microseconds since 1970 on the wall clock; None for what has an offset, or is no time at all."""
    if isinstance(value, datetime):
        return None if value.tzinfo is not None else micros_of(value.replace(tzinfo=UTC))
    if not isinstance(value, str) or not _READING.fullmatch(value.strip()):
        return None
    try:
        return micros_of(datetime.fromisoformat(value.strip().upper()).replace(tzinfo=UTC))
    except ValueError as error:
        raise Rejected(f"{value.strip()!r} is no possible time: {error}", field=field, code="instant") from None
