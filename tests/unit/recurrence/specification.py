"""What the documents say about wall-clock rules, worked out minute by minute: slow, obvious, and sharing no code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
Matches = Callable[[datetime], bool]
"""Whether a wall-clock minute, without zone, is one of the rule's."""


class Minutes:
    """All minutes of a stretch of time, with what the wall clock of a zone reads at them."""

    def __init__(self, zone: ZoneInfo, first: datetime, last: datetime) -> None:
        count = round((last - first) / MINUTE) + 1
        instants = [first + MINUTE * index for index in range(count)]
        self._rows = [(at, _wall(at, zone)) for at in instants]
        self._instants: dict[datetime, list[datetime]] = {}
        for at, wall in self._rows:
            self._instants.setdefault(wall, []).append(at)
        walls = [_wall(first - MINUTE, zone), *(wall for _, wall in self._rows)]
        self._missing = {
            at: list(_between(before, wall))
            for (at, wall), before in zip(self._rows, walls, strict=False)
            if wall - before > MINUTE
        }

    def fixed(self, matches: Matches, gap: str, fold: str) -> list[tuple[datetime, str]]:
        """(instant, outcome) for a rule for fixed times."""
        expected = []
        for at, wall in self._rows:
            if matches(wall) and self._wanted(at, wall, fold):
                expected.append((at, "tick"))
            elif any(matches(missing) for missing in self._missing.get(at, ())):
                expected.append((at, "tick" if gap == "shift" else "skip"))
        return expected

    def elapsed(self, matches: Matches) -> list[tuple[datetime, str]]:
        """The same for a rule that follows elapsed time: every minute at which the wall clock matches."""
        return [(at, "tick") for at, wall in self._rows if matches(wall)]

    def _wanted(self, at: datetime, wall: datetime, fold: str) -> bool:
        """Whether the policy wants this one of the instants with the same wall clock."""
        twins = self._instants[wall]
        return fold == "both" or at == (min(twins) if fold == "first" else max(twins))


def transitions(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """The instants, to the minute, at which the offset changes."""
    day = timedelta(days=1)
    at = after
    while at < until:
        if _offset(at, zone) != _offset(at + day, zone):
            minute = next(
                at + MINUTE * index
                for index in range(1, 1441)
                if _offset(at + MINUTE * index, zone) != _offset(at, zone)
            )
            yield minute
        at += day


def _between(before: datetime, wall: datetime) -> Iterator[datetime]:
    missing = before + MINUTE
    while missing < wall:
        yield missing
        missing += MINUTE


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)
