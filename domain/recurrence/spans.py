"""Many stretches of time, and the quick question whether a moment lies in one of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple


class Span(NamedTuple):
    """[start, end) with what to call it."""

    start: int
    end: int
    text: str


class Spans:
    """Stretches that may overlap."""

    __slots__ = ("_reach", "_spans", "_starts")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans = tuple(sorted(span for span in spans if span.start < span.end))
        self._starts = tuple(span.start for span in self._spans)
        self._reach = tuple(accumulate((span.end for span in self._spans), max))
        """For each span, how far it or any before it goes."""

    def find(self, moment: int) -> str | None:
        """The text of one that contains the moment, None when there is none."""
        place = bisect_right(self._starts, moment)
        while place > 0 and self._reach[place - 1] > moment:
            place -= 1
            if self._spans[place].end > moment:
                return self._spans[place].text
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and self._spans == other._spans

    def __hash__(self) -> int:
        return hash(self._spans)
