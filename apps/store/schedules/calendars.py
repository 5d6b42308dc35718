"""What the store does with calendars of exclusions, and which of them were in force when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from rota_server.apps.calendar_reading import INTAKE_SECONDS, read_calendar
from rota_server.apps.calendar_versions import Versions, versions_of
from rota_server.apps.histories import history_of
from rota_server.apps.store.http.json_body import shown
from rota_server.apps.store.parts import StoreLog
from rota_server.apps.store.resources import Changed, ResourceChange, Resources
from rota_server.domain.errors import NotFound, Rejected, Unavailable
from rota_server.domain.ids import resource_id
from rota_server.domain.log import Meta
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.domain.recurrence.calendars import Calendar
from rota_server.domain.recurrence.icalendar import Told
from rota_server.domain.schedules import calendars
from rota_server.domain.schedules.calendars import KIND, SharedCalendar, WrittenCalendar

FIELDS = ("dates", "weekly", "intervals", "icalendar", "skip_invalid")
TOLD = ("skipped", "warnings")
"""What became of a file, told by the store and kept with the definition."""

EVENT_SHOWN_CHARS = 200
MAX_ROUNDS = 20


class Calendars:
    """The handlers, without HTTP."""

    def __init__(self, log: StoreLog, resources: Resources) -> None:
        self._log = log
        self._resources = resources

    async def create(self, name: str, value: Mapping[str, Any], reason: str | None, meta: Meta) -> Changed:
        """A new calendar. Raises Rejected, NotPossible, Unavailable."""
        definition = await _worked_out(_wanted(value))

        def decide(row: ResourceRow | None, now: datetime) -> ResourceChange | None:
            before = None if row is None else calendar_of(row)
            return _change(calendars.create(before, resource_id(KIND, name), name, definition, reason, meta, now))

        return await self._resources.change(resource_id(KIND, name), decide, meta)

    async def change(self, reference: str, value: Mapping[str, Any], reason: str | None, meta: Meta) -> Changed:
        """A new version. What is not named stays; null takes it away. Raises Rejected, NotFound, Unavailable."""
        found = await self._resources.load(KIND, reference)
        for _ in range(MAX_ROUNDS):
            wanted = _merged(calendar_of(found), value)
            definition = await _worked_out(wanted)

            def decide(
                row: ResourceRow | None, now: datetime, *, wanted: Any = wanted, definition: Any = definition
            ) -> ResourceChange | None:
                if row is None:
                    raise NotFound(f"there is no calendar {reference!r}", field="id")
                before = calendar_of(row)
                if _merged(before, value) != wanted:
                    raise _ChangedMeanwhile
                return _change(calendars.change(before, definition, reason, meta, now))

            with suppress(_ChangedMeanwhile):
                return await self._resources.change(found.id, decide, meta)
            found = await self._resources.load(KIND, reference)
        raise Unavailable("the calendar changed in every round", server="postgres")

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
        calendar: SharedCalendar | None = None
        position = 0
        async for recorded in history_of(self._log, row.id):
            if recorded.position > at if isinstance(at, int) else recorded.recorded_at > at:
                break
            calendar, position = calendars.evolve(calendar, recorded), recorded.position
        if calendar is None:
            raise NotFound(f"there was no calendar {reference!r} at that time", field="at")
        return calendar, position

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

    async def versions(self, names: Iterable[str], since: datetime, until: datetime) -> dict[str, Versions]:
        """The versions of these calendars for nominal times from `since` to `until`. Raises Unavailable."""
        rows = await self._resources.named(KIND, sorted(set(names)))
        return {name: await versions_of(self._log, row, since, until) for name, row in rows.items()}

    async def present(self, names: Sequence[str]) -> list[Calendar]:
        """These calendars as they are, in this order; unknown ones are left out. Raises Unavailable."""
        rows = await self._resources.named(KIND, names) if names else {}
        found = {name: await read_calendar(calendar_of(row).definition, name) for name, row in rows.items()}
        return [found[name] for name in names if name in found]


class _ChangedMeanwhile(Exception):
    """Somebody else changed what is to be changed."""


def _merged(calendar: SharedCalendar, value: Mapping[str, Any]) -> dict[str, Any]:
    """The definition with these changes. Raises Rejected."""
    kept = {**{name: found for name, found in calendar.definition.items() if name not in TOLD}, **value}
    return _wanted({name: found for name, found in kept.items() if found is not None})


def _wanted(value: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request is the definition of a calendar. Raises Rejected."""
    for name in value:
        if name not in FIELDS:
            raise Rejected(f"{shown(name)}: there is no such field", field=name, code="unknown-field")
    definition = {name: value[name] for name in FIELDS if value.get(name) is not None}
    if not definition.keys() - {"skip_invalid"}:
        message = f"a calendar needs at least one of {', '.join(FIELDS[:4])}"
        raise Rejected(message, field=FIELDS[0], code="missing")
    return definition


async def _worked_out(definition: dict[str, Any]) -> dict[str, Any]:
    """The checked definition, with what became of its file. Raises Rejected."""
    events = (await read_calendar(definition, limit_seconds=INTAKE_SECONDS)).events
    told = {"skipped": events.skipped, "warnings": events.warnings}
    return definition | {name: [_told(item) for item in found] for name, found in told.items() if found}


def _told(told: Told) -> dict[str, Any]:
    shown = {"line": told.line, "reason": told.text}
    return shown if told.event is None else {**shown, "event": told.event[:EVENT_SHOWN_CHARS]}


def calendar_of(row: ResourceRow) -> SharedCalendar:
    """The calendar of its row."""
    return calendars.from_json(row.id, row.name, row.version, row.doc)


def _change(written: WrittenCalendar | None) -> ResourceChange | None:
    return None if written is None else ResourceChange(events=written.events, head=written.head)
