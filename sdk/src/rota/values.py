"""Python values as JSON values: arguments on their way to a task, results on their way back.

The rule stands in docs/tasks.md; `typed` is its other half. Never rounds, replaces or drops anything: what has no
faithful form in JSON is refused, with its place.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import inspect
import math
from collections import deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple, Type
from uuid import UUID

from rota.errors import NotJson

DEPTH_LIMIT = 64
"""How deep values may be nested, as in the store."""

COUNT_LIMIT = 128 * 1024
"""More values than this do not fit into the 256 KiB that arguments and results may have."""

BODY_COUNT_LIMIT = 64 * 1024 * 1024
BODY_DEPTH = 6
"""A workflow's jobs, a job, its arguments: so much stands around an argument."""

TOO_MANY = f"holds more than {COUNT_LIMIT} values: it would be larger than the 256 KiB that are allowed"
_INTEGERS = range(-(2**63), 2**64)


def plain(value: Any) -> Any:
    """The value as JSON has it. Raises NotJson when some part of it has no form in JSON; `place` says which."""
    return _Plain(nul=True).of(value)


def plain_body(value: Any) -> Any:
    """As `plain`, for a whole request: of many jobs, each with arguments up to the limits."""
    return _Plain(nul=True, depth=DEPTH_LIMIT + BODY_DEPTH, count=BODY_COUNT_LIMIT).of(value)


def plain_arguments(args: Mapping[str, Any]) -> "Dict[str, Any]":
    """The arguments of a task as JSON has them. Raises NotJson, whose place begins with `args`."""
    try:
        return _Plain(nul=False).of_mapping(args)
    except NotJson as error:
        raise error.within("args") from None


class _Plain:
    """One conversion, with the containers that it is inside of."""

    def __init__(self, *, nul: bool, depth: int = DEPTH_LIMIT, count: int = COUNT_LIMIT) -> None:
        self._nul = nul
        self._depth = depth
        self._within: "Set[int]" = set()
        self._left = count

    def of(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._text(value)
        if kind is int:
            return _integer(value)
        if kind is float:
            return _number(value)
        if kind is dict or kind is list or kind is tuple:
            return self._container(value)
        return self._other(value)

    def of_mapping(self, value: "Mapping[Any, Any]") -> "Dict[str, Any]":
        """An object; two keys that are the same text in JSON would lose one of the values."""
        result: "Dict[str, Any]" = {}
        self._count(len(value))
        for key, part in value.items():
            name = self._text(key) if type(key) is str else self._key(key)
            try:
                if name in result:
                    raise NotJson(f"two keys are {name!r} as texts, as all keys are in JSON")  # noqa: TRY301
                result[name] = self.of(part)
            except NotJson as error:
                raise error.within(name) from None
        return result

    def _of_items(self, value: Any) -> "List[Any]":
        result: "List[Any]" = []
        self._count(len(value))
        for index, part in enumerate(value):
            try:
                result.append(self.of(part))
            except NotJson as error:
                raise error.within(str(index)) from None
        return result

    def _count(self, more: int) -> None:
        # A value that stands at several places counts at each, as it does in JSON: a few lines can make billions.
        self._left -= more
        if self._left < 0:
            raise NotJson(TOO_MANY)

    def _container(self, value: Any) -> Any:
        if id(value) in self._within:
            raise NotJson("contains itself")
        if len(self._within) == self._depth:
            raise NotJson(f"nested deeper than {self._depth}")
        self._within.add(id(value))
        try:
            if isinstance(value, Mapping):
                return self.of_mapping(value)
            if isinstance(value, (set, frozenset)):
                # In an order of their own, so that equal sets are equal arguments to whatever compares these.
                return sorted(self._of_items(value), key=repr)
            if dataclasses.is_dataclass(value):
                return self.of_mapping({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
            return self._of_items(value)
        finally:
            self._within.discard(id(value))

    def _other(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return self.of(value.value)
        for kinds, convert in _LEAVES:
            if isinstance(value, kinds):
                return convert(value)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, type):
            raise NotJson(f"{value.__qualname__} is a class")
        dump = getattr(value, "model_dump", None)
        if callable(dump):  # pydantic's models, which are not imported here
            return self._container(_dumped(dump))
        if isinstance(value, (Mapping, list, tuple, set, frozenset, deque)) or dataclasses.is_dataclass(value):
            return self._container(value)
        raise NotJson(_reason(value))

    def _text(self, text: str) -> str:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise NotJson("contains a lone surrogate, which UTF-8 does not have") from None
        if not self._nul and "\x00" in text:
            raise NotJson("contains a NUL")
        return text

    def _key(self, key: Any) -> str:
        if key is None or isinstance(key, bool):
            return {None: "null", True: "true", False: "false"}[key]
        value = self.of(key) if not isinstance(key, (tuple, frozenset)) else None
        if isinstance(value, str):
            return value
        if isinstance(value, (int, float)):
            return repr(value)
        raise NotJson(f"a key is a {type(key).__qualname__}; the keys of a JSON object are texts")


def _integer(value: int) -> int:
    if value not in _INTEGERS:
        raise NotJson("a number beyond 64 bits: pass it as a text")
    return int(value)


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise NotJson(f"{float(value)!r} is no number in JSON")
    return float(value)


def _seconds(value: timedelta) -> float:
    seconds = value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


_LEAVES: "Tuple[Tuple[Any, Callable[[Any], Any]], ...]" = (
    ((datetime, date, time), lambda value: value.isoformat()),
    (timedelta, _seconds),
    ((Decimal, UUID, PurePath), str),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),
    (bool, bool),
    (int, _integer),
    (float, _number),
)


def _dumped(dump: "Callable[..., Any]") -> Any:
    try:
        return dump(mode="json", by_alias=True)
    except (TypeError, ValueError) as error:
        raise NotJson(str(error)) from error


_HINTS: "Tuple[Tuple[Callable[[Any], bool], str], ...]" = (
    (inspect.isgenerator, "a generator: make it a list"),
    (inspect.isasyncgen, "an asynchronous generator: make it a list"),
    (inspect.isroutine, "a function: call it"),
)


def _reason(value: Any) -> str:
    if inspect.isawaitable(value):
        close: "Optional[Callable[[], Any]]" = getattr(value, "close", None)
        if close is not None:
            close()
        return "a coroutine that nobody awaits: `await` it, in an async function"
    for applies, said in _HINTS:
        if applies(value):
            return said
    kind: "Type[Any]" = type(value)
    return f"a {kind.__module__}.{kind.__qualname__}, which has no form in JSON"
