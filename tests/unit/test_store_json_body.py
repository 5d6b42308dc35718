"""Decoding JSON bodies: what is let through is exactly what was sent."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.apps.store.http import json_body
from rota_server.apps.store.http.fields import digest_of
from rota_server.apps.store.http.json_body import DEPTH_LIMIT, NESTING_LIMIT, check_depth, load_json
from rota_server.apps.store.jobs.parsing import parse_job
from rota_server.domain.errors import Rejected

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10)
FITTING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(FITTING, st.booleans())
def test_whatever_fits_is_let_through_unchanged(value: Any, ascii_only: bool):  # noqa: FBT001 - hypothesis passes it
    assert load_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.integers())
def test_an_integer_is_kept_exactly_or_refused(number: int):
    body = b'{"a":[%d]}' % number
    if -(2**63) <= number < 2**64:
        assert load_json(body) == {"a": [number]}
    else:
        with pytest.raises(Rejected, match=r"^a\.0: an integer outside 64 bits$"):
            load_json(body)


@given(st.binary(max_size=40))
def test_no_bytes_end_in_anything_but_a_value_or_a_refusal(body: bytes):
    with contextlib.suppress(Rejected):
        load_json(body)


DEEP = st.tuples(st.integers(1, 1300), st.sampled_from(["[", '{"a":', '[{"a":', '[1,{"b":[],"a":']))
INNERMOST = st.sampled_from(["1", "", "NaN", '"x"', '"\\u0000"', "1234567890123456789012", '"]}"'])


@given(DEEP, INNERMOST, st.sampled_from(["", "1234567890123456789", "1e999", '"\\ud800"']), st.integers(0, 2))
@settings(max_examples=300, deadline=None)
def test_nesting_of_any_depth_is_a_value_or_a_refusal(deep: tuple[int, str], inner: str, beside: str, missing: int):
    times, opening = deep
    closing = "".join({"[": "]", "{": "}"}[c] for c in reversed(opening) if c in "[{" and not opening.endswith("[],"))
    closing = "}]" if opening.startswith("[1") else closing
    text = opening * times + inner + closing * times
    text = text[: len(text) - missing]
    body = f'{{"n":{beside},"v":{text}}}' if beside else text
    with contextlib.suppress(Rejected):
        load_json(body.encode())


@pytest.mark.parametrize("pair", ["[]", "{}"])
@pytest.mark.parametrize("number", ["1", "1234567890123456789", "12345678901234567890123"])
@pytest.mark.parametrize("depth", [NESTING_LIMIT, 200, 960, 980, 1000, 1022, 1023, 1024, 5000])
def test_nesting_beyond_the_limit_is_refused_as_such(pair: str, number: str, depth: int):
    opening = '{"a":' if pair == "{}" else "["
    body = f'{{"n":{number},"v":{opening * depth}{number}{pair[1] * depth}}}'
    with pytest.raises(Rejected) as refused:
        load_json(body.encode())
    assert refused.value.code == "too-deep"


def test_brackets_in_strings_do_not_nest():
    assert load_json(b'["%b"]' % (b'[{\\"' * 500)) == ['[{"' * 500]
    assert len(load_json(b"[%b[]]" % (b"[[]]," * 500))) == 501


def test_a_name_that_is_there_twice_is_refused():
    for body, name in (
        (b'{"a":1,"a":1}', "a"),
        (b'{"a":1,"\\u0061":2}', "a"),
        (b'[{"b":{"c":":","d":[{"x:y":1,"x:y":NaN}]}}]', "x:y"),
    ):
        with pytest.raises(Rejected) as refused:
            load_json(body)
        assert (refused.value.code, refused.value.field) == ("duplicate-name", name)
    assert load_json(b'{"a":{"a":1},"b":[{"a":2},{"a":3}],"c:":":"}')["a"] == {"a": 1}


def test_what_costs_memory_is_bounded_by_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_body, "HOLDERS_LIMIT", 10)
    assert len(load_json(b'[{},[],{},[],{},[],{},[],"[[{{"]')) == 9
    with pytest.raises(Rejected) as refused:
        load_json(b"[{},[],{},[],{},[],{},[],{},[]]")
    assert refused.value.code == "too-large"


def test_what_only_looks_unusable_is_let_through():
    for text in (
        '{"a":"\\\\u0000"}',
        '{"a":"12345678901234567890123"}',
        '{"a":0.12345678901234567890}',
        '"\\ud83d\\ude00"',
    ):
        assert load_json(text.encode()) == json.loads(text)


def test_encodings_other_than_utf8_are_no_json():
    for body in ('{"a":1}'.encode("utf-16"), b"\xef\xbb\xbf{}", '{"a":"ü"}'.encode("latin-1")):
        with pytest.raises(Rejected) as refused:
            load_json(body)
        assert refused.value.code == "malformed-json"


def test_the_depth_limit_holds_exactly():
    value: Any = []
    for _ in range(DEPTH_LIMIT):
        value = [value]
    check_depth(value, "args")
    with pytest.raises(Rejected):
        check_depth([value], "args")


@given(FITTING)
def test_a_digest_does_not_depend_on_the_order_of_fields(value: Any):
    assert digest_of({"a": value, "b": 1}) == digest_of({"b": 1, "a": value})


@given(st.dictionaries(TEXT, FITTING, max_size=5))
def test_the_arguments_of_an_accepted_job_are_those_that_were_sent(args: dict[str, Any]):
    body = orjson.dumps({"task": "any", "args": args})
    spec = parse_job(load_json(body), datetime.now(UTC), None)
    assert spec.args == args
