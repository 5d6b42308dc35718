"""The body of a bulk request: a JSON array or NDJSON of up to 64 MB, decoded piece by piece.

A decoder that is given all of it at once would hold the loop for seconds and take many times its size in memory. Here
the items are found and counted first, then each is looked at on its own, and no more of them are held than a group.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, NamedTuple

from rota_server.apps.store.http.json_body import Malformed, decode_json
from rota_server.domain.errors import Rejected

ITEM_LIMIT_BYTES = 1024 * 1024
GROUP_BYTES = 4 * 1024 * 1024
"""What is decoded and submitted together; more waits as the bytes it is."""

BRACKETS_LIMIT = 2_000_000
"""How many opening brackets a body may hold: each costs a hundred times what a letter does."""

TURN_BYTES = 64 * 1024
TURN_TOKENS = 2_000
PASS_BYTES = 4 * 1024 * 1024
"""Others get a turn after so much was decoded, or so many brackets or bytes were passed: a few milliseconds."""

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
BETWEEN = re.compile(rb'(?:[^"\[\]{},]++|%b)*+' % _STRING, re.DOTALL)
"""What stands before a comma or bracket."""

_FLAT = rb'(?:[^"\[\]{}]++|%b)*+' % _STRING
WITHIN = re.compile(rb'(?:[^"\[\]{}]++|%b|\[%b\]|\{%b\})*+' % (_STRING, _FLAT, _FLAT), re.DOTALL)
"""The same within an item, whose commas part nothing; innermost objects and arrays are passed as a whole."""

SPACE = re.compile(rb"[ \t\r\n]*+")


class _Piece(NamedTuple):
    start: int
    end: int


class BulkBody:
    """The items of one body, found by `array_body` or `lines_body`."""

    def __init__(self, body: bytes | bytearray, pieces: list[_Piece]) -> None:
        self._body = memoryview(body)
        self._pieces = pieces

    async def groups(self) -> AsyncIterator[list[Any]]:
        """The items, decoded, in groups of bounded size; one that is unusable is its own Rejected."""
        group: list[Any] = []
        size = 0
        for piece in self._pieces:
            length = piece.end - piece.start
            if size + length > GROUP_BYTES and group:
                yield group
                group, size = [], 0
            group.append(await self._item(piece))
            size += length
        yield group

    async def check(self) -> None:
        """Raise Malformed when an item is no JSON: then none of the body is taken."""
        seen = 0
        for piece in self._pieces:
            item = await self._item(piece)
            if isinstance(item, Malformed):
                raise _placed(self._body, piece, item)
            seen += piece.end - piece.start
            if seen > TURN_BYTES:
                seen = 0
                await asyncio.sleep(0)

    async def _item(self, piece: _Piece) -> Any:
        if piece.end - piece.start > ITEM_LIMIT_BYTES:
            return Rejected(f"larger than {ITEM_LIMIT_BYTES} bytes", code="too-large")
        try:
            return await decode_json(bytes(self._body[piece.start : piece.end]))
        except Rejected as error:
            return error


def lines_body(body: bytes | bytearray, limit: int) -> BulkBody:
    """One item a line (NDJSON). Raises Rejected when there are none or more than `limit`."""
    pieces: list[_Piece] = []
    start = 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        if not SPACE.fullmatch(body, start, end):
            pieces.append(_Piece(start, end))
            if len(pieces) > limit:
                break
        start = end + 1
    _check_count(pieces, limit)
    return BulkBody(body, pieces)


async def array_body(body: bytes | bytearray, limit: int) -> BulkBody:
    """The items of a JSON array. Raises Rejected: not JSON, no array, no items, more than `limit`, one too large."""
    start = _end(SPACE, body, 0, len(body))
    if body[start : start + 1] != b"[":
        if len(body) <= ITEM_LIMIT_BYTES:
            await decode_json(bytes(body))
        raise Rejected("the body must be a JSON array", code="wrong-type")
    pieces: list[_Piece] = []
    position, last, turn_at = start + 1, False, 0
    while not last and len(pieces) <= limit:
        if position > turn_at:
            turn_at = position + PASS_BYTES
            await asyncio.sleep(0)
        place = await _item_end(body, position, len(pieces))
        pieces.append(_Piece(position, place))
        last = body[place : place + 1] != b","
        position = place + 1
    if last:
        pieces = _ended(body, pieces, position)
    _check_count(pieces, limit)
    if sum(body.count(bracket) for bracket in (b"[", b"{")) > BRACKETS_LIMIT:
        raise Rejected(f"the body holds more than {BRACKETS_LIMIT} objects and arrays", code="too-large")
    found = BulkBody(body, pieces)
    await found.check()
    return found


async def _item_end(body: bytes | bytearray, start: int, number: int) -> int:
    """Where the comma or bracket stands that ends the item at `start`."""
    depth, place = 0, start
    until = min(len(body), start + ITEM_LIMIT_BYTES + 1)
    for tokens in count(1):
        place = _end(WITHIN if depth else BETWEEN, body, place, until)
        token = bytes(body[place : place + 1]) if place < until else b""
        if token in (b"", b'"'):
            break
        if depth == 0 and token in b",]}":
            return place
        depth += 1 if token in b"[{" else -1 if token in b"]}" else 0
        place += 1
        if tokens % TURN_TOKENS == 0:
            await asyncio.sleep(0)
    if until < len(body):
        raise Rejected(f"{number}: larger than {ITEM_LIMIT_BYTES} bytes", field=str(number), code="too-large")
    raise Malformed("unexpected end of data", *_place(memoryview(body), len(body)))


def _end(pattern: re.Pattern[bytes], body: bytes | bytearray, start: int, until: int) -> int:
    found = pattern.match(body, start, until)
    return start if found is None else found.end()


def _ended(body: bytes | bytearray, pieces: list[_Piece], position: int) -> list[_Piece]:
    """The pieces of an array whose end is before `position`. Raises Malformed when it is not the body's end."""
    if body[position - 1 : position] != b"]":
        raise Malformed("unexpected character", *_place(memoryview(body), position - 1))
    rest = _end(SPACE, body, position, len(body))
    if rest < len(body):
        raise Malformed("unexpected content after document", *_place(memoryview(body), rest))
    empty = len(pieces) == 1 and SPACE.fullmatch(body, *pieces[0]) is not None
    return [] if empty else pieces


def _check_count(pieces: list[_Piece], limit: int) -> None:
    if not 1 <= len(pieces) <= limit:
        raise Rejected(f"the body must hold 1 to {limit} jobs", code="wrong-count")


def _placed(body: memoryview, piece: _Piece, error: Malformed) -> Malformed:
    """The fault of an item where it is in the whole."""
    line, column = _place(body, piece.start)
    if error.line > 1:
        return Malformed(error.reason, line + error.line - 1, error.column)
    return Malformed(error.reason, line, column + error.column - 1)


def _place(body: memoryview, offset: int) -> tuple[int, int]:
    before = bytes(body[:offset])
    return before.count(b"\n") + 1, offset - before.rfind(b"\n")
