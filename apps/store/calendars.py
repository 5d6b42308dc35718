"""What the store does with calendars of exclusions, and which of them were in force when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from apps.store.json_body import shown
from apps.store.parts import StoreLog
from apps.store.resources import Changed, ResourceChange, Resources
from domain.errors import NotFound, Rejected
from domain.ids import resource_id
from domain.log import Meta, Recorded
from domain.ports import ResourceRow
from domain.recurrence.calendars import Calendar, parse_calendar
from domain.recurrence.icalendar import Told
from domain.schedules import calendars
from domain.schedules.calendars import KIND, SharedCalendar, WrittenCalendar

FIELDS = ("dates", "weekly", "intervals", "icalendar", "skip_invalid")
TOLD = ("skipped", "warnings")
"""What became of a file, told by the store and kept with the definition."""

EVENT_SHOWN_CHARS = 200


class Versions(NamedTuple):
    """A calendar's versions, oldest first, each with the instant from which the next one is in force."""

    name: str
    past: Sequence[tuple[datetime, Calendar]]
    present: Calendar

    def then(self, at: datetime) -> Calendar:
        """The version for nominal times at this instant."""
        return next((calendar for until, calendar in self.past if at <= until), self.present)


class Calendars:
    """The handlers, without HTTP."""

    def __init__(self, log: StoreLog, resources: Resources) -> None:
        self._log = log
        self._resources = resources

    async def create(self, name: str, value: Mapping[str, Any], reason: str | None, meta: Meta) -> Changed:
        """A new calendar. Raises Rejected, NotPossible, Unavailable."""
        definition = definition_of(value)

        def decide(row: ResourceRow | None, now: datetime) -> ResourceChange | None:
            before = None if row is None else calendar_of(row)
            return _change(calendars.create(before, resource_id(KIND, name), name, definition, reason, meta, now))

        return await self._resources.change(resource_id(KIND, name), decide, meta)

    async def change(self, reference: str, value: Mapping[str, Any], reason: str | None, meta: Meta) -> Changed:
        """A new version. What is not named stays; null takes it away. Raises Rejected, NotFound, Unavailable."""
        found = await self._resources.load(KIND, reference)

        def decide(row: ResourceRow | None, now: datetime) -> ResourceChange | None:
            if row is None:
                raise NotFound(f"there is no calendar {reference!r}", field="id")
            before = calendar_of(row)
            kept = {**{name: found for name, found in before.definition.items() if name not in TOLD}, **value}
            definition = definition_of({name: found for name, found in kept.items() if found is not None})
            return _change(calendars.change(before, definition, reason, meta, now))

        return await self._resources.change(found.id, decide, meta)

    async def archive(self, reference: str, reason: str | None, meta: Meta) -> Changed:
        """No schedule may begin to use it any more. Raises NotFound, Unavailable."""
        found = await self._resources.load(KIND, reference)

        def decide(row: ResourceRow | None, now: datetime) -> ResourceChange | None:
            if row is None:
                raise NotFound(f"there is no calendar {reference!r}", field="id")
            return _change(calendars.archive(calendar_of(row), reason, meta, now))

        return await self._resources.change(found.id, decide, meta)

    async def get(self, reference: str, at: int | datetime | None) -> tuple[SharedCalendar, int]:
        """The calendar as it is, or was at a position or instant, and its position. Raises NotFound."""
        row = await self._resources.load(KIND, reference)
        if at is None:
            return calendar_of(row), row.position
        history = until(await self._log.read_stream(row.id), at)
        calendar = calendars.fold(history)
        if calendar is None:
            raise NotFound(f"there was no calendar {reference!r} at that time", field="at")
        return calendar, history[-1].position

    async def check_names(self, names: Sequence[str], already: Iterable[str] = ()) -> None:
        """Raise Rejected for a name that no schedule may begin to use."""
        rows = await self._resources.named(KIND, names) if names else {}
        for place, name in enumerate(names):
            if name not in rows:
                message = f"calendars.{place}: there is no calendar {name!r}"
                raise Rejected(message, field=f"calendars.{place}", code="unknown-calendar")
            if not rows[name].active and name not in already:
                message = f"calendars.{place}: calendar {name!r} is archived"
                raise Rejected(message, field=f"calendars.{place}", code="archived")

    async def versions(self, names: Iterable[str]) -> dict[str, Versions]:
        """Every version of these calendars. Raises Unavailable."""
        found: dict[str, Versions] = {}
        for name in set(names):
            past: list[tuple[datetime, Calendar]] = []
            calendar: SharedCalendar | None = None
            for recorded in await self._log.read_stream(resource_id(KIND, name)):
                following = calendars.evolve(calendar, recorded)
                if calendar is not None:
                    past.append((following.at, _parsed(calendar)))
                calendar = following
            if calendar is not None:
                found[name] = Versions(name, past, _parsed(calendar))
        return found


def definition_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """The checked definition of a calendar. Raises Rejected."""
    for name in value:
        if name not in FIELDS:
            raise Rejected(f"{shown(name)}: there is no such field", field=name, code="unknown-field")
    definition = {name: value[name] for name in FIELDS if value.get(name) is not None}
    if not definition.keys() - {"skip_invalid"}:
        message = f"a calendar needs at least one of {', '.join(FIELDS[:4])}"
        raise Rejected(message, field=FIELDS[0], code="missing")
    events = parse_calendar(definition).events
    told = {"skipped": events.skipped, "warnings": events.warnings}
    return definition | {name: [_told(item) for item in found] for name, found in told.items() if found}


def _told(told: Told) -> dict[str, Any]:
    shown = {"line": told.line, "reason": told.text}
    return shown if told.event is None else {**shown, "event": told.event[:EVENT_SHOWN_CHARS]}


def calendar_of(row: ResourceRow) -> SharedCalendar:
    """The calendar of its row."""
    return calendars.from_json(row.id, row.name, row.version, row.doc)


def until(history: Sequence[Recorded], at: int | datetime) -> list[Recorded]:
    """What had been recorded at a position or instant."""
    if isinstance(at, int):
        return [recorded for recorded in history if recorded.position <= at]
    return [recorded for recorded in history if recorded.recorded_at <= at]


def _parsed(calendar: SharedCalendar) -> Calendar:
    return parse_calendar({**calendar.definition, "name": calendar.name})


def _change(written: WrittenCalendar | None) -> ResourceChange | None:
    return None if written is None else ResourceChange(events=written.events, head=written.head)
