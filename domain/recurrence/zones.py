"""IANA time zones as pieces of constant offset.

The zones come from the package `tzdata`, never from the machine: a store, a leader and its successor on other machines
must agree about every tick. Nothing outside this module asks for an offset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.instants import DAY, END_SECOND
from rota_server.domain.recurrence.windows_zones import WINDOWS_ZONES

_NAME_MAXIMUM = 64
_OFFSET = re.compile(r"(?:UTC|GMT|Z)?[+-]\d{1,2}(?::?\d\d)?", re.ASCII | re.IGNORECASE)
_ABBREVIATION = re.compile(r"[A-Z]{3,5}", re.ASCII)
_YEARS_KEPT = 32
"""Years of one zone whose pieces are kept; a walk through two centuries must not keep them all."""


class Piece(NamedTuple):
    """A stretch of time, within one year of UTC, without a change of offset. Everything in seconds.

    Local time is `second + offset`. `before` and `after` are the offsets just before `start` and at `end`: a gap
    precedes the piece when `before < offset`, and its first `before - offset` seconds are a repetition when `before` is
    the greater.
    """

    start: int
    end: int
    offset: int
    before: int
    after: int


class Zone:
    """One time zone; compared by identity, since there is one object for each name."""

    __slots__ = ("_years", "info", "name")

    def __init__(self, name: str, info: ZoneInfo) -> None:
        self.name = name
        self.info = info
        self._years: dict[int, tuple[Piece, ...]] = {}

    def offset_at(self, second: int) -> int:
        """The offset from UTC in seconds at an instant."""
        offset = datetime.fromtimestamp(second, self.info).utcoffset()
        return 0 if offset is None else offset.days * DAY + offset.seconds

    def pieces_from(self, second: int) -> Iterator[Piece]:
        """The pieces from the one that contains `second`, until the last year."""
        year = datetime.fromtimestamp(second, UTC).year
        for piece in self._pieces(year):
            if piece.end > second:
                yield piece
        while second < END_SECOND:
            year += 1
            pieces = self._pieces(year)
            if pieces[0].start >= END_SECOND:
                return
            yield from pieces

    def earliest(self, local: int) -> int:
        """The first instant at which the wall clock reads `local`; the end of the gap when it never does."""
        for piece in self.pieces_from(local - 2 * DAY):
            if local < piece.start + piece.offset:
                return piece.start
            if local < piece.end + piece.offset:
                return local - piece.offset
        return local - self.offset_at(local)

    def latest(self, local: int) -> int:
        """The last instant at which the wall clock reads `local`; the end of the gap when it never does."""
        found = self.earliest(local)
        for piece in self.pieces_from(found):
            if piece.start > local + 2 * DAY:
                break
            if piece.start + piece.offset <= local < piece.end + piece.offset:
                found = local - piece.offset
        return found

    def _pieces(self, year: int) -> tuple[Piece, ...]:
        pieces = self._years.get(year)
        if pieces is None:
            if len(self._years) >= _YEARS_KEPT:
                self._years.clear()
            pieces = self._years[year] = tuple(self._cut(year))
        return pieces

    def _cut(self, year: int) -> Iterator[Piece]:
        start = _year_start(year)
        end = _year_start(year + 1)
        before = self.offset_at(start - 1)
        offset = self.offset_at(start)
        for day in range(start, end, DAY):
            last = min(day + DAY, end) - 1
            later = self.offset_at(last)
            if later != offset:
                change = self._change(day - 1, last)
                if change > start:
                    yield Piece(start, change, offset, before, later)
                    before = offset
                start, offset = change, later
        yield Piece(start, end, offset, before, self.offset_at(end))

    def _change(self, low: int, high: int) -> int:
        """The first second in (low, high] with the offset of `high`."""
        offset = self.offset_at(high)
        while high - low > 1:
            middle = (low + high) // 2
            if self.offset_at(middle) == offset:
                high = middle
            else:
                low = middle
        return high


def parse_zone_name(value: Any, field: str = "timezone") -> str:
    """The name, when it is one of the IANA database. Raises Rejected naming `field`, and the name that may be meant."""
    if not isinstance(value, str):
        raise Rejected("a time zone is a name such as Europe/Berlin", field=field, code="timezone")
    name = value.strip()
    if name not in zone_names():
        raise Rejected(
            f"{name[:_NAME_MAXIMUM]!r} is no time zone of the IANA database, such as Europe/Berlin or UTC"
            f"{lead_to(name)}",
            field=field,
            code="timezone",
        )
    return name


def iana_name(name: str) -> str | None:
    """The zone of the IANA database that is called so, upper and lower case aside."""
    return _lower_names().get(name.lower()) if len(name) <= _NAME_MAXIMUM else None


def of_windows(name: str) -> str | None:
    """The zone that Windows calls so."""
    return _windows_names().get(name.lower()) if len(name) <= _NAME_MAXIMUM else None


def lead_to(name: str) -> str:
    """What may be meant by the name of no zone, to stand at the end of a message; nothing when there is no guess."""
    if len(name) > _NAME_MAXIMUM:
        return ""
    if _OFFSET.fullmatch(name):
        return "; an offset is no zone: name a place, or Etc/GMT-2 for UTC+02:00"
    meant = iana_name(name) or _by_last_part().get(name.lower().replace(" ", "_"))
    if meant is None and (meant := of_windows(name)) is not None:
        return f"; that is what Windows calls {meant}"
    if meant is None and _ABBREVIATION.fullmatch(name):
        return "; an abbreviation stands for several zones: name a place"
    if meant is None:
        close = get_close_matches(name.lower(), _lower_names(), n=1, cutoff=0.75)
        meant = _lower_names()[close[0]] if close else None
    return "" if meant is None else f"; did you mean {meant}?"


@lru_cache(maxsize=1)
def _lower_names() -> dict[str, str]:
    return {name.lower(): name for name in sorted(zone_names())}


@lru_cache(maxsize=1)
def _by_last_part() -> dict[str, str]:
    """Zones by the name of their city: `berlin`."""
    return {name.rpartition("/")[2].lower(): name for name in sorted(zone_names(), reverse=True) if "/" in name}


@lru_cache(maxsize=1)
def _windows_names() -> dict[str, str]:
    return {windows.lower(): name for windows, name in WINDOWS_ZONES.items()}


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The names of all time zones, links included."""
    listed = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8")
    return frozenset(listed.split())


@lru_cache(maxsize=1024)
def zone(name: str) -> Zone:
    """The time zone of that name. Raises Rejected for an unknown one."""
    parse_zone_name(name)
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as data:
        return Zone(name, ZoneInfo.from_file(data, key=name))


@lru_cache(maxsize=512)
def _year_start(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
