"""From wall-clock times to instants: what daylight saving does to a rule, by the policies `gap` and `fold`.

Time is cut into pieces of constant offset. Within a piece a rule's wall-clock times are instants, one to one. At its
borders the policies decide which part of the piece counts: a fold's first pass is the end of one piece, its second pass
the beginning of the next; what falls into a gap belongs to the beginning of the piece behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from rota_server.domain.recurrence.instants import DAY, END_SECOND, EPOCH_ORDINAL, FIRST_SECOND
from rota_server.domain.recurrence.zones import Piece, Zone

GapPolicy = Literal["shift", "skip"]
FoldPolicy = Literal["first", "last", "both"]
DST_GAP = "dst_gap"


class LocalRule(Protocol):
    """A rule that gives wall-clock times, in seconds since 1970 on the zone's own clock."""

    def __hash__(self) -> int: ...

    @property
    def elapsed(self) -> bool:
        """Whether it follows elapsed time, so that gaps and folds do not concern it."""
        ...

    @property
    def offset_matters(self) -> bool:
        """Whether its answers depend on the offset, not on the wall clock alone."""
        ...

    def fresh(self) -> LocalRule:
        """The rule for one search, which may remember what it found on its way."""
        ...

    def next_local(self, local: int, offset: int, limit: int) -> int | None:
        """The first one at or after `local`; None, or one at or after `limit`, when there is none before it."""
        ...

    def count_local(self, low: int, high: int, offset: int) -> int:
        """How many lie in [low, high)."""
        ...

    def nth_local(self, low: int, high: int, offset: int, count: int) -> tuple[int, int | None]:
        """How many lie in [low, high), if there are fewer than `count`; else `count`, and that one."""
        ...

    def day_bits(self, day: int, offset: int) -> int:
        """Those of a day (since 1970), as one bit for each of its seconds."""
        ...


class Moment(NamedTuple):
    """One instant that the rule names, in seconds since 1970, and what the policies did to it."""

    second: int
    skipped: str | None = None
    note: str | None = None


class Window(NamedTuple):
    """The stretch [low, high) of a piece, on the wall clock, whose times count. `gap`: one precedes it that counts."""

    piece: Piece
    low: int
    high: int
    gap: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A rule with the instants (seconds) of its `first` and `last` time at most.

    `origin`: the instant at which it begins to count, if it does. When that is the second pass of a fold, the first one
    came too early for it, and the second counts.
    """

    rule: LocalRule
    first: int = FIRST_SECOND
    last: int = END_SECOND - 1
    origin: int | None = None

    def times(self, zone: Zone, gap: GapPolicy, fold: FoldPolicy, first: int) -> Iterator[Moment]:
        """All instants from `first` (seconds) on, in strictly increasing order."""
        rule = self.rule.fresh()
        ask = Asking(rule)
        for window in self._windows(zone, fold, first):
            low, piece = window.low, window.piece
            if window.gap:
                moment = _in_gap(ask, piece, gap)
                if moment is not None:
                    yield moment
                    low = max(low, piece.start + piece.offset + 1)
            local = ask.next(low, piece.offset, window.high)
            while local is not None and local < window.high:
                yield Moment(local - piece.offset, None, None if rule.elapsed else fold_note(local, piece))
                local = ask.next(local + 1, piece.offset, window.high)
            if local is None and not rule.offset_matters:
                return

    def nth(self, zone: Zone, gap: GapPolicy, fold: FoldPolicy, first: int, count: int) -> int | None:
        """The instant of the `count`-th time from `first` on, without walking there; None if there are not as many."""
        rule = self.rule.fresh()
        ask = Asking(rule)
        for window in self._windows(zone, fold, first):
            low, piece = window.low, window.piece
            if window.gap and _in_gap(ask, piece, gap) is not None:
                count -= 1
                if count == 0:
                    return piece.start
                low = max(low, piece.start + piece.offset + 1)
            within, found = rule.nth_local(low, window.high, piece.offset, count) if low < window.high else (0, None)
            if found is not None:
                return found - piece.offset
            count -= within
        return None

    def count(self, zone: Zone, gap: GapPolicy, fold: FoldPolicy, first: int, last: int) -> int:
        """How many times lie from `first` to `last` (seconds, both inclusive), without walking there."""
        rule = self.rule.fresh()
        ask = Asking(rule)
        count = 0
        for window in self._windows(zone, fold, first):
            low, piece = window.low, window.piece
            if piece.start > last:
                break
            if window.gap and _in_gap(ask, piece, gap) is not None:
                count += 1
                low = max(low, piece.start + piece.offset + 1)
            high = min(window.high, last + 1 + piece.offset)
            if low < high:
                count += rule.count_local(low, high, piece.offset)
        return count

    def _windows(self, zone: Zone, fold: FoldPolicy, first: int) -> Iterator[Window]:
        first = max(first, self.first)
        for piece in zone.pieces_from(first):
            if piece.start > self.last:
                return
            window = window_in(piece, self, fold, first)
            if window is not None:
                yield window


def window_in(piece: Piece, part: Part, fold: FoldPolicy, first: int) -> Window | None:
    """The part of a piece, from the instant `first` on, whose wall-clock times count; None when there is none."""
    first = max(first, part.first)
    low = max(first, piece.start) + piece.offset
    high = min(piece.end, part.last + 1) + piece.offset
    gap = False
    if not part.rule.elapsed:
        gap = piece.before < piece.offset and first <= piece.start <= part.last
        if fold == "first" and piece.before > piece.offset and not _begins_in_second_pass(piece, part.origin):
            low = max(low, piece.start + piece.before)
        if fold == "last" and piece.after < piece.offset:
            high = min(high, piece.end + piece.after)
    return Window(piece, low, high, gap) if low < high or gap else None


def _begins_in_second_pass(piece: Piece, origin: int | None) -> bool:
    return origin is not None and piece.start <= origin < piece.start + piece.before - piece.offset


class Asking:
    """Asks a rule, and remembers a far answer: a rule for one day of the year is not searched again in each piece."""

    def __init__(self, rule: LocalRule) -> None:
        self.rule = rule
        self._keeps = not rule.offset_matters
        self._asked = 0
        self._answer: int | None = -1

    @property
    def is_over(self) -> bool:
        """Whether the rule has no later time, wherever one looks."""
        return self._keeps and self._answer is None

    def next(self, local: int, offset: int, limit: int) -> int | None:
        """As `next_local` of the rule."""
        if (
            self._keeps
            and self._answer != -1
            and self._asked <= local
            and (self._answer is None or local <= self._answer)
        ):
            return self._answer
        self._asked = local
        self._answer = self.rule.next_local(local, offset, limit)
        return self._answer


def _in_gap(ask: Asking, piece: Piece, policy: GapPolicy) -> Moment | None:
    """The one moment, at the gap's end, that stands for all times in the gap; None when there are none."""
    end = piece.start + piece.offset
    missed = ask.next(piece.start + piece.before, piece.offset, end)
    if missed is None or missed >= end:
        return None
    return gap_moment(piece, missed, policy, regular=ask.next(end, piece.offset, end + 1) == end)


def gap_moment(piece: Piece, missed: int, policy: GapPolicy, *, regular: bool) -> Moment:
    """The moment at a gap's end for the reading `missed` in it; `regular`: the rule ticks then anyway."""
    text = clock_text(missed, piece.start + piece.offset)
    if policy == "shift":
        also = ", where the rule ticks anyway" if regular else ""
        return Moment(piece.start, None, f"shifted from {text} by the gap{also}")
    if regular:
        return Moment(piece.start, None, f"{text} left out by the gap")
    return Moment(piece.start, DST_GAP, f"{text} falls into the gap")


def fold_note(local: int, piece: Piece) -> str | None:
    """What the note of a fixed time says when the wall clock reads it twice."""
    if piece.after < piece.offset and local >= piece.end + piece.after:
        return "first of two"
    if piece.before > piece.offset and local < piece.start + piece.before:
        return "second of two"
    return None


def clock_text(local: int, end: int) -> str:
    """HH:MM, with seconds where there are any, and with the date when it is not that of the gap's end."""
    day, time = divmod(local, DAY)
    hour, rest = divmod(time, 3600)
    minute, second = divmod(rest, 60)
    text = f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")
    if day == end // DAY:
        return text
    return f"{datetime.fromordinal(day + EPOCH_ORDINAL).date().isoformat()} {text}"
