"""Patterns and templates at their limits: bounded in steps, the same on every machine, and never long on the loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota_server.domain.errors import Rejected
from rota_server.domain.matching.patterns import MATCH_STEPS, compile_pattern
from rota_server.domain.matching.templates import RENDERED_LIMIT_CHARS, render
from rota_server.domain.work import TooMuchWork, Work

LONGEST_SECONDS = 5.0
"""On a machine with ten other things to do. Without a bound the first pattern took 45 s."""

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
BIG = {"a": [1] * 120_000}
TEXTS = {"a": ["x" * 1000] * 240}
DEEP: dict[str, Any] = {"a": [[{"b": [1] * 200, "c": [2] * 200}] * 10] * 25}
EVENTS = {
    "numbers": BIG,
    "one long text": {"a": "x" * 240_000},
    "texts": TEXTS,
    "short texts": {"a": ["x"] * 60_000},
    "objects": {"a": [{"b": 1}] * 30_000},
    "objects in lists in lists": DEEP,
    "nested lists": {"a": json.loads("[" * 60 + "]" * 60)},
}
PATTERNS: dict[str, Any] = {
    "numeric": {"data.a": [{"numeric": [">", number + 2]} for number in range(199)]},
    "many ranges": {"data.a": [{"numeric": [">", 2 * n + 2, "<", 2 * n + 3]} for n in range(199)]},
    "values": {"data.a": [f"y{number}" for number in range(199)]},
    "ends": {"data.a": [{"suffix": f"{number}" * 300} for number in range(199)]},
    "wildcards": {"data.a": [{"wildcard": "x*" * 9 + f"y{number}"} for number in range(199)]},
    "cases": {"data.a": [{"equals-ignore-case": f"Y{number}"} for number in range(199)]},
    "anything but": {"data.a": [{"anything-but": {"prefix": ["x", f"z{number}"]}} for number in range(99)]},
    "either": {"$or": [{"data.a.b": number, "data.a.c": number} for number in range(2, 100)]},
    "nested": {"data": {"a": {"b": [{"numeric": ["=", 3]}], "c": {"d": [{"exists": True}]}}}},
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_longest_match_is_bounded_whatever_the_pattern_and_the_event(pattern: str, event: str) -> None:
    compiled, view = compile_pattern(PATTERNS[pattern]), {"type": "t", "data": EVENTS[event]}
    outcomes = []
    for _ in range(2):
        work = Work("matching the event", MATCH_STEPS)
        began = time.perf_counter()
        try:
            outcomes.append((compiled.matches(view, work), work.spent))
        except TooMuchWork as error:
            outcomes.append((error.message, work.spent))
        assert time.perf_counter() - began < LONGEST_SECONDS
    assert outcomes[0] == outcomes[1]


def test_as_many_alternatives_as_may_be_cost_no_more_than_one() -> None:
    view = {"data": BIG}
    steps = []
    for pattern in ({"data.a": [{"numeric": [">", 2]}]}, PATTERNS["numeric"], PATTERNS["values"]):
        work = Work("matching the event", MATCH_STEPS)
        assert not compile_pattern(pattern).matches(view, work)
        steps.append(work.spent)
    assert len(set(steps)) == 1


comparison = st.tuples(st.sampled_from(sorted(OPERATORS)), st.integers(-3, 3))


@given(st.lists(st.lists(comparison, min_size=1, max_size=2), min_size=1, max_size=6), st.lists(st.integers(-4, 4)))
def test_many_comparisons_together_hold_when_one_of_them_does(alternatives: list[Any], numbers: list[int]) -> None:
    pattern = {"data": [{"numeric": [part for pair in pairs for part in pair]} for pairs in alternatives]}
    wanted = any(
        all(OPERATORS[sign](number / 2, limit) for sign, limit in pairs) for pairs in alternatives for number in numbers
    )
    assert compile_pattern(pattern).matches({"data": [number / 2 for number in numbers]}) is wanted


scalar = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.floats(-2, 2), st.sampled_from(["", "a", "A", "ab"])
)


@given(st.lists(scalar, min_size=1, max_size=5), st.recursive(scalar, st.lists, max_leaves=8))
def test_many_values_together_hold_when_one_of_them_is_there(wanted: list[Any], value: Any) -> None:
    def same(leaf: Any, one: Any) -> bool:
        return leaf is one if isinstance(leaf, bool) or isinstance(one, bool) else bool(leaf == one)

    def leaves(found: Any) -> list[Any]:
        return [leaf for one in found for leaf in leaves(one)] if isinstance(found, list) else [found]

    expected = any(same(leaf, one) for leaf in leaves(value) for one in wanted)
    assert compile_pattern({"data": wanted}).matches({"data": value}) is expected
    assert compile_pattern({"data": [{"anything-but": wanted}]}).matches({"data": value}) is not expected


@pytest.mark.parametrize(
    "template",
    [
        {"a": "${data.b}" * 500},
        {"a": [{"$event": "data.b"}] * 500},
        {"a": [{"$event": "data"}] * 500},
        {f"k{number}": "${data.b}" for number in range(500)},
    ],
)
def test_a_template_stops_rendering_at_its_limit(template: Any) -> None:
    began = time.perf_counter()
    with pytest.raises(Rejected) as refused:
        render(template, {"data": {"b": "x" * 200_000, "c": [1] * 20_000}}, "args")
    assert time.perf_counter() - began < LONGEST_SECONDS
    assert (refused.value.code, refused.value.field) == ("too-large", "args")


def test_a_template_may_be_as_large_as_its_limit() -> None:
    view = {"data": "x" * (RENDERED_LIMIT_CHARS - 2)}
    assert render({"$event": "data"}, view, "args") == view["data"]
    with pytest.raises(Rejected):
        render({"$event": "data"}, {"data": view["data"] + "x"}, "args")
