"""Templates: JSON values with references into an event.

`{"$event": "data.user.id"}` stands for the value there, whatever it is; with `"default"` for that where there is none.
`${data.user.id}` within a text stands for its text; `$${` for a plain `${`. `{"$literal": ...}` is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rota_server.domain.errors import Rejected
from rota_server.domain.matching.paths import Missing, Path, find, parse_path
from rota_server.domain.work import Work

REFERENCES_LIMIT = 500
RENDERED_LIMIT_CHARS = 256 * 1024
"""Of one field. Counted while it is rendered: an event's value may be referred to many times."""

REFERENCE = "$event"
LITERAL = "$literal"
IN_TEXT = re.compile(r"\$\$\{|\$\{([^{}]*)\}")


def check_template(value: Any, field: str) -> None:
    """Raise Rejected that names the reference which cannot be right, whatever the event."""
    for count, (place, found) in enumerate(_references(value, ()), 1):
        inner = ".".join((field, *place))
        parse_path(_only_reference(found, inner) if isinstance(found, Mapping) else found, inner)
        if count > REFERENCES_LIMIT:
            raise Rejected(f"{field}: more than {REFERENCES_LIMIT} references", field=field, code="invalid-argument")


def holes(value: Any) -> set[Path]:
    """The places in the value that depend on the event."""
    return {place for place, _ in _references(value, ())}


def is_template(value: Any) -> bool:
    """Whether rendering would change anything about the value."""
    if isinstance(value, str):
        return IN_TEXT.search(value) is not None
    if isinstance(value, Mapping):
        return REFERENCE in value or value.keys() == {LITERAL} or any(map(is_template, value.values()))
    return isinstance(value, list) and any(map(is_template, value))


def sample(value: Any) -> Any:
    """The value as it will be rendered, its references left standing: for checking what is around them."""
    if isinstance(value, Mapping):
        if value.keys() == {LITERAL}:
            return value[LITERAL]
        return value if REFERENCE in value else {name: sample(part) for name, part in value.items()}
    return [sample(part) for part in value] if isinstance(value, list) else value


def render(value: Any, view: Mapping[str, Any], field: str) -> Any:
    """The value with the event's in the places of the references. Raises Rejected (code `missing`) where there is none.

    `view` is the event as `event_view` shows it. Raises Rejected (code `too-large`) once there is more than
    RENDERED_LIMIT_CHARS of the event in it.
    """
    return _render(value, view, field, Room(field, RENDERED_LIMIT_CHARS))


class Room(Work):
    """How much of the event a rendered value may still take in, in characters."""

    def spend(self, steps: int = 1) -> None:
        """Take so much in."""
        try:
            super().spend(steps)
        except Rejected:
            message = f"{self._what}: more than {self._limit} characters once the event's values are in it"
            raise Rejected(message, field=self._what, code="too-large") from None


def _render(value: Any, view: Mapping[str, Any], field: str, room: Room) -> Any:
    if isinstance(value, str):
        return IN_TEXT.sub(lambda found: _in_text(found, view, field, room), value) if "${" in value else value
    if isinstance(value, Mapping):
        if value.keys() == {LITERAL}:
            return value[LITERAL]
        if REFERENCE in value:
            return _referred(value, view, field, room)
        return {name: _render(part, view, f"{field}.{name}", room) for name, part in value.items()}
    if isinstance(value, list):
        return [_render(part, view, f"{field}.{index}", room) for index, part in enumerate(value)]
    return value


def _take_in(value: Any, room: Room) -> None:
    """Count what the value has at least as JSON."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            room.spend(2 + len(one))
        elif isinstance(one, Mapping):
            room.spend(2 + sum(len(name) + 4 for name in one))
            pending.extend(one.values())
        elif isinstance(one, list):
            room.spend(1 + len(one))
            pending.extend(one)
        else:
            room.spend()


def _references(value: Any, place: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, str):
        for found in IN_TEXT.finditer(value):
            if found[1] is not None:
                yield place, found[1]
    elif isinstance(value, Mapping):
        if value.keys() == {LITERAL}:
            return
        if REFERENCE in value:
            yield place, value
            return
        for name, part in value.items():
            yield from _references(part, (*place, str(name)))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _references(part, (*place, str(index)))


def _only_reference(value: Mapping[str, Any], field: str) -> Any:
    if not value.keys() <= {REFERENCE, "default"}:
        message = f"{field}: a reference has {REFERENCE} and perhaps default, nothing else"
        raise Rejected(message, field=field, code="invalid-argument")
    return value[REFERENCE]


def _referred(value: Mapping[str, Any], view: Mapping[str, Any], field: str, room: Room) -> Any:
    found = find(view, parse_path(value[REFERENCE], field))
    if isinstance(found, Missing):
        if "default" in value:
            return value["default"]
        raise _missing(value[REFERENCE], field)
    _take_in(found, room)
    return found


def _in_text(found: re.Match[str], view: Mapping[str, Any], field: str, room: Room) -> str:
    if found[1] is None:
        return "${"
    value = find(view, parse_path(found[1], field))
    if isinstance(value, Missing):
        raise _missing(found[1], field)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        text = str(value)
        room.spend(len(text))
        return text
    message = f"{field}: the event's {found[1]} is {_kind(value)}, which has no place in a text"
    raise Rejected(message, field=field, code="invalid-argument")


def _kind(value: Any) -> str:
    return "null" if value is None else "a list" if isinstance(value, list) else "an object"


def _missing(path: str, field: str) -> Rejected:
    return Rejected(f"{field}: the event has no {path}", field=field, code="missing")
