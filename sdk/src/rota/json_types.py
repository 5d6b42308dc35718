"""Which JSON types the annotations of a task's parameters mean: what an executor announces of them."""

from __future__ import annotations

import enum
import json
import typing
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Collection, Dict, List, Mapping

from rota.leaves import LEAVES
from rota.typed import JSON_NAMES, UNIONS, bare, known


def parameter_types(hints: "Mapping[str, Any]") -> "Dict[str, List[str]]":
    """The JSON types of each parameter whose annotation tells them."""
    found = {name: known(json_types, hint) for name, hint in hints.items() if name != "return"}
    return {name: kinds for name, kinds in found.items() if kinds}


def json_types(hint: Any) -> "List[str]":  # noqa: PLR0911 - one return for each kind
    """The types that a JSON value of this annotation may have; empty when that is unknown."""
    hint = bare(hint)
    origin = typing.get_origin(hint)
    if origin in UNIONS:
        kinds = [json_types(part) for part in typing.get_args(hint)]
        return sorted({name for kind in kinds for name in kind}) if all(kinds) else []
    if origin is typing.Literal:
        return sorted({JSON_NAMES[type(value)] for value in typing.get_args(hint) if type(value) in JSON_NAMES})
    kind = origin if isinstance(origin, type) else hint
    if kind in JSON_NAMES:
        return [JSON_NAMES[kind]]
    if kind is timedelta:
        return ["number"]
    if kind in LEAVES or (isinstance(kind, type) and issubclass(kind, PurePath)):
        return ["string"]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return sorted({JSON_NAMES.get(type(one.value), "") for one in kind} - {""})
    return []


def typed_json(text: str) -> Any:
    """What was typed as a value: the JSON that it is, else the text."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def text_or_json(text: str, value: Any, types: "Collection[str]") -> Any:
    """What was typed, as a text or as the JSON value that it is too. No types: not known."""
    kind = JSON_NAMES[type(value)]
    fits = kind in types or (kind == "integer" and "number" in types)
    return text if "string" in types and not fits else value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
