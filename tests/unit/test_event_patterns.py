"""Patterns and templates over published events."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota_server.domain.errors import Rejected
from rota_server.domain.matching.paths import MISSING, event_view, find, parse_path, split_name
from rota_server.domain.matching.patterns import compile_pattern
from rota_server.domain.matching.templates import check_template, holes, is_template, render

STORED = {
    "id": "1", "source": "/shop/eu", "type": "order.paid", "subject": None, "time": None,
    "data": {"amount": 12.5, "count": 3, "vip": True, "note": None, "tags": ["a", "b"],
             "items": [{"sku": "x", "n": 1}, {"sku": "y", "n": 5}], "a.b": "dot", "": "empty"},
    "extensions": {"region": "eu", "retries": 2},
}  # fmt: skip
VIEW = event_view(STORED)

MATCHING: list[dict[str, Any]] = [
    {"type": "order.paid"},
    {"type": ["other", "order.paid"]},
    {"source": [{"prefix": "/shop"}]},
    {"source": [{"suffix": "/eu"}], "region": "eu"},
    {"type": [{"wildcard": "order.*"}]},
    {"type": [{"wildcard": "*.p*d"}]},
    {"type": [{"wildcard": "*"}]},
    {"type": [{"equals-ignore-case": "ORDER.PAID"}]},
    {"subject": [{"exists": False}]},
    {"data": {"amount": [{"numeric": [">", 12, "<=", 12.5]}]}},
    {"data": {"count": 3.0}},
    {"data": {"note": None}},
    {"data": {"vip": True}},
    {"data": {"tags": "b"}},
    {"data": {"tags": [{"exists": True}]}},
    {"data": {"items": {"sku": "y", "n": [{"numeric": [">", 4]}]}}},
    {"data.items.sku": "x", "data.items.n": 5},
    {"data.a\\.b": "dot"},
    {"data": {"missing": {"deeper": [{"exists": False}]}}},
    {"type": [{"anything-but": ["a", "b"]}]},
    {"type": [{"anything-but": {"prefix": "test."}}]},
    {"$or": [{"type": "no"}, {"retries": 2}]},
    {"data": {"$or": [{"count": 9}, {"vip": True}]}},
    {"retries": [{"numeric": ["=", 2]}]},
]
NOT_MATCHING: list[dict[str, Any]] = [
    {"type": "order"},
    {"type": "order.paid", "source": "/other"},
    {"type": [{"wildcard": "order.*.paid"}]},
    {"type": [{"wildcard": "order.paid*x"}]},
    {"type": [{"wildcard": "*paid.order"}]},
    {"data": {"vip": 1}},
    {"data": {"count": True}},
    {"data": {"count": "3"}},
    {"data": {"missing": None}},
    {"data": {"missing": [{"anything-but": "x"}]}},
    {"data": {"tags": [{"anything-but": "a"}]}},
    {"data": {"items": {"sku": "x", "n": 5}}},
    {"data": {"vip": [{"numeric": [">", 0]}]}},
    {"data": {"amount": {"deeper": 1}}},
    {"subject": [{"exists": True}]},
    {"$or": [{"type": "no"}, {"retries": 3}]},
]


@pytest.mark.parametrize("pattern", MATCHING, ids=str)
def test_these_patterns_match(pattern: dict[str, Any]):
    assert compile_pattern(pattern).matches(VIEW)


@pytest.mark.parametrize("pattern", NOT_MATCHING, ids=str)
def test_these_patterns_do_not(pattern: dict[str, Any]):
    assert not compile_pattern(pattern).matches(VIEW)


@pytest.mark.parametrize(
    ("pattern", "field"),
    [
        ({}, "match"),
        ("x", "match"),
        ({"Type": "x"}, "match.Type"),
        ({"type": []}, "match.type"),
        ({"type": [{}]}, "match.type.0"),
        ({"type": [{"like": "x"}]}, "match.type.0"),
        ({"type": [{"prefix": "a", "suffix": "b"}]}, "match.type.0"),
        ({"type": [{"prefix": ""}]}, "match.type.0.prefix"),
        ({"data": {}}, "match.data"),
        ({"data": {"n": [{"numeric": [">"]}]}}, "match.data.n.0.numeric"),
        ({"data": {"n": [{"numeric": ["<>", 1]}]}}, "match.data.n.0.numeric.0"),
        ({"data": {"n": [{"numeric": [">", True]}]}}, "match.data.n.0.numeric.1"),
        ({"data": {"n": [{"exists": "yes"}]}}, "match.data.n.0.exists"),
        ({"data": {"n": [{"anything-but": []}]}}, "match.data.n.0.anything-but"),
        ({"$or": [{"type": "x"}]}, "match.$or"),
        ({"data..x": 1}, "match.data..x"),
        ({"type": ["x" * 1025]}, "match.type.0"),
        ({"type": [str(n) for n in range(201)]}, "match.type.200"),
    ],
    ids=str,
)
def test_wrong_patterns_are_refused_with_the_place(pattern: Any, field: str):
    with pytest.raises(Rejected) as caught:
        compile_pattern(pattern)
    assert caught.value.field == field


def test_a_pattern_knows_the_types_that_it_can_match():
    assert compile_pattern({"type": ["a", "b"]}).types == {"a", "b"}
    assert compile_pattern({"type": [{"prefix": "a"}]}).types is None
    assert compile_pattern({"source": "a"}).types is None


@given(st.text(alphabet="ab*", max_size=8).filter(bool), st.text(alphabet="ab", max_size=8))
def test_wildcards_are_what_regular_expressions_say(pattern: str, text: str):
    wanted = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
    assert compile_pattern({"subject": [{"wildcard": pattern}]}).matches({"subject": text}) is wanted


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values, values)
def test_matching_never_fails_and_exists_is_the_opposite_of_not_exists(data: Any, other: Any):
    view = {"data": data, "subject": "x"}
    there, absent = ({"data": {"a": [{"exists": flag}]}} for flag in (True, False))
    if isinstance(data, dict):
        assert compile_pattern(there).matches(view) is not compile_pattern(absent).matches(view)
    for pattern in (there, absent, {"data.a.b": [{"anything-but": 1}]}, {"data": [{"numeric": [">", 0]}]}):
        assert compile_pattern(pattern).matches(view) in (True, False)


@given(values)
def test_a_value_without_references_is_rendered_as_it_is(value: Any):
    assert not is_template(value)
    assert render(value, VIEW, "args") == value


@given(values)
def test_a_literal_is_taken_as_it_is(value: Any):
    assert render({"x": {"$literal": value}}, VIEW, "args") == {"x": value}


def test_references_stand_for_the_values_there():
    template = {
        "whole": {"$event": "data.items"},
        "one": {"$event": "data.items.1.sku"},
        "text": "${type} in ${region}: ${data.amount} ${data.vip} $${HOME}",
        "default": {"$event": "data.nothing", "default": [1]},
        "null": {"$event": "data.note"},
        "escaped": {"$event": "data.a\\.b"},
        "listed": [{"$event": "id"}, 5],
    }
    check_template(template, "args")
    assert render(template, VIEW, "args") == {
        "whole": [{"sku": "x", "n": 1}, {"sku": "y", "n": 5}],
        "one": "y",
        "text": "order.paid in eu: 12.5 true ${HOME}",
        "default": [1],
        "null": None,
        "escaped": "dot",
        "listed": ["1", 5],
    }
    assert ("listed", "0") in holes(template)
    assert ("text",) in holes(template)


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ({"a": {"$event": ""}}, "args.a"),
        ({"a": {"$event": 5}}, "args.a"),
        ({"a": [{"$event": "Data"}]}, "args.a.0"),
        ({"a": "x ${HOME}"}, "args.a"),
        ({"a": "${}"}, "args.a"),
        ({"a": {"$event": "data.x\\y"}}, "args.a"),
        ({"a": {"$event": "data."}}, "args.a"),
    ],
)
def test_references_that_can_not_be_right_are_refused(template: Any, field: str):
    with pytest.raises(Rejected) as caught:
        check_template(template, "args")
    assert caught.value.field == field


@pytest.mark.parametrize("template", [{"$event": "data.nothing"}, "${data.nothing}", "${data.items}", "${data.note}"])
def test_what_the_event_does_not_have_is_told(template: Any):
    with pytest.raises(Rejected, match="data"):
        render({"a": template}, VIEW, "args")


def test_paths_are_split_at_dots_that_are_not_escaped():
    assert split_name("a.b\\.c.d\\\\", "f") == ("a", "b.c", "d\\")
    assert find({"a": [{"b": 1}]}, parse_path("a.0.b", "f")) == 1
    for path in ("a.1.b", "a.x", "a.0.b.c", "a.-1", "a.\u0660"):
        assert find({"a": [{"b": 1}]}, parse_path(path, "f")) is MISSING
