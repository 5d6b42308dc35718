"""Decodes JSON bodies and says precisely what is wrong with them.

Refuses what some part of the system could not hold as it was given: NUL and lone surrogates in text, numbers that
would silently become other numbers. Never lets such a value through by rounding or replacing it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

from domain.errors import Rejected

DEPTH_LIMIT = 64
"""How deep values may be nested."""

PATH_LIMIT_CHARS = 200
INTEGERS = range(-(2**63), 2**64)
LONG_NUMBER = re.compile(rb"\d{19}")


class _Unusable:
    """Stands in a decoded value for a number that can not be kept."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


def load_json(body: bytes) -> Any:
    """The decoded body. Raises Rejected that says where it is wrong, or which field is unusable."""
    value, suspicious = _decode(body)
    if suspicious:
        _refuse_unusable(value, "")
    return value


def load_items(body: bytes) -> list[Any]:
    """The items of a JSON array; an unusable item is replaced by its own Rejected. Raises Rejected for the whole."""
    value, suspicious = _decode(body)
    if not isinstance(value, list):
        raise Rejected("the body must be a JSON array", code="wrong-type")
    return [_checked(item) for item in value] if suspicious else value


def load_lines(body: bytes, limit: int) -> list[Any]:
    """One value a line (NDJSON), up to one more than `limit`; an unusable line is replaced by its own Rejected."""
    values: list[Any] = []
    for line in body.split(b"\n"):
        if not line.strip():
            continue
        if len(values) > limit:
            break
        try:
            values.append(load_json(line))
        except Rejected as error:
            values.append(error)
    return values


def refuse_duplicates(body: bytes) -> None:
    """Raise Rejected when an object of this JSON has a name twice: which value counts would be anybody's guess."""

    def pairs(found: list[tuple[str, Any]]) -> None:
        names: set[str] = set()
        for name, _ in found:
            if name in names:
                raise Rejected(f"{shown(name)}: is there twice in one object", field=name, code="duplicate-name")
            names.add(name)

    json.loads(body, object_pairs_hook=pairs, parse_int=str, parse_float=str)


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


def _decode(body: bytes) -> tuple[Any, bool]:
    """The value, and whether it may hold something unusable."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            return _decode_leniently(body), True
        except (ValueError, RecursionError):
            reason = error.msg.partition(": line ")[0]
            message = f"the body is not JSON: {reason} (line {error.lineno}, column {error.colno})"
            raise Rejected(message, code="malformed-json") from None
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


def _checked(item: Any) -> Any:
    try:
        _refuse_unusable(item, "")
    except Rejected as error:
        return error
    return item


def _refuse_unusable(value: Any, path: str, depth: int = 0) -> None:
    if depth > DEPTH_LIMIT + 4:  # the body around what is limited
        raise Rejected(f"nested deeper than {DEPTH_LIMIT}", field=shown(path), code="too-deep")
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
            _refuse_unusable(key, inner, depth + 1)
            _refuse_unusable(part, inner, depth + 1)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _refuse_unusable(part, f"{path}.{index}" if path else str(index), depth + 1)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
