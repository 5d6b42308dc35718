"""JSON values as the Python values that annotations ask for: the other half of `values`.

Converts only where an annotation of the standard library's types, a dataclass, a model or a container of such says so;
what needs no conversion passes as it is, unchecked. Never imports anything of the user's.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import inspect
import types
import typing
from pathlib import PurePath
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from rota.errors import Mismatch
from rota.leaves import LEAVES, Converter, from_json, shown
from rota.values import plain

JSON_NAMES: "Dict[Any, str]" = {
    str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", dict: "object", list: "array",
}  # fmt: skip
"""What JSON Schema calls these."""

UNIONS = {typing.Union, getattr(types, "UnionType", typing.Union)}


def hints_of(function: Any) -> "Dict[str, Any]":
    """The annotations of a function that can be resolved, by parameter; `return` is that of the result."""
    function = inspect.unwrap(function)
    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - names that only a type checker knows; the others still count
        return _resolvable(function)


def _resolvable(function: Any) -> "Dict[str, Any]":
    def holder() -> None:
        """Carries one annotation at a time."""

    found: "Dict[str, Any]" = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        holder.__annotations__ = {name: annotation}
        try:
            found.update(typing.get_type_hints(holder, globalns=getattr(function, "__globals__", {})))
        except Exception:  # noqa: BLE001, S112 - as above
            continue
    return found


class Signature:
    """What a function's annotations say of its arguments and its result."""

    def __init__(self, function: Any) -> None:
        hints = hints_of(function)
        self.hints = hints
        self._converters = {name: made for name, hint in hints.items() if (made := known(converter, hint)) is not None}
        parameters = inspect.signature(function).parameters.values()
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        self._names = {p.name for p in parameters}

    def arguments(self, args: "Mapping[str, Any]") -> "Dict[str, Any]":
        """The arguments of a job as the function takes them. Raises Mismatch, whose place is the argument."""
        if not self._converters:
            return dict(args)
        return {name: self._argument(name, value) for name, value in args.items()}

    def _argument(self, name: str, value: Any) -> Any:
        convert = self._converters.get(name if name in self._names or self._rest is None else self._rest)
        return value if convert is None else _inside(name, convert, value)

    def result(self, value: Any) -> Any:
        """The result of a job as the function has returned it. Raises Mismatch."""
        convert = self._converters.get("return")
        return value if convert is None else convert(value)


def known(question: "Callable[[Any], Any]", hint: Any) -> Any:
    """The answer about an annotation, None when it is too odd to have one: that is no reason not to run the task."""
    try:
        return question(hint)
    except Exception:  # noqa: BLE001 - an annotation may be any object
        return None


def converter(hint: Any) -> Optional[Converter]:
    """How to make of a JSON value what the annotation says; None when it is that already, or nothing is known."""
    hint = bare(hint)
    if hint in LEAVES:
        return LEAVES[hint]
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in UNIONS:
        return _union(parts)
    if origin is not None:
        return _container(origin, parts)
    if isinstance(hint, type):
        return _of_class(hint)
    return None


def bare(hint: Any) -> Any:
    """Without what tells nothing about the value: Annotated, NewType, Final, a type alias."""
    while True:
        if typing.get_origin(hint) is getattr(typing, "Annotated", None):
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def _inside(name: object, convert: Converter, value: Any) -> Any:
    try:
        return convert(value)
    except Mismatch as error:
        raise error.within(str(name)) from error.__cause__


# -- containers -------------------------------------------------------------------------------------------------------

_SETS = {set: set, frozenset: frozenset, collections.abc.Set: frozenset, collections.abc.MutableSet: set}
_LISTS = {list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Iterable,
          collections.abc.Collection}  # fmt: skip
_OBJECTS = {dict, collections.abc.Mapping, collections.abc.MutableMapping, collections.OrderedDict}


def _container(origin: Any, parts: "Tuple[Any, ...]") -> Optional[Converter]:  # noqa: PLR0911 - one for each kind
    if origin in _SETS:
        return _array(_SETS[origin], converter(parts[0]))
    if origin is collections.deque:
        return _array(collections.deque, converter(parts[0]))
    if origin is tuple:
        if len(parts) == 2 and parts[1] is Ellipsis:
            return _array(tuple, converter(parts[0]))
        return _fixed(tuple, [converter(part) for part in parts if part != ()])
    if origin in _LISTS:
        inner = converter(parts[0])
        return None if inner is None else _array(list, inner)
    if origin in _OBJECTS:
        return _object(converter(parts[0]) or _key_of(parts[0]), converter(parts[1]))
    return _of_class(origin) if isinstance(origin, type) else None


def _array(make: "Callable[[List[Any]], Any]", inner: Optional[Converter]) -> Converter:
    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            raise Mismatch(f"{shown(value)} is no JSON array")
        if inner is not None:
            value = [_inside(index, inner, part) for index, part in enumerate(value)]
        try:
            return make(value)
        except TypeError as error:
            raise Mismatch(str(error)) from None

    return convert


def _fixed(make: "Callable[[List[Any]], Any]", inner: "List[Optional[Converter]]") -> Converter:
    def convert(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(inner):
            raise Mismatch(f"{shown(value)} is no JSON array of {len(inner)}")
        pairs = zip(inner, value)
        return make([one if how is None else _inside(i, how, one) for i, (how, one) in enumerate(pairs)])

    return convert


def _key_of(hint: Any) -> Optional[Converter]:
    """Keys are texts in JSON: numbers that they stand for."""
    hint = bare(hint)
    return from_json((str,), "number", hint) if hint in (int, float) else None


def _object(keys: Optional[Converter], parts: Optional[Converter]) -> Optional[Converter]:
    if keys is None and parts is None:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Mismatch(f"{shown(value)} is no JSON object")
        return {
            name if keys is None else _inside(name, keys, name): one if parts is None else _inside(name, parts, one)
            for name, one in value.items()
        }

    return convert


def _union(parts: "Tuple[Any, ...]") -> Optional[Converter]:
    """The first member that takes the value, in the order in which they stand."""
    members = [(part, converter(part)) for part in parts]
    if all(convert is None for _, convert in members):
        return None

    def convert(value: Any) -> Any:
        problem: "Optional[Mismatch]" = None
        for part, how in members:
            if how is None:
                if _may_be(part, value):
                    return value
                continue
            try:
                return how(value)
            except Mismatch as error:
                problem = problem or error
        raise problem or Mismatch(f"{shown(value)} is none of these")

    return convert


def _may_be(hint: Any, value: Any) -> bool:
    """Whether a value that needs no conversion is of this annotation, as far as JSON can tell."""
    hint = bare(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    kind = origin if isinstance(origin, type) else hint
    if kind is float:
        return type(value) in (int, float)
    if kind in _LISTS:
        return isinstance(value, list)
    return type(value) is kind if kind in JSON_NAMES else True


# -- classes ----------------------------------------------------------------------------------------------------------


def _of_class(kind: "type") -> Optional[Converter]:  # noqa: PLR0911 - as above
    validate = getattr(kind, "model_validate", None)
    if callable(validate):
        return _model(kind.__qualname__, validate)
    if issubclass(kind, enum.Enum):
        return _enum(kind)
    if issubclass(kind, PurePath):
        return from_json((str,), "path", kind)
    if kind in _SETS or kind is collections.deque or kind is tuple:
        return _array(_SETS.get(kind, kind), None)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(kind)
    if dataclasses.is_dataclass(kind):
        return _data(kind)
    if issubclass(kind, dict) and hasattr(kind, "__total__"):
        return _typed_dict(kind)
    return None


def _model(name: str, validate: Converter) -> Converter:
    def convert(value: Any) -> Any:
        try:
            return validate(value)
        except ValueError as error:
            raise _of_model(name, error) from error

    return convert


def _of_model(name: str, error: ValueError) -> Mismatch:
    try:
        first = error.errors()[0]  # type: ignore[attr-defined]
        return Mismatch(str(first["msg"]), ".".join(str(part) for part in first["loc"]))
    except (AttributeError, IndexError, KeyError, TypeError):
        return Mismatch(f"no {name}: {error}")


def _enum(kind: "type[enum.Enum]") -> Converter:
    def convert(value: Any) -> Any:
        for member in kind:
            if plain(member) == value:
                return member
        known = ", ".join(shown(plain(member)) for member in list(kind)[:20])
        raise Mismatch(f"{shown(value)} is none of {known}")

    return convert


def _named_tuple(kind: Any) -> Converter:
    @functools.lru_cache(maxsize=None)
    def whole() -> Converter:
        hints = _hints_of_class(kind)
        return _fixed(kind._make, [converter(hints.get(name, Any)) for name in kind._fields])

    return lambda value: whole()(value)  # noqa: PLW0108 - when it is first needed, as above


def _data(kind: Any) -> Converter:
    @functools.lru_cache(maxsize=None)
    def fields() -> "Dict[str, Tuple[bool, Optional[Converter]]]":
        # When it is first needed: a class may contain itself.
        hints = _hints_of_class(kind)
        given = [field for field in dataclasses.fields(kind) if field.init]
        none = dataclasses.MISSING
        return {
            f.name: (f.default is none and f.default_factory is none, converter(hints.get(f.name, Any))) for f in given
        }

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Mismatch(f"{shown(value)} is no JSON object")
        known = fields()
        for name in value:
            if name not in known:
                raise Mismatch(f"{kind.__qualname__} has no such field", name)
        missing = [name for name, (needed, _) in known.items() if needed and name not in value]
        if missing:
            raise Mismatch(f"{kind.__qualname__} needs it", missing[0])
        inner = {name: (known[name][1], one) for name, one in value.items()}
        made = {name: one if how is None else _inside(name, how, one) for name, (how, one) in inner.items()}
        try:
            return kind(**made)
        except (TypeError, ValueError) as error:
            raise Mismatch(f"no {kind.__qualname__}: {error}") from error

    return convert


def _typed_dict(kind: Any) -> Converter:
    @functools.lru_cache(maxsize=None)
    def fields() -> "Dict[str, Optional[Converter]]":
        return {name: converter(_not_marked(hint)) for name, hint in _hints_of_class(kind).items()}

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Mismatch(f"{shown(value)} is no JSON object")
        how = fields()
        return {
            name: one if (inner := how.get(name)) is None else _inside(name, inner, one) for name, one in value.items()
        }

    return convert


def _not_marked(hint: Any) -> Any:
    """Without Required, NotRequired, ReadOnly."""
    marked = getattr(typing.get_origin(hint), "_name", "") in ("Required", "NotRequired", "ReadOnly")
    return typing.get_args(hint)[0] if marked else hint


def _hints_of_class(kind: Any) -> "Dict[str, Any]":
    try:
        return typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001 - names that only a type checker knows
        return {}
