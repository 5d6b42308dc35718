"""The base of all events: their registry, their schema versions, and how old shapes become the current one.

An event's class name is its stored type and never changes once released. A change of shape raises the
class's `schema` and adds an upcaster; stored events are never rewritten. Encoding to JSON is the adapters'
business; what a JSON object means is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, cast

from rota_server.domain.errors import Unreadable


class Event:
    """Base of all events."""

    __slots__ = ()
    schema: ClassVar[int] = 1

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Event:
        """Build the event from its decoded JSON object in the current schema."""
        return made(cls, data)


E = TypeVar("E", bound=type[Event])

T = TypeVar("T")

REASON_LIMIT_CHARS = 500

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

_registry: dict[str, type[Event]] = {}

_upcasters: dict[tuple[str, int], Upcaster] = {}


def event(cls: E) -> E:
    """Register a class of events under its name."""
    if cls.__name__ in _registry:
        raise ValueError(f"event type {cls.__name__} is registered twice")
    _registry[cls.__name__] = cls
    return cls


def upcaster(event_type: str, from_schema: int) -> Callable[[Upcaster], Upcaster]:
    """Register a function that turns `event_type`'s data of schema `from_schema` into the next schema."""

    def register(function: Upcaster) -> Upcaster:
        _upcasters[event_type, from_schema] = function
        return function

    return register


def event_types() -> Mapping[str, type[Event]]:
    """All registered types by their stored name."""
    return _registry


def unreadable_types(schemas: Mapping[str, int]) -> list[str]:
    """Those of the types, stored up to these schemas, that this version of Rota cannot read."""
    return sorted(
        name for name, schema in schemas.items() if (cls := _registry.get(name)) is None or schema > cls.schema
    )


def event_from_json(event_type: str, data: dict[str, Any], schema: int = 1) -> Event:
    """The event that this stored JSON object stands for.

    Fields that are not known are left out: what may not be ignored raises the schema.

    Raises:
        Unreadable: the type is unknown, the schema is newer than this program, or the data do not fit.
    """
    cls = _registry.get(event_type)
    if cls is None:
        raise Unreadable(f"event type {event_type[:100]!r} is not known to this version of Rota")
    if schema > cls.schema:
        raise Unreadable(f"{event_type} has schema {schema}; this version of Rota knows up to {cls.schema}")
    try:
        while schema < cls.schema:
            data = _upcasters[event_type, schema](data)
            schema += 1
        return cls.from_json(data)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Unreadable(f"a stored {event_type} cannot be read: {error!r}"[:REASON_LIMIT_CHARS]) from error


def made(cls: Callable[..., T], data: Mapping[str, Any], **nested: Any) -> T:
    """An instance of a dataclass from its JSON object, without what it does not know; `nested` replaces values."""
    try:
        return cls(**{**data, **nested})
    except TypeError:
        known = {found.name for found in fields(cast("Any", cls))}
        return cls(**{key: value for key, value in {**data, **nested}.items() if key in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableEvent(Event):
    """Stands in a history for an event that this version of Rota cannot read; never written."""

    type: str
    reason: str


def named(found: Event) -> str:
    """The event's type, with the reason if it cannot be read."""
    return f"{found.type} ({found.reason})" if isinstance(found, UnreadableEvent) else type(found).__name__


def stored_fields(cls: type[Event]) -> tuple[str, ...]:
    """The names of a type's fields, in stored order (for documents and AsyncAPI)."""
    return tuple(f.name for f in fields(cls))  # type: ignore[arg-type]
