"""References to predecessors' results within a job's arguments: `{"$result": "extract", "path": "body.items.0"}`. Pure.

An object with nothing but `$result` and perhaps `path` is one. `path` leads into the result: member names and places in
lists, separated by dots, or as a list of texts and numbers where a name contains a dot; without it the whole result is
meant. Only jobs that wait for others have references; elsewhere such an object is an argument like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from rota_server.domain.errors import Rejected

MARK = "$result"
PATH_LIMIT = 50


class Reference(NamedTuple):
    """A reference and where it stands, as the names and places that lead to it."""

    place: tuple[str, ...]
    name: str
    path: tuple[str, ...]


def references_in(args: Mapping[str, Any]) -> list[Reference]:
    """All references within the arguments. Raises Rejected for one that is not well formed."""
    return list(_find(args, ()))


def check_references(found: Collection[Reference], names: Collection[str]) -> None:
    """Raise Rejected for the first reference to something else than the result of one of these predecessors."""
    for reference in found:
        if reference.name not in names:
            field = ".".join(("args", *reference.place))
            message = f"{field}: {reference.name!r} is not one of the jobs that this one waits for"
            raise Rejected(message, field=field, code="unknown-job")


def resolved(args: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with what the references mean in their place.

    Raises Rejected for a result that is not there, or a path that leads nowhere.
    """
    return {name: _resolve(value, (name,), results) for name, value in args.items()}


def _is_reference(value: Mapping[str, Any]) -> bool:
    return MARK in value and value.keys() <= {MARK, "path"}


def _find(value: Any, place: tuple[str, ...]) -> Iterator[Reference]:
    if isinstance(value, Mapping):
        if place and _is_reference(value):
            yield _reference(value, place)
            return
        for name, part in value.items():
            yield from _find(part, (*place, str(name)))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _find(part, (*place, str(index)))


def _reference(value: Mapping[str, Any], place: tuple[str, ...]) -> Reference:
    name, path = value[MARK], value.get("path")
    field = ".".join(("args", *place))
    if not isinstance(name, str):
        raise Rejected(f"{field}.{MARK}: must be the name of a predecessor", field=field, code="invalid-argument")
    steps = path.split(".") if isinstance(path, str) and path else path or []
    if not isinstance(steps, list) or not all(isinstance(s, str) or type(s) is int for s in steps):
        message = f"{field}.path: must be a text such as body.items.0, or a list of names and places"
        raise Rejected(message, field=f"{field}.path", code="invalid-argument")
    if len(steps) > PATH_LIMIT:
        raise Rejected(f"{field}.path: more than {PATH_LIMIT} steps", field=f"{field}.path", code="invalid-argument")
    return Reference(place, name, tuple(str(step) for step in steps))


def _resolve(value: Any, place: tuple[str, ...], results: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        if _is_reference(value):
            return _look_up(_reference(value, place), results)
        return {name: _resolve(part, (*place, str(name)), results) for name, part in value.items()}
    if isinstance(value, list):
        return [_resolve(part, (*place, str(index)), results) for index, part in enumerate(value)]
    return value


def _look_up(reference: Reference, results: Mapping[str, Any]) -> Any:
    field = ".".join(("args", *reference.place))
    if reference.name not in results:
        raise Rejected(f"{field}: there is no result of {reference.name}", field=field, code="no-result")
    found = results[reference.name]
    for number, step in enumerate(reference.path):
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isascii() and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            walked = ".".join((reference.name, *reference.path[:number]))
            message = f"{field}: the result has no {'.'.join(reference.path)} ({walked} has no {step})"
            raise Rejected(message, field=field, code="no-result")
    return found
