"""Decodes JSON bodies and says precisely what is wrong with them.

Refuses what some part of the system could not hold as it was given: NUL and lone surrogates in text, numbers that
would silently become other numbers. Never lets such a value through by rounding or replacing it.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterable
from typing import Any

import orjson

from rota_server.domain.errors import Rejected

DEPTH_LIMIT = 64
"""How deep values may be nested."""

NESTING_LIMIT = DEPTH_LIMIT + 4
"""How deep a whole body may be nested: the value, and the body around what is limited."""

PATH_LIMIT_CHARS = 200
SMALL_BYTES = 64 * 1024
"""Up to here decoding takes less than a switch to another thread, or at worst some milliseconds."""

INTEGERS = range(-(2**63), 2**64)
LONG_NUMBER = re.compile(rb"\d{19}")
STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+\\?+"?+', re.DOTALL)
"""Strings, an unfinished last one too: whatever begins with a quote matches, and nothing is read twice."""

ONE_KIND = bytes.maketrans(b"{}", b"[]")
VALUES = bytes(set(range(256)) - set(b"[]{}"))


HOLDERS_LIMIT = 500_000
"""How many objects and arrays one JSON text may hold: what costs time and memory is their number, not the bytes."""


class Malformed(Rejected):
    """Not JSON, at this place (line and column from 1)."""

    def __init__(self, reason: str, line: int, column: int) -> None:
        self.reason, self.line, self.column = reason, line, column
        super().__init__(f"the body is not JSON: {reason} (line {line}, column {column})", code="malformed-json")


class _Unusable:
    """Stands in a decoded value for a number that cannot be kept."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


def load_json(body: bytes) -> Any:
    """The decoded body. Raises Rejected that says where it is wrong, or which field is unusable.

    An object that has a name twice is refused: which of the values counts would be anybody's guess.
    """
    skeleton = STRINGS.sub(b"", body)
    if skeleton.count(b"[") + skeleton.count(b"{") > HOLDERS_LIMIT:
        raise Rejected(f"holds more than {HOLDERS_LIMIT} objects and arrays", code="too-large")
    if _too_deep(skeleton):
        raise Rejected(f"nested deeper than {DEPTH_LIMIT}", code="too-deep")
    value, suspicious = _decode(body)
    if skeleton.count(b":") > _names(value):
        _refuse_duplicates(body)
    if suspicious:
        _refuse_unusable(value, "")
    return value


async def decode_json(body: bytes) -> Any:
    """As `load_json`; what takes long is done beside the loop."""
    return load_json(body) if len(body) <= SMALL_BYTES else await asyncio.to_thread(load_json, body)


def check_depth(value: Any, path: str) -> None:
    """Raise Rejected when the value is nested deeper than the limit."""
    level = [value]
    for _ in range(DEPTH_LIMIT + 1):
        level = [
            part
            for holder in level
            for part in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(part, dict | list)
        ]
        if not level:
            return
    raise Rejected(f"{path}: nested deeper than {DEPTH_LIMIT}", field=path, code="too-deep")


def shown(path: str) -> str:
    """A path as it may stand in an answer: printable and of bounded length."""
    text = path.encode("ascii", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= PATH_LIMIT_CHARS else text[:PATH_LIMIT_CHARS] + "..."


def _too_deep(skeleton: bytes) -> bool:
    """Whether JSON without its strings is nested deeper than the limit.

    Found by taking away the innermost brackets again and again: in time that no input makes longer than the limit
    times its length, and without recursion, whose own limit depends on who calls.
    """
    if skeleton.count(b"[") + skeleton.count(b"{") <= NESTING_LIMIT:
        return False
    brackets = skeleton.translate(ONE_KIND, VALUES)
    for _ in range(NESTING_LIMIT):
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):  # brackets without partners: not JSON, as the decoder will say
            return False
        brackets = inner
    return bool(brackets)


def _names(value: Any) -> int:
    """How many names the objects in a value have."""
    found = 0
    holders = [value] if isinstance(value, dict | list) else []
    while holders:
        holder = holders.pop()
        parts: Iterable[Any] = holder
        if isinstance(holder, dict):
            found += len(holder)
            parts = holder.values()
        holders += [part for part in parts if isinstance(part, dict | list)]
    return found


def _refuse_duplicates(body: bytes) -> None:
    def pairs(found: list[tuple[str, Any]]) -> None:
        names: set[str] = set()
        for name, _ in found:
            if name in names:
                raise Rejected(f"{shown(name)}: is there twice in one object", field=name, code="duplicate-name")
            names.add(name)

    text = body.decode("utf-8", "surrogatepass")
    json.loads(text, object_pairs_hook=pairs, parse_int=str, parse_float=str, parse_constant=str)


def _decode(body: bytes) -> tuple[Any, bool]:
    """The value, and whether it may hold something unusable."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            return _decode_leniently(body), True
        except (ValueError, RecursionError):
            raise Malformed(error.msg.partition(": line ")[0], error.lineno, error.colno) from None
    if b"\\u0000" in body:
        return value, True
    if LONG_NUMBER.search(body):
        return _decode_leniently(body), True
    return value, False


def _decode_leniently(body: bytes) -> Any:
    """Decode what is JSON but for unusable texts and numbers, so that it can be said where these are."""
    text = body.decode("utf-8", "surrogatepass")
    return json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _integer(text: str) -> int | _Unusable:
    if len(text) > 20 or int(text) not in INTEGERS:
        return _Unusable("an integer outside 64 bits")
    return int(text)


def _float(text: str) -> float | _Unusable:
    value = float(text)
    return value if math.isfinite(value) else _Unusable("a number that is too large")


def _constant(text: str) -> _Unusable:
    return _Unusable(f"{text}, which is no JSON number")


def _refuse_unusable(value: Any, path: str) -> None:
    if isinstance(value, str):
        if "\x00" in value or not _encodable(value):
            field = shown(path)
            message = f"{field or 'the body'}: contains a NUL or a lone surrogate"
            raise Rejected(message, field=field or None, code="invalid-text")
    elif isinstance(value, _Unusable):
        field = shown(path)
        raise Rejected(f"{field or 'the body'}: {value.problem}", field=field or None, code="invalid-number")
    elif isinstance(value, dict):
        for key, part in value.items():
            inner = f"{path}.{key}" if path else key
            _refuse_unusable(key, inner)
            _refuse_unusable(part, inner)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _refuse_unusable(part, f"{path}.{index}" if path else str(index))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
