"""Which events a trigger takes: patterns over an event's attributes and data, compiled once, matched often.

The vocabulary is that of Amazon EventBridge's event patterns, which many know: an object mirrors the event, a list
names alternatives, and an alternative is a value or one of a few conditions. Everything in an object must hold. Two
liberties: a value may stand without its list, and a key may be a dotted path. See docs/events.md.

Matching is bounded in steps, not in time: see domain/work.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rota_server.domain.matching.leaves import CONDITIONS, SCALARS, Leaves, wrong
from rota_server.domain.matching.paths import FIRST_PART, MISSING, Missing, split_name
from rota_server.domain.work import Work

CONDITIONS_LIMIT = 200
DEPTH_LIMIT = 20
MATCH_STEPS = 200_000
"""Of one pattern and one event. Each value at a place is about one step, also where a place has many alternatives."""

Test = Callable[[Any, Work], bool]
"""Of what stands at a place of the event, perhaps a list, perhaps MISSING. Raises TooMuchWork."""

TEXT_CONDITIONS = ("prefix", "suffix", "equals-ignore-case", "wildcard")
ALL_CONDITIONS = (*TEXT_CONDITIONS, "anything-but", "numeric", "exists")


class Pattern:
    """A compiled pattern. `types`: the only event types that can match, None when it does not say."""

    def __init__(self, test: Test, types: frozenset[str] | None) -> None:
        self._test = test
        self.types = types

    def matches(self, view: Mapping[str, Any], work: Work | None = None) -> bool:
        """Whether the event, as `event_view` shows it, matches. Raises TooMuchWork."""
        return self._test(view, work or Work("matching the event", MATCH_STEPS))


def compile_pattern(pattern: Any, field: str = "match", names: Collection[str] | None = None) -> Pattern:
    """The pattern ready for use. `names`: what it may speak of, None for a published event's attributes and data.

    Raises Rejected that names the wrong part (`match.data.amount`).
    """
    if not isinstance(pattern, Mapping) or not pattern:
        raise wrong(field, "must be a JSON object with at least one condition")
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
                raise wrong(f"{field}.{name}", f"must begin with one of {', '.join(sorted(self._names))}")
            if self._names is None and FIRST_PART.fullmatch(first) is None:
                raise wrong(f"{field}.{name}", "must be an attribute's name, or begin with data")
        return self.object(pattern, field, 1, top=True)

    def object(self, pattern: Mapping[str, Any], field: str, depth: int, *, top: bool = False) -> Test:
        if depth > DEPTH_LIMIT:
            raise wrong(field, f"nested deeper than {DEPTH_LIMIT}")
        if not pattern:
            raise wrong(field, "must hold at least one condition")
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
            raise wrong(field, "must be a list of at least two patterns")
        tests = []
        for index, pattern in enumerate(patterns):
            inner = f"{field}.{index}"
            if not isinstance(pattern, Mapping):
                raise wrong(inner, "must be a JSON object")
            tests.append(self.event(pattern, inner) if top else self.object(pattern, inner, depth + 1))
        return _either(tests)

    def alternatives(self, part: Any, field: str) -> Test:
        if not isinstance(part, list):
            return self.any_of([(part, field)])
        if not part:
            raise wrong(field, "names no alternative")
        return self.any_of([(one, f"{field}.{index}") for index, one in enumerate(part)])

    def any_of(self, parts: Sequence[tuple[Any, str]]) -> Test:
        """One of the alternatives; those of single values are asked for together."""
        together = Leaves()
        tests: list[Test] = []
        for part, field in parts:
            self._left -= 1
            if self._left < 0:
                raise wrong(field, f"more than {CONDITIONS_LIMIT} conditions")
            if isinstance(part, SCALARS):
                together.equal(part, field)
                continue
            if not isinstance(part, Mapping) or len(part) != 1:
                raise wrong(field, "must be a value, or an object with exactly one condition")
            ((name, argument),) = part.items()
            inner = f"{field}.{name}"
            if name in CONDITIONS:
                together.condition(name, argument, inner)
            elif name == "exists":
                tests.append(_exists(argument, inner))
            elif name == "anything-but":
                tests.append(_anything_but(argument, inner))
            else:
                raise wrong(field, f"there is no condition {name!r}; there are {', '.join(ALL_CONDITIONS)}")
        return _either([together.any_of, *tests] if together else tests)


def _at(key: str, test: Test) -> Test:
    """The test of what stands under `key`; of a list of objects, of any one's."""

    def holds(value: Any, work: Work) -> bool:
        work.spend()
        if isinstance(value, Mapping):
            return test(value.get(key, MISSING), work)
        if isinstance(value, list):
            return any(holds(element, work) for element in value)
        return test(MISSING, work)

    return holds


def _all(tests: list[Test]) -> Test:
    """All tests of one and the same object: of a list, one element must pass them all."""
    if len(tests) == 1:
        return tests[0]

    def holds(value: Any, work: Work) -> bool:
        work.spend()
        if isinstance(value, list):
            return any(holds(element, work) for element in value)
        return all(test(value, work) for test in tests)

    return holds


def _either(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda value, work: any(test(value, work) for test in tests)


def _exists(argument: Any, field: str) -> Test:
    if not isinstance(argument, bool):
        raise wrong(field, "must be true or false")
    return lambda value, _: isinstance(value, Missing) is not argument


def _anything_but(argument: Any, field: str) -> Test:
    """It is there, and nothing of it is what is excluded."""
    excluded = Leaves()
    if isinstance(argument, Mapping):
        if len(argument) != 1 or next(iter(argument)) not in TEXT_CONDITIONS:
            raise wrong(field, f"takes values, or one of {', '.join(TEXT_CONDITIONS)}")
        ((name, inner),) = argument.items()
        texts = inner if isinstance(inner, list) and inner else [inner]
        if len(texts) > CONDITIONS_LIMIT:
            raise wrong(field, f"more than {CONDITIONS_LIMIT} texts")
        for text in texts:
            excluded.condition(name, text, f"{field}.{name}")
    else:
        values = argument if isinstance(argument, list) else [argument]
        if not 0 < len(values) <= CONDITIONS_LIMIT or not all(isinstance(value, SCALARS) for value in values):
            raise wrong(field, "must be a value or a list of values")
        for value in values:
            excluded.equal(value, field)
    return lambda value, work: not isinstance(value, Missing) and not excluded.any_of(value, work)
