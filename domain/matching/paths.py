"""Dotted paths into a published event: `source`, `data.user.id`, `data.items.0.price`.

An event reads as CloudEvents has it: its attributes and extensions side by side, and `data`. A dot within a name is
written with a backslash before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from rota_server.domain.errors import Rejected

PATH_LIMIT_CHARS = 500
PARTS_LIMIT = 32
FIRST_PART = re.compile(r"[a-z0-9]{1,64}|data_base64")
ESCAPED = re.compile(r"\\.|[^.\\]+|\.")
ATTRIBUTES = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64")

Path = tuple[str, ...]


class Missing:
    """Stands for what is not there, which is something else than null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


def event_view(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The event as conditions and templates see it, from an EventPublished's JSON object. What is not set is absent."""
    view = dict(stored.get("extensions") or {})
    view["specversion"] = "1.0"
    for name in ATTRIBUTES:
        if stored.get(name) is not None:
            view[name] = stored[name]
    return view


def parse_path(text: Any, field: str) -> Path:
    """The path's parts. Raises Rejected that names `field`."""
    if not isinstance(text, str) or not 0 < len(text) <= PATH_LIMIT_CHARS:
        raise _wrong(field, f"a path is a text of 1 to {PATH_LIMIT_CHARS} characters")
    parts = split_name(text, field)
    if FIRST_PART.fullmatch(parts[0]) is None:
        raise _wrong(field, f"{text!r} must begin with an attribute's name or with data")
    return parts


def split_name(text: str, field: str) -> Path:
    """The parts of a dotted name. Raises Rejected."""
    parts = [""]
    for piece in ESCAPED.findall(text):
        if piece == ".":
            parts.append("")
        elif piece.startswith("\\"):
            if piece[1] not in ".\\":
                raise _wrong(field, f"{text!r} has a backslash before {piece[1]!r}; only . and \\ are escaped")
            parts[-1] += piece[1]
        else:
            parts[-1] += piece
    if text.endswith("\\") and not text.endswith("\\\\"):
        raise _wrong(field, f"{text!r} ends with a lone backslash")
    if not all(parts) or len(parts) > PARTS_LIMIT:
        raise _wrong(field, f"{text!r} must have 1 to {PARTS_LIMIT} parts, none empty, with dots between them")
    return tuple(parts)


def find(value: Any, path: Path) -> Any:
    """What is there, else MISSING. A number picks a list's element, from 0."""
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def _wrong(field: str, what: str) -> Rejected:
    return Rejected(f"{field}: {what}", field=field, code="invalid-argument")
