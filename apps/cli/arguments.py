"""Arguments of tasks as they are typed: `name=value`, by the types that the task has announced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rota import Client, NotFound
from rota.json_types import text_or_json, typed_json
from rota_server.apps.cli.output import Failure


def arguments_of(client: Client, task: str, words: Iterable[str]) -> dict[str, Any]:
    """The arguments: a value that is JSON is taken as JSON, unless the task takes a text there and nothing such."""
    found = pairs(words)
    values = {name: typed_json(text) for name, text in found.items()}
    if all(isinstance(value, str) for value in values.values()):
        return values
    types = _types(client, task)
    return {name: text_or_json(found[name], value, types.get(name, ())) for name, value in values.items()}


def guessed(words: Iterable[str]) -> dict[str, Any]:
    """As `arguments_of`, of a task of which nothing is known."""
    return {name: typed_json(text) for name, text in pairs(words).items()}


def pairs(words: Iterable[str]) -> dict[str, str]:
    """The texts of `name=value`. Raises Failure."""
    found: dict[str, str] = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or not name:
            raise Failure(f"{word!r} is not name=value", status=2)
        found[name] = text
    return found


def _types(client: Client, task: str) -> Mapping[str, list[str]]:
    try:
        parameters = client.task(task)["parameters"]
    except NotFound:
        return {}  # the submission will say so, or the store is of an earlier version
    return {one["name"]: one["types"] for one in parameters or ()}
