"""Calendars of exclusions that schedules share: what happens to them, and which was in force when.

A calendar's new version concerns nominal times after its change; what was decided before stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from rota_server.domain.errors import NotPossible, Unreadable
from rota_server.domain.events import Event, named
from rota_server.domain.ids import Position, Version
from rota_server.domain.log import Meta, Recorded, ResourceHead
from rota_server.domain.schedules import events as e
from rota_server.domain.schedules.schedule import UNRECORDED

KIND = "calendar"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCalendar:
    """What is known of a calendar at a version of its stream; `definition` is what it leaves out, since `at`."""

    id: UUID
    name: str
    version: Version
    definition: Mapping[str, Any]
    revision: int
    created_at: datetime
    at: datetime
    actor: str = ""
    reason: str | None = None
    archived: bool = False


class WrittenCalendar(NamedTuple):
    """The events, the calendar after them, and its row."""

    events: Sequence[Event]
    calendar: SharedCalendar
    head: ResourceHead


def evolve(calendar: SharedCalendar | None, recorded: Recorded) -> SharedCalendar:
    """The calendar after this event. Raises Unreadable when the event cannot follow."""
    event = recorded.event
    actor = recorded.meta.actor
    if isinstance(event, e.CalendarCreated) and (calendar is None or calendar.archived):
        return SharedCalendar(
            id=recorded.stream_id,
            name=event.name,
            version=recorded.version,
            definition=event.definition,
            revision=event.revision,
            created_at=event.at,
            at=event.at,
            actor=actor,
            reason=event.reason,
        )
    if calendar is None or recorded.version != calendar.version + 1:
        raise Unreadable("a calendar's stream is not as it must be", position=recorded.position)
    if isinstance(event, e.CalendarChanged):
        return replace(
            calendar,
            version=recorded.version,
            definition=event.definition,
            revision=event.revision,
            at=event.at,
            actor=actor,
            reason=event.reason,
        )
    if isinstance(event, e.CalendarArchived):
        return replace(calendar, version=recorded.version, at=event.at, actor=actor, reason=event.reason, archived=True)
    raise Unreadable(f"{named(event)} has no place in a calendar's stream", position=recorded.position)


def fold(history: Iterable[Recorded]) -> SharedCalendar | None:
    """The calendar that this history, from its first event on, describes; None for an empty one."""
    calendar: SharedCalendar | None = None
    for recorded in history:
        calendar = evolve(calendar, recorded)
    return calendar


def in_force(history: Iterable[Recorded], at: datetime) -> SharedCalendar | None:
    """The calendar as it was for nominal times at `at`; the first one for earlier times."""
    found: SharedCalendar | None = None
    for recorded in history:
        following = evolve(found, recorded)
        if found is not None and following.at >= at:
            return found
        found = following
    return found


def create(
    calendar: SharedCalendar | None,
    stream_id: UUID,
    name: str,
    definition: Mapping[str, Any],
    reason: str | None,
    meta: Meta,
    now: datetime,
) -> WrittenCalendar:
    """A new calendar, or a new life of an archived one. Raises NotPossible."""
    if calendar is not None and not calendar.archived:
        raise NotPossible(f"there is a calendar {name!r} already", code="exists", field="name")
    revision = 1 if calendar is None else calendar.revision + 1
    created = e.CalendarCreated(name=name, definition=definition, revision=revision, at=now, reason=reason)
    return _written(calendar, stream_id, created, meta)


def change(
    calendar: SharedCalendar, definition: Mapping[str, Any], reason: str | None, meta: Meta, now: datetime
) -> WrittenCalendar | None:
    """Something else is left out from now on; None when it is the same. Raises NotPossible."""
    if calendar.archived:
        raise NotPossible(f"calendar {calendar.name} is archived", code="archived")
    if definition == calendar.definition:
        return None
    at = max(now, calendar.at)
    changed = e.CalendarChanged(definition=definition, revision=calendar.revision + 1, at=at, reason=reason)
    return _written(calendar, calendar.id, changed, meta)


def archive(calendar: SharedCalendar, reason: str | None, meta: Meta, now: datetime) -> WrittenCalendar | None:
    """No schedule may begin to use it any more; None when it is archived already."""
    if calendar.archived:
        return None
    return _written(calendar, calendar.id, e.CalendarArchived(at=max(now, calendar.at), reason=reason), meta)


def head_of(calendar: SharedCalendar) -> ResourceHead:
    """The calendar's row."""
    return ResourceHead(kind=KIND, name=calendar.name, doc=to_json(calendar), active=not calendar.archived)


def to_json(calendar: SharedCalendar) -> dict[str, Any]:
    """The document of the calendar's row, which `from_json` reads back."""
    return {
        "definition": calendar.definition,
        "revision": calendar.revision,
        "created_at": calendar.created_at.isoformat(),
        "at": calendar.at.isoformat(),
        "actor": calendar.actor,
        "reason": calendar.reason,
        "archived": calendar.archived,
    }


def from_json(stream_id: UUID, name: str, version: Version, doc: Mapping[str, Any]) -> SharedCalendar:
    """The calendar of its row."""
    return SharedCalendar(
        id=stream_id,
        name=name,
        version=version,
        definition=doc["definition"],
        revision=doc["revision"],
        created_at=datetime.fromisoformat(doc["created_at"]),
        at=datetime.fromisoformat(doc["at"]),
        actor=doc["actor"],
        reason=doc["reason"],
        archived=doc["archived"],
    )


def _written(calendar: SharedCalendar | None, stream_id: UUID, event: Event, meta: Meta) -> WrittenCalendar:
    version = Version(1 if calendar is None else calendar.version + 1)
    after = evolve(calendar, Recorded(Position(0), stream_id, version, event, meta, UNRECORDED))
    return WrittenCalendar([event], after, head_of(after))
