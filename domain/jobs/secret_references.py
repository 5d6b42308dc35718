"""References to secrets within a job's arguments: `{"$secret": "billing-token"}`, with `prefix` and `suffix`. Pure.

The log keeps the reference; the executor puts the secret in its place when an attempt begins. Only what was submitted
names secrets: a reference that comes with an event or a predecessor's result is a value like any other, so that who
may publish an event cannot have a secret sent to where they like.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from rota_server.domain.errors import Rejected

MARK = "$secret"
REFERENCES_LIMIT = 100
AROUND_LIMIT_CHARS = 8_192
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
NO_SECRETS_FOR = frozenset({"event.publish"})
"""Their arguments go into the log."""

Place = tuple[str, ...]


class SecretReference(NamedTuple):
    """A reference and where it stands, as the names and places in lists that lead to it."""

    place: Place
    name: str
    prefix: str
    suffix: str


def names_secrets(value: Any) -> bool:
    """Whether there is a reference to a secret anywhere in the value."""
    if isinstance(value, Mapping):
        return MARK in value or any(map(names_secrets, value.values()))
    return isinstance(value, list) and any(map(names_secrets, value))


def secrets_in(args: Mapping[str, Any]) -> list[SecretReference]:
    """All references to secrets within the arguments. Raises Rejected for one that is not well formed."""
    found: list[SecretReference] = []
    for reference in _find(args, ()):
        found.append(reference)
        if len(found) > REFERENCES_LIMIT:
            message = f"args: more than {REFERENCES_LIMIT} references to secrets"
            raise Rejected(message, field="args", code="invalid-argument")
    return found


def check_secrets(task: str, found: Collection[SecretReference]) -> None:
    """Raise Rejected when the task must not get secrets."""
    if found and task in NO_SECRETS_FOR:
        message = f"args: {task} takes no secrets: what it gets goes into the log"
        raise Rejected(message, field="args", code="invalid-argument")


def refuse_foreign_secrets(submitted: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raise Rejected when arguments that were made from a template name secrets which the template does not name."""
    own = {(reference.place, reference.name) for reference in secrets_in(submitted)}
    for reference in secrets_in(made):
        if (reference.place, reference.name) not in own:
            field = ".".join(("args", *reference.place))
            raise Rejected(f"{field}: an event cannot name a secret", field=field, code="invalid-argument")


def revealed(args: Mapping[str, Any], found: Collection[SecretReference], secrets: Mapping[str, str]) -> dict[str, Any]:
    """The arguments with the secrets in their places."""
    texts = {one.place: f"{one.prefix}{secrets[one.name]}{one.suffix}" for one in found}
    return {name: _reveal(value, (name,), texts) for name, value in args.items()}


def _reveal(value: Any, place: Place, texts: Mapping[Place, str]) -> Any:
    if isinstance(value, Mapping):
        if place in texts:
            return texts[place]
        return {name: _reveal(part, (*place, str(name)), texts) for name, part in value.items()}
    if isinstance(value, list):
        return [_reveal(part, (*place, str(index)), texts) for index, part in enumerate(value)]
    return value


def _find(value: Any, place: Place) -> Iterator[SecretReference]:
    if isinstance(value, Mapping):
        if MARK in value:
            yield _reference(value, place)
            return
        for name, part in value.items():
            yield from _find(part, (*place, str(name)))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _find(part, (*place, str(index)))


def _reference(value: Mapping[str, Any], place: Place) -> SecretReference:
    field = ".".join(("args", *place))
    name = value[MARK]
    if not place or not value.keys() <= {MARK, "prefix", "suffix"}:
        message = f"{field}: a reference to a secret has {MARK} and perhaps prefix and suffix, nothing else"
        raise Rejected(message, field=field, code="invalid-argument")
    if not isinstance(name, str) or NAME.fullmatch(name) is None or name.lower().endswith(("_file", "-file", ".file")):
        message = (
            f"{field}.{MARK}: must be the name of a secret: 1 to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit, not ending in '-file'"
        )
        raise Rejected(message, field=f"{field}.{MARK}", code="invalid-argument")
    around = [value.get(part, "") for part in ("prefix", "suffix")]
    if not all(isinstance(text, str) and len(text) <= AROUND_LIMIT_CHARS for text in around):
        message = f"{field}: prefix and suffix must be texts of up to {AROUND_LIMIT_CHARS} characters"
        raise Rejected(message, field=field, code="invalid-argument")
    return SecretReference(place, name, *around)
