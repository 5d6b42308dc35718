"""Several rules as one: the times that any of them names, without those that an exception takes away.

Each rule keeps its own beginning and end, and obeys the policies as it would alone. What several of them name is one
time. Exceptions stand for readings of the wall clock, in both passes of a fold, or for instants, which have one.

To count is to lay the days of all rules on each other, as sets of 86,400 bits: a schedule that was paused for a year
may have passed over thirty million times.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rota_server.domain.recurrence.instants import DAY
from rota_server.domain.recurrence.wall_clock import (
    Asking,
    FoldPolicy,
    GapPolicy,
    Moment,
    Part,
    Window,
    fold_note,
    gap_moment,
    window_in,
)
from rota_server.domain.recurrence.zones import Piece, Zone

_WHOLE_DAY = (1 << DAY) - 1
_STEPS_BEFORE_DAYS = 64
"""Times that exceptions take away, one after the other, before whole days are looked at instead."""
_DAYS_IN_VAIN_MAXIMUM = 5_000
"""Days of which exceptions leave nothing, one after the other, before a search is given up: 13 years of days."""


class _Open(NamedTuple):
    """A part within one piece, and its question."""

    part: Part
    ask: Asking
    window: Window


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RuleSet:
    """Rules (`included`) without rules (`excluded`), readings, whole days (since 1970) and instants (seconds)."""

    included: tuple[Part, ...]
    excluded: tuple[Part, ...] = ()
    readings: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    instants: frozenset[int] = frozenset()
    first: int = field(init=False)
    last: int = field(init=False)
    sorted_readings: tuple[int, ...] = field(init=False)
    sorted_instants: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sorted_readings", tuple(sorted(self.readings)))
        object.__setattr__(self, "sorted_instants", tuple(sorted(self.instants)))
        object.__setattr__(self, "first", min(part.first for part in self.included))
        object.__setattr__(self, "last", max(part.last for part in self.included))

    def times(self, zone: Zone, gap: GapPolicy, fold: FoldPolicy, first: int) -> Iterator[Moment]:
        """All instants from `first` (seconds) on, in strictly increasing order.

        Ends when the exceptions leave nothing of so many days of search that one may take it that nothing comes.
        """
        searches = [(part, Asking(part.rule.fresh())) for part in self.included]
        patience = _Patience()
        for piece in zone.pieces_from(max(first, self.first)):
            opened = _open(searches, piece, fold, first)
            low = piece.start + piece.offset
            moment = self._gap_moment(opened, piece, gap)
            if moment is not None:
                yield moment
                low += 1
            yield from self._merged(opened, piece, low, patience)
            searches = [(part, ask) for part, ask in searches if piece.end <= part.last and not ask.is_over]
            if not searches or patience.is_over:
                return

    def count(self, zone: Zone, gap: GapPolicy, fold: FoldPolicy, first: int, last: int) -> int:
        """How many times lie from `first` to `last` (seconds, both inclusive), without walking there."""
        return sum(day.bits.bit_count() for day in self._days(zone, gap, fold, first, last))

    def nth(self, zone: Zone, gap: GapPolicy, fold: FoldPolicy, first: int, count: int) -> int | None:
        """The instant of the `count`-th time from `first` on, without walking there; None if there are not as many."""
        for day in self._days(zone, gap, fold, first, self.last):
            within = day.bits.bit_count()
            if count <= within:
                return day.start + _nth_bit(day.bits, count)
            count -= within
        return None

    def _merged(self, opened: Sequence[_Open], piece: Piece, low: int, patience: _Patience) -> Iterator[Moment]:
        """The times within a piece from the reading `low` on."""
        offset = piece.offset
        heads = [one.ask.next(max(low, one.window.low), offset, one.window.high) for one in opened]
        while True:
            at = min(
                (head for head, one in zip(heads, opened, strict=True) if head is not None and head < one.window.high),
                default=None,
            )
            if at is None:
                return
            if self._takes_away(at, at - offset, offset):
                patience.steps += 1
                if patience.steps > _STEPS_BEFORE_DAYS:
                    following = self._first_left(opened, piece, at + 1, patience)
                    if following is None:
                        return
                    heads = [one.ask.next(max(following, one.window.low), offset, one.window.high) for one in opened]
                    patience.steps = 0
                    continue
            else:
                named = [one for head, one in zip(heads, opened, strict=True) if head == at]
                elapsed = any(one.part.rule.elapsed for one in named)
                yield Moment(at - offset, None, None if elapsed else fold_note(at, piece))
                patience.renew()
            heads = [
                one.ask.next(at + 1, offset, one.window.high) if head == at else head
                for head, one in zip(heads, opened, strict=True)
            ]

    def _first_left(self, opened: Sequence[_Open], piece: Piece, low: int, patience: _Patience) -> int | None:
        """The first reading of the piece from `low` on that no exception takes, found day by day."""
        for day in self._days_of(opened, piece, low, piece.end + piece.offset):
            patience.days -= 1
            if day.bits:
                return day.start + piece.offset + (day.bits & -day.bits).bit_length() - 1
            if patience.is_over:
                return None
        return None

    def _takes_away(self, reading: int, instant: int, offset: int) -> bool:
        if reading in self.readings or instant in self.instants or reading // DAY in self.days:
            return True
        return any(
            part.first <= instant <= part.last and part.rule.next_local(reading, offset, reading + 1) == reading
            for part in self.excluded
        )

    def _gap_moment(self, opened: Sequence[_Open], piece: Piece, policy: GapPolicy) -> Moment | None:
        """The one moment, at the gap's end, that stands for all times in the gap; None when there are none."""
        end = piece.start + piece.offset
        missed = self._missed(opened, piece, end)
        if missed is None:
            return None
        regular = any(
            one.window.low <= end < one.window.high and one.ask.next(end, piece.offset, end + 1) == end
            for one in opened
        ) and not self._takes_away(end, piece.start, piece.offset)
        return gap_moment(piece, missed, policy, regular=regular)

    def _missed(self, opened: Sequence[_Open], piece: Piece, end: int) -> int | None:
        """The first reading that the gap swallows and no exception takes away."""
        low = piece.start + piece.before
        spans = [(one.ask, low, end) for one in opened if one.window.gap]
        if not spans or piece.start in self.instants:
            return None
        exact = sorted(instant + piece.before for instant in self.instants if low <= instant + piece.before < end)
        for day in range(low // DAY, -(-end // DAY)):
            bits = self._bits(day, piece.offset, spans, exact, at=piece.start)
            if bits:
                return day * DAY + (bits & -bits).bit_length() - 1
        return None

    # -- counting ----------------------------------------------------------------------------------------------------

    def _days(self, zone: Zone, gap: GapPolicy, fold: FoldPolicy, first: int, last: int) -> Iterator[_Day]:
        """The times from `first` to `last`, day by day, and one for each gap that swallows some."""
        in_vain = 0
        searches = [(part, Asking(part.rule.fresh())) for part in self.included]
        for piece in zone.pieces_from(max(first, self.first)):
            if piece.start > last:
                return
            opened = _open(searches, piece, fold, first)
            low = piece.start + piece.offset
            if self._gap_moment(opened, piece, gap) is not None:
                yield _Day(piece.start, 1)
                low += 1
            for day in self._days_of(opened, piece, low, min(piece.end, last + 1) + piece.offset):
                in_vain = 0 if day.bits else in_vain + 1
                if in_vain > _DAYS_IN_VAIN_MAXIMUM:
                    return
                yield day

    def _days_of(self, opened: Sequence[_Open], piece: Piece, low: int, high: int) -> Iterator[_Day]:
        """The days of a piece, between two readings, on which a rule names something; it may all be taken away."""
        found = [(one.ask, max(low, one.window.low), min(high, one.window.high)) for one in opened]
        spans = [span for span in found if span[1] < span[2]]
        if not spans:
            return
        instants = self.sorted_instants
        exact = [
            instant + piece.offset
            for instant in instants[bisect_left(instants, piece.start) : bisect_left(instants, piece.end)]
        ]
        day = min(low for _, low, _ in spans) // DAY
        end = -(-max(high for _, _, high in spans) // DAY)
        while day < end:
            bits = self._bits(day, piece.offset, spans, exact)
            yield _Day(day * DAY - piece.offset, bits)
            day += 1
            if not bits:
                day = _next_day(day, piece.offset, spans)

    def _bits(
        self,
        day: int,
        offset: int,
        spans: Sequence[tuple[Asking, int, int]],
        exact: Sequence[int],
        *,
        at: int | None = None,
    ) -> int:
        """The times of a day, one bit for each of its seconds. `at`: the instant that all of its readings have."""
        if day in self.days:
            return 0
        bits = 0
        for ask, low, high in spans:
            bits |= _within(ask.rule.day_bits(day, offset), day, low, high)
        if not bits:
            return 0
        for part in self.excluded:
            if at is None:
                bits &= ~_within(part.rule.day_bits(day, offset), day, part.first + offset, part.last + 1 + offset)
            elif part.first <= at <= part.last:
                bits &= ~part.rule.day_bits(day, offset)
        midnight = day * DAY
        for values in (exact, self.sorted_readings):
            for place in range(bisect_left(values, midnight), bisect_left(values, midnight + DAY)):
                bits &= ~(1 << values[place] - midnight)
        return bits


class _Patience:
    """How long a search goes on in which exceptions take away all that is found."""

    def __init__(self) -> None:
        self.steps = 0
        self.days = _DAYS_IN_VAIN_MAXIMUM

    @property
    def is_over(self) -> bool:
        return self.days <= 0

    def renew(self) -> None:
        self.steps, self.days = 0, _DAYS_IN_VAIN_MAXIMUM


class _Day(NamedTuple):
    """The times of a day, or one at a gap's end; bit 0 is the instant `start`."""

    start: int
    bits: int


def _open(searches: Sequence[tuple[Part, Asking]], piece: Piece, fold: FoldPolicy, first: int) -> list[_Open]:
    found = ((part, ask, window_in(piece, part, fold, first)) for part, ask in searches)
    return [_Open(part, ask, window) for part, ask, window in found if window is not None]


def _next_day(day: int, offset: int, spans: Sequence[tuple[Asking, int, int]]) -> int:
    """The first day from `day` on that one of the rules may name a time of; a day after all of them when there is none.

    A rule for one day of the year is not asked about each day of it.
    """
    following = max(high for _, _, high in spans) // DAY + 1
    for ask, low, high in spans:
        if day * DAY < high:
            found = ask.next(max(low, day * DAY), offset, high)
            if found is not None:
                following = min(following, found // DAY)
    return following


def _within(bits: int, day: int, low: int, high: int) -> int:
    """The bits of a day that stand for readings in [low, high)."""
    midnight = day * DAY
    if high < midnight + DAY:
        bits &= (1 << max(0, high - midnight)) - 1
    if low > midnight:
        bits &= _WHOLE_DAY << min(DAY, low - midnight)
    return bits


def _nth_bit(bits: int, count: int) -> int:
    """The place of the `count`-th bit that is set, from the lowest on; there are as many."""
    low, high = 0, DAY
    while high - low > 1:
        middle = (low + high) // 2
        if (bits & (1 << middle) - 1).bit_count() >= count:
            high = middle
        else:
            low = middle
    return low
