"""Decoding JSON bodies: what is let through is exactly what was sent."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.store.intake import digest_of, parse_job
from apps.store.json_body import DEPTH_LIMIT, check_depth, load_items, load_json, load_lines
from domain.errors import Rejected

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
    for load in (load_json, load_items, lambda text: load_lines(text, 5)):
        with contextlib.suppress(Rejected):
            load(body)


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


def test_items_of_an_array_are_refused_one_by_one():
    items = load_items(b'[{"a":1},{"a":"\\ud800"},{"a":99999999999999999999},{"a":NaN},{"a":2}]')
    assert [item.field if isinstance(item, Rejected) else item for item in items] == [{"a": 1}, "a", "a", "a", {"a": 2}]


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
