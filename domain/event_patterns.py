"""Which events a trigger takes: patterns over an event's attributes and data, compiled once, matched often.

The vocabulary is that of Amazon EventBridge's event patterns, which many know: an object mirrors the event, a list
names alternatives, and an alternative is a value or one of a few conditions. Everything in an object must hold. Two
liberties: a value may stand without its list, and a key may be a dotted path. See docs/events.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from domain.errors import Rejected
from domain.event_paths import FIRST_PART, MISSING, Missing, split_name

CONDITIONS_LIMIT = 200
DEPTH_LIMIT = 20
TEXT_LIMIT_CHARS = 1024
WILDCARDS_LIMIT = 10

Test = Callable[[Any], bool]
"""Of what stands at a place of the event, perhaps a list, perhaps MISSING."""

SCALARS = (str, int, float, bool, type(None))
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "=": lambda value, limit: value == limit,
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
}


class Pattern:
    """A compiled pattern. `types`: the only event types that can match, None when it does not say."""

    def __init__(self, test: Test, types: frozenset[str] | None) -> None:
        self._test = test
        self.types = types

    def matches(self, view: Mapping[str, Any]) -> bool:
        """Whether the event, as `event_view` shows it, matches."""
        return self._test(view)


def compile_pattern(pattern: Any, field: str = "match", names: Collection[str] | None = None) -> Pattern:
    """The pattern ready for use. `names`: what it may speak of, None for a published event's attributes and data.

    Raises Rejected that names the wrong part (`match.data.amount`).
    """
    if not isinstance(pattern, Mapping) or not pattern:
        raise _wrong(field, "must be a JSON object with at least one condition")
    return Pattern(_Compiler(names).event(pattern, field), _types(pattern.get("type")))


def _types(alternatives: Any) -> frozenset[str] | None:
    values = alternatives if isinstance(alternatives, list) else [alternatives]
    return frozenset(values) if all(isinstance(value, str) for value in values) else None


class _Compiler:
    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names
        self._left = CONDITIONS_LIMIT

    def event(self, pattern: Mapping[str, Any], field: str) -> Test:
        for name in pattern:
            if name == "$or":
                continue
            first = split_name(name, f"{field}.{name}")[0]
            if self._names is not None and first not in self._names:
                raise _wrong(f"{field}.{name}", f"must begin with one of {', '.join(sorted(self._names))}")
            if self._names is None and FIRST_PART.fullmatch(first) is None:
                raise _wrong(f"{field}.{name}", "must be an attribute's name, or begin with data")
        return self.object(pattern, field, 1, top=True)

    def object(self, pattern: Mapping[str, Any], field: str, depth: int, *, top: bool = False) -> Test:
        if depth > DEPTH_LIMIT:
            raise _wrong(field, f"nested deeper than {DEPTH_LIMIT}")
        if not pattern:
            raise _wrong(field, "must hold at least one condition")
        tests = []
        for name, part in pattern.items():
            inner = f"{field}.{name}"
            if name == "$or":
                tests.append(self.either(part, inner, depth, top=top))
                continue
            test = self.object(part, inner, depth + 1) if isinstance(part, Mapping) else self.alternatives(part, inner)
            for key in reversed(split_name(name, inner)):
                test = _at(key, test)
            tests.append(test)
        return _all(tests)

    def either(self, patterns: Any, field: str, depth: int, *, top: bool) -> Test:
        if not isinstance(patterns, list) or len(patterns) < 2:
            raise _wrong(field, "must be a list of at least two patterns")
        tests = []
        for index, pattern in enumerate(patterns):
            inner = f"{field}.{index}"
            if not isinstance(pattern, Mapping):
                raise _wrong(inner, "must be a JSON object")
            tests.append(self.event(pattern, inner) if top else self.object(pattern, inner, depth + 1))
        return lambda value: any(test(value) for test in tests)

    def alternatives(self, part: Any, field: str) -> Test:
        if not isinstance(part, list):
            return self.alternative(part, field)
        if not part:
            raise _wrong(field, "names no alternative")
        tests = [self.alternative(one, f"{field}.{index}") for index, one in enumerate(part)]
        return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)

    def alternative(self, part: Any, field: str) -> Test:
        self._left -= 1
        if self._left < 0:
            raise _wrong(field, f"more than {CONDITIONS_LIMIT} conditions")
        if isinstance(part, SCALARS):
            return _any_equal(_scalar(part, field))
        if not isinstance(part, Mapping) or len(part) != 1:
            raise _wrong(field, "must be a value, or an object with exactly one condition")
        ((name, argument),) = part.items()
        make = _CONDITIONS.get(name)
        if make is None:
            raise _wrong(field, f"there is no condition {name!r}; there are {', '.join(_CONDITIONS)}")
        return make(argument, f"{field}.{name}")


def _at(key: str, test: Test) -> Test:
    """The test of what stands under `key`; of a list of objects, of any one's."""

    def holds(value: Any) -> bool:
        if isinstance(value, Mapping):
            return test(value.get(key, MISSING))
        if isinstance(value, list):
            return any(holds(element) for element in value)
        return test(MISSING)

    return holds


def _all(tests: list[Test]) -> Test:
    """All tests of one and the same object: of a list, one element must pass them all."""
    if len(tests) == 1:
        return tests[0]

    def holds(value: Any) -> bool:
        if isinstance(value, list):
            return any(holds(element) for element in value)
        return all(test(value) for test in tests)

    return holds


def _leaves(value: Any) -> Iterator[Any]:
    """A value itself, or a list's elements, however nested; nothing of what is not there."""
    if isinstance(value, list):
        for element in value:
            yield from _leaves(element)
    elif not isinstance(value, Missing):
        yield value


def _equal(value: Any, wanted: Any) -> bool:
    """JSON's equality: 1 is 1.0, but true is not 1."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return bool(value == wanted)


def _any_equal(wanted: Any) -> Test:
    return lambda value: any(_equal(leaf, wanted) for leaf in _leaves(value))


def _any_text(test: Callable[[str], bool]) -> Test:
    return lambda value: any(isinstance(leaf, str) and test(leaf) for leaf in _leaves(value))


def _prefix(argument: Any, field: str) -> Test:
    text = _text(argument, field)
    return _any_text(lambda leaf: leaf.startswith(text))


def _suffix(argument: Any, field: str) -> Test:
    text = _text(argument, field)
    return _any_text(lambda leaf: leaf.endswith(text))


def _ignore_case(argument: Any, field: str) -> Test:
    text = _text(argument, field).casefold()
    return _any_text(lambda leaf: leaf.casefold() == text)


def _wildcard(argument: Any, field: str) -> Test:
    text = _text(argument, field)
    pieces = [piece for piece in re.split(r"\*+", text) if piece]
    if len(pieces) > WILDCARDS_LIMIT:
        raise _wrong(field, f"more than {WILDCARDS_LIMIT} parts between wildcards")
    if "*" not in text:
        return _any_equal(text)
    first, last = not text.startswith("*"), not text.endswith("*")

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

    return _any_text(fits)


def _exists(argument: Any, field: str) -> Test:
    if not isinstance(argument, bool):
        raise _wrong(field, "must be true or false")
    return lambda value: isinstance(value, Missing) is not argument


def _numeric(argument: Any, field: str) -> Test:
    if not isinstance(argument, list) or len(argument) not in (2, 4):
        raise _wrong(field, 'must be one or two comparisons, such as [">", 0, "<=", 5]')
    pairs = []
    for index in range(0, len(argument), 2):
        sign, limit = argument[index], argument[index + 1]
        if not isinstance(sign, str) or sign not in COMPARISONS:
            raise _wrong(f"{field}.{index}", f"must be one of {' '.join(COMPARISONS)}")
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise _wrong(f"{field}.{index + 1}", "must be a number")
        pairs.append((COMPARISONS[sign], limit))

    def fits(leaf: Any) -> bool:
        number = isinstance(leaf, int | float) and not isinstance(leaf, bool)
        return number and all(compare(leaf, limit) for compare, limit in pairs)

    return lambda value: any(fits(leaf) for leaf in _leaves(value))


def _anything_but(argument: Any, field: str) -> Test:
    """It is there, and nothing of it is what is excluded."""
    if isinstance(argument, Mapping):
        if len(argument) != 1 or next(iter(argument)) not in _TEXT_CONDITIONS:
            raise _wrong(field, f"takes values, or one of {', '.join(_TEXT_CONDITIONS)}")
        ((name, inner),) = argument.items()
        texts = inner if isinstance(inner, list) and inner else [inner]
        excluded = [_TEXT_CONDITIONS[name](text, f"{field}.{name}") for text in texts]
    else:
        values = argument if isinstance(argument, list) else [argument]
        if not 0 < len(values) <= CONDITIONS_LIMIT or not all(isinstance(value, SCALARS) for value in values):
            raise _wrong(field, "must be a value or a list of values")
        excluded = [_any_equal(_scalar(value, field)) for value in values]
    return lambda value: not isinstance(value, Missing) and not any(test(value) for test in excluded)


def _text(argument: Any, field: str) -> str:
    if not isinstance(argument, str) or not 0 < len(argument) <= TEXT_LIMIT_CHARS:
        raise _wrong(field, f"must be a text of 1 to {TEXT_LIMIT_CHARS} characters")
    return argument


def _scalar(value: Any, field: str) -> Any:
    if isinstance(value, str) and len(value) > TEXT_LIMIT_CHARS:
        raise _wrong(field, f"longer than {TEXT_LIMIT_CHARS} characters")
    return value


_TEXT_CONDITIONS: dict[str, Callable[[Any, str], Test]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignore_case,
    "wildcard": _wildcard,
}
_CONDITIONS: dict[str, Callable[[Any, str], Test]] = {
    **_TEXT_CONDITIONS,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
}


def _wrong(field: str, what: str) -> Rejected:
    return Rejected(f"{field}: {what}", field=field, code="invalid-argument")
