"""Bulk bodies: found piece by piece, what decoding the whole would find, at bounded cost for others."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.apps.store.jobs import bulk_body
from rota_server.apps.store.jobs.bulk_body import ITEM_LIMIT_BYTES, array_body, lines_body
from rota_server.domain.errors import Rejected

LIMIT = 20
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | st.text(st.sampled_from('a[]{},:"\\\n ü'), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a:[{"\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)


async def items(body: bytes, *, lines: bool = False) -> list[Any]:
    found = lines_body(body, LIMIT) if lines else await array_body(body, LIMIT)
    return [item async for group in found.groups() for item in group]


def fields(found: list[Any]) -> list[Any]:
    return [item.field if isinstance(item, Rejected) else item for item in found]


@settings(max_examples=50, deadline=None)
@given(st.lists(ANYTHING, min_size=1, max_size=LIMIT), st.sampled_from([None, 1]))
async def test_the_items_are_those_of_the_array(values: list[Any], indent: int | None):
    assert await items(json.dumps(values, indent=indent, ensure_ascii=False).encode()) == values
    assert await items(b"\n\r\n".join(json.dumps(value).encode() for value in values) + b" \n", lines=True) == values


@given(st.text(st.sampled_from('[]{},:"\\1 \n'), max_size=30))
async def test_no_body_is_taken_that_is_not_json(text: str):
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    try:
        found = await items(text.encode())
    except Rejected:
        assert not isinstance(expected, list) or not 1 <= len(expected) <= LIMIT
    else:
        if not any(isinstance(item, Rejected) for item in found):  # a name twice
            assert found == expected


async def test_items_are_refused_one_by_one():
    found = [{"a": 1}, "a", "a", "a", {"a": 2}, None, "a"]
    parts = [
        b'{"a":1}',
        b'{"a":"\\ud800"}',
        b'{"a":99999999999999999999}',
        b'{"a":NaN}',
        b'{"a":2}',
        b"[" * 1000 + b"]" * 1000,
        b'{"a":1,"a":1}',
    ]
    assert fields(await items(b"[%b]" % b",".join(parts))) == found
    assert fields(await items(b"\n".join(parts), lines=True)) == found


async def test_what_is_wrong_is_told_with_its_place_in_the_whole():
    for body, place in (
        (b'[{"a":1},\n  {"b" 2}]', "line 2, column 8"),
        (b'[{"a":1},\n {\n"b" 2}]', "line 3, column 5"),
        (b"[1, 2", "line 1, column 6"),
        (b"[1, 2]\n x", "line 2, column 2"),
        (b"[1}", "line 1, column 3"),
    ):
        with pytest.raises(Rejected, match=place) as refused:
            await items(body)
        assert refused.value.code == "malformed-json"


async def test_items_are_counted_before_any_is_decoded(monkeypatch: pytest.MonkeyPatch):
    async def decode(_body: bytes) -> Any:
        raise AssertionError

    monkeypatch.setattr(bulk_body, "decode_json", decode)
    for body, lines in ((b"[" + b"{}," * LIMIT + b"{}]", False), (b"1\n" * 21, True), (b"[]", False), (b" \n", True)):
        with pytest.raises(Rejected) as refused:
            await items(body, lines=lines)
        assert refused.value.code == "wrong-count"


async def test_an_item_may_be_as_large_as_a_request_and_no_larger():
    fitting = b'"%b"' % (b"x" * (ITEM_LIMIT_BYTES - 2))
    assert await items(b"[1,%b]" % fitting) == [1, json.loads(fitting)]
    with pytest.raises(Rejected) as refused:
        await items(b"[1, %b]" % fitting)
    assert (refused.value.code, refused.value.field) == ("too-large", "1")
    _, above, last = await items(b"1\n %b\n2" % fitting, lines=True)
    assert above.code == "too-large"
    assert last == 2


async def test_groups_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bulk_body, "GROUP_BYTES", 10)
    found = await array_body(b'["12345678","1","2","3","4",[123456789012345],5]', LIMIT)
    assert [len(group) async for group in found.groups()] == [1, 3, 1, 1, 1]


def longest_turn(looking: Coroutine[Any, Any, Any]) -> float:
    """The processor seconds that the coroutine takes at most before others get a turn. It must end in a refusal."""
    longest = 0.0
    gc.freeze()  # what other tests have left is not collected at this one's cost
    while True:
        began = time.thread_time()
        try:
            looking.send(None)
        except Rejected:
            gc.unfreeze()
            return longest
        finally:
            longest = max(longest, time.thread_time() - began)


@pytest.mark.parametrize(
    "item",
    [b'{"task":"noop","args":{"t":"%b"}}' % (b"x" * 6000), b'"%b"' % (b'\\"' * 3000), b"[%b1]" % (b"[],1," * 1200)],
)
def test_a_large_body_leaves_others_their_turns(item: bytes):
    body = b"[" + b",".join([item] * (20_000_000 // len(item) if b"x" in item else 300)) + b", 1 2]"
    assert longest_turn(array_body(body, 10_000)) < 0.2
