"""Conditions of single values, many at once: whether any value at a place of an event meets any of them.

However many alternatives there are, a value is looked at once: texts and numbers by hashing, comparisons as sorted
ranges, beginnings and ends together. Pure.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rota_server.domain.errors import Rejected
from rota_server.domain.matching.paths import Missing
from rota_server.domain.work import Work

TEXT_LIMIT_CHARS = 1024
WILDCARDS_LIMIT = 10
CHARS_A_STEP = 256
TEXTS_A_STEP = 8

SCALARS = (str, int, float, bool, type(None))
SIGNS = ("=", "<", "<=", ">", ">=")


class Range(NamedTuple):
    """Numbers from `low` to `high`; whether these belong to it. Sorts by where it begins."""

    low: float
    open_low: bool
    high: float
    open_high: bool

    @property
    def empty(self) -> bool:
        """Whether no number is in it."""
        return self.low > self.high or (self.low == self.high and (self.open_low or self.open_high))

    def holds(self, number: float) -> bool:
        """Whether the number is in it."""
        above = number > self.low or (number == self.low and not self.open_low)
        return above and (number < self.high or (number == self.high and not self.open_high))


EVERYTHING = Range(float("-inf"), False, float("inf"), False)


class Leaves:
    """Alternatives, of which one has to be met by one of the values."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._numbers: set[float] = set()
        self._constants: set[bool | None] = set()
        self._prefixes: tuple[str, ...] = ()
        self._suffixes: tuple[str, ...] = ()
        self._folded: set[str] = set()
        self._wildcards: list[Callable[[str], bool]] = []
        self._ranges: list[Range] = []
        self._lows: list[float] = []
        self._scans = 0

    def __bool__(self) -> bool:
        """Whether there is any alternative."""
        texts = self._texts or self._prefixes or self._suffixes or self._folded or self._wildcards
        return bool(texts or self._numbers or self._constants or self._ranges)

    # -- what is asked for -------------------------------------------------------------------------------------------

    def equal(self, value: Any, field: str) -> None:
        """Equal as JSON has it: 1 is 1.0, but true is not 1."""
        if isinstance(value, str):
            if len(value) > TEXT_LIMIT_CHARS:
                raise wrong(field, f"longer than {TEXT_LIMIT_CHARS} characters")
            self._texts.add(value)
        elif isinstance(value, bool) or value is None:
            self._constants.add(value)
        else:
            self._numbers.add(value)

    def condition(self, name: str, argument: Any, field: str) -> None:
        """One of CONDITIONS. Raises Rejected."""
        CONDITIONS[name](self, argument, field)

    def _prefix(self, argument: Any, field: str) -> None:
        self._prefixes += (_text(argument, field),)

    def _suffix(self, argument: Any, field: str) -> None:
        self._suffixes += (_text(argument, field),)

    def _ignore_case(self, argument: Any, field: str) -> None:
        self._scans += not self._folded
        self._folded.add(_text(argument, field).casefold())

    def _wildcard(self, argument: Any, field: str) -> None:
        text = _text(argument, field)
        pieces = [piece for piece in re.split(r"\*+", text) if piece]
        if len(pieces) > WILDCARDS_LIMIT:
            raise wrong(field, f"more than {WILDCARDS_LIMIT} parts between wildcards")
        if "*" not in text:
            self._texts.add(text)
            return
        self._scans += len(pieces)
        self._wildcards.append(_fits(pieces, first=not text.startswith("*"), last=not text.endswith("*")))

    def _numeric(self, argument: Any, field: str) -> None:
        if not isinstance(argument, list) or len(argument) not in (2, 4):
            raise wrong(field, 'must be one or two comparisons, such as [">", 0, "<=", 5]')
        wanted = EVERYTHING
        for index in range(0, len(argument), 2):
            sign, limit = argument[index], argument[index + 1]
            if not isinstance(sign, str) or sign not in SIGNS:
                raise wrong(f"{field}.{index}", f"must be one of {' '.join(SIGNS)}")
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise wrong(f"{field}.{index + 1}", "must be a number")
            wanted = _narrowed(wanted, sign, limit)
        if not wanted.empty:
            self._ranges = _merged([*self._ranges, wanted])
            self._lows = [one.low for one in self._ranges]
        elif not self:
            self._ranges = [wanted]  # it holds nothing, but it is a condition
            self._lows = [wanted.low]

    # -- whether it is there -----------------------------------------------------------------------------------------

    def any_of(self, value: Any, work: Work) -> bool:
        """Whether the value, or one of a list's elements, however nested, meets an alternative. Raises TooMuchWork."""
        for leaf in leaves(value):
            if isinstance(leaf, str):
                work.spend(self._steps(leaf))
                if self._text_fits(leaf):
                    return True
                continue
            work.spend()
            if isinstance(leaf, bool) or leaf is None:
                if leaf in self._constants:
                    return True
            elif isinstance(leaf, int | float) and (leaf in self._numbers or self._in_range(leaf)):
                return True
        return False

    def _steps(self, text: str) -> int:
        ends = len(self._prefixes) + len(self._suffixes)
        return 1 + ends // TEXTS_A_STEP + self._scans * (1 + len(text) // CHARS_A_STEP)

    def _text_fits(self, text: str) -> bool:
        if text in self._texts or text.startswith(self._prefixes) or text.endswith(self._suffixes):
            return True
        if self._folded and text.casefold() in self._folded:
            return True
        return any(fits(text) for fits in self._wildcards)

    def _in_range(self, number: float) -> bool:
        index = bisect_right(self._lows, number) - 1
        return index >= 0 and self._ranges[index].holds(number)


CONDITIONS: dict[str, Callable[[Leaves, Any, str], None]] = {
    "prefix": Leaves._prefix,  # noqa: SLF001 - the table is part of the class
    "suffix": Leaves._suffix,  # noqa: SLF001
    "equals-ignore-case": Leaves._ignore_case,  # noqa: SLF001
    "wildcard": Leaves._wildcard,  # noqa: SLF001
    "numeric": Leaves._numeric,  # noqa: SLF001
}


def leaves(value: Any) -> Iterator[Any]:
    """A value itself, or a list's elements, however nested; nothing of what is not there."""
    if not isinstance(value, list):
        if not isinstance(value, Missing):
            yield value
        return
    pending = [iter(value)]
    while pending:
        for element in pending[-1]:
            if isinstance(element, list):
                pending.append(iter(element))
                break
            yield element
        else:
            pending.pop()


def _fits(pieces: list[str], *, first: bool, last: bool) -> Callable[[str], bool]:
    """Whether a text holds these pieces in order; `first`, `last`: it begins and ends with those."""

    def fits(leaf: str) -> bool:
        # Piece by piece, each as early as it can stand: linear, whatever the text.
        place, end = 0, len(leaf)
        middle = pieces[:]
        if first:
            if not leaf.startswith(middle[0]):
                return False
            place = len(middle.pop(0))
        if last:
            if not middle or not leaf.endswith(middle[-1]):
                return False
            end -= len(middle.pop())
        for piece in middle:
            found = leaf.find(piece, place, end)
            if found < 0:
                return False
            place = found + len(piece)
        return place <= end

    return fits


def _narrowed(known: Range, sign: str, limit: float) -> Range:
    if sign in ("=", ">", ">="):
        low = max((known.low, known.open_low), (limit, sign == ">"))
        known = known._replace(low=low[0], open_low=low[1])
    if sign in ("=", "<", "<="):
        high = min((known.high, not known.open_high), (limit, sign != "<"))
        known = known._replace(high=high[0], open_high=not high[1])
    return known


def _merged(ranges: list[Range]) -> list[Range]:
    """The same numbers in ranges that neither overlap nor touch, in order."""
    found: list[Range] = []
    for one in sorted(ranges):
        last = found[-1] if found else None
        if last is None or one.low > last.high or (one.low == last.high and one.open_low and last.open_high):
            found.append(one)
            continue
        high = max((last.high, not last.open_high), (one.high, not one.open_high))
        found[-1] = last._replace(high=high[0], open_high=not high[1])
    return found


def _text(argument: Any, field: str) -> str:
    if not isinstance(argument, str) or not 0 < len(argument) <= TEXT_LIMIT_CHARS:
        raise wrong(field, f"must be a text of 1 to {TEXT_LIMIT_CHARS} characters")
    return argument


def wrong(field: str, what: str) -> Rejected:
    """The refusal that names the wrong part."""
    return Rejected(f"{field}: {what}", field=field, code="invalid-argument")
