"""The calendars that schedules share, as they were in force at an instant, kept in memory as long as they are used.

A change is known by its event, at the latest after a short time. Older versions are read from the calendar's stream
only where a late tick needs them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.errors import Rejected
from domain.ids import resource_id
from domain.messaging import FeedEvent
from domain.ports import EventLog, ResourceIndex
from domain.recurrence.calendars import Calendar, parse_calendar
from domain.schedules import calendars
from domain.schedules.schedule import Schedule
from observability import unreadable

RENEW_SECONDS = 10.0
"""How old the knowledge of a calendar may be before its row is read again."""

KEPT_MAXIMUM = 500
"""Calendars kept in memory."""


@dataclass(slots=True)
class _Known:
    version: int
    since: datetime
    read_at: float
    present: Calendar
    past: list[tuple[datetime, Calendar]] | None = None
    """Earlier versions, oldest first, each with the instant from which the next one is in force; None: not read."""


class CalendarsThen:
    """What the leader knows of calendars."""

    def __init__(self, resources: ResourceIndex, event_log: EventLog) -> None:
        self._resources = resources
        self._log = event_log
        self._known: dict[UUID, _Known] = {}

    def changed(self, event: FeedEvent) -> None:
        """A calendar says something else from now on."""
        self._known.pop(UUID(event.stream_id), None)

    async def learn(self, schedules: Iterable[Schedule]) -> None:
        """Know what `then` may be asked for about these schedules. Raises Unavailable."""
        oldest: dict[str, datetime] = {}
        for schedule in schedules:
            definitions = (schedule.definition, *(era.definition for era in schedule.eras))
            for name in {name for definition in definitions for name in definition["calendars"]}:
                oldest[name] = min(oldest.get(name, schedule.cursor), schedule.cursor)
        if not oldest:
            return
        if len(self._known) > KEPT_MAXIMUM:
            self._known.clear()
        await self._read([name for name in oldest if self._is_old(name)])
        for name, cursor in oldest.items():
            known = self._known.get(resource_id(calendars.KIND, name))
            if known is not None and cursor < known.since and known.past is None:
                known.past = await self._read_past(resource_id(calendars.KIND, name))

    def then(self, names: Sequence[str], at: datetime) -> list[Calendar]:
        """The calendars of these names as they were at that instant. Raises Rejected for an unknown one."""
        return [self._then(name, at) for name in names]

    def _then(self, name: str, at: datetime) -> Calendar:
        known = self._known.get(resource_id(calendars.KIND, name))
        if known is None:
            raise Rejected(f"there is no calendar {name!r}", field="calendars", code="unknown-calendar")
        if known.past is not None and at <= known.since:
            return next((calendar for until, calendar in known.past if at <= until), known.present)
        return known.present

    def _is_old(self, name: str) -> bool:
        known = self._known.get(resource_id(calendars.KIND, name))
        return known is None or time.monotonic() - known.read_at > RENEW_SECONDS

    async def _read(self, names: Sequence[str]) -> None:
        if not names:
            return
        read_at = time.monotonic()
        for row in (await self._resources.by_name(calendars.KIND, names)).values():
            known = self._known.get(row.id)
            if known is not None and known.version == row.version:
                known.read_at = read_at
                continue
            try:
                calendar = calendars.from_json(row.id, row.name, row.version, row.doc)
                present = parse_calendar({**calendar.definition, "name": row.name})
            except (KeyError, TypeError, ValueError, AttributeError, Rejected) as error:
                # Whoever names it waits, as for one that is not there; the others tick.
                unreadable.note("scheduler", row.id, f"calendar {row.name} can not be read: {error!r}")
                self._known.pop(row.id, None)
                continue
            self._known[row.id] = _Known(row.version, calendar.at, read_at, present)

    async def _read_past(self, stream_id: UUID) -> list[tuple[datetime, Calendar]]:
        past: list[tuple[datetime, Calendar]] = []
        calendar: calendars.SharedCalendar | None = None
        try:
            for recorded in await self._log.read_stream(stream_id):
                following = calendars.evolve(calendar, recorded)
                if calendar is not None:
                    past.append((following.at, parse_calendar({**calendar.definition, "name": calendar.name})))
                calendar = following
        except Rejected as error:
            unreadable.note("scheduler", stream_id, f"the calendar's history can not be read: {error}")
            self._known.pop(stream_id, None)
        return past
