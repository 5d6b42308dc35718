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

from rota_server.apps.calendar_reading import read_calendar
from rota_server.apps.calendar_versions import LATEST, Versions, versions_of
from rota_server.domain.errors import Rejected
from rota_server.domain.ids import resource_id
from rota_server.domain.messaging import FeedEvent
from rota_server.domain.ports.event_log import EventLog
from rota_server.domain.ports.indexes import ResourceIndex, ResourceRow
from rota_server.domain.recurrence.calendars import Calendar
from rota_server.domain.schedules import calendars
from rota_server.domain.schedules.schedule import Schedule
from rota_server.observability import unreadable

RENEW_SECONDS = 10.0
"""How old the knowledge of a calendar may be before its row is read again."""

KEPT_MAXIMUM = 500
"""Calendars kept in memory."""


@dataclass(slots=True)
class _Known:
    row: ResourceRow
    since: datetime
    read_at: float
    present: Calendar
    versions: Versions | None = None
    """Also those that were in force from `reach` on; None: not read."""
    reach: datetime = LATEST


class CalendarHistory:
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
            if known is not None and cursor <= known.since and cursor < known.reach:
                await self._read_past(known, cursor)

    def then(self, names: Sequence[str], at: datetime) -> list[Calendar]:
        """The calendars of these names as they were at that instant. Raises Rejected for an unknown one."""
        return [self._then(name, at) for name in names]

    def _then(self, name: str, at: datetime) -> Calendar:
        known = self._known.get(resource_id(calendars.KIND, name))
        if known is None:
            raise Rejected(f"there is no calendar {name!r}", field="calendars", code="unknown-calendar")
        return known.present if known.versions is None or at > known.since else known.versions.then(at)

    def _is_old(self, name: str) -> bool:
        known = self._known.get(resource_id(calendars.KIND, name))
        return known is None or time.monotonic() - known.read_at > RENEW_SECONDS

    async def _read(self, names: Sequence[str]) -> None:
        if not names:
            return
        read_at = time.monotonic()
        for row in (await self._resources.by_name(calendars.KIND, names)).values():
            known = self._known.get(row.id)
            if known is not None and known.row.version == row.version:
                known.read_at = read_at
                continue
            try:
                calendar = calendars.from_json(row.id, row.name, row.version, row.doc)
                present = await read_calendar(calendar.definition, row.name)
            except (KeyError, TypeError, ValueError, AttributeError, Rejected) as error:
                # Whoever names it waits, as for one that is not there; the others tick.
                unreadable.note("scheduler", row.id, f"calendar {row.name} cannot be read: {error!r}")
                self._known.pop(row.id, None)
                continue
            self._known[row.id] = _Known(row, calendar.at, read_at, present)

    async def _read_past(self, known: _Known, since: datetime) -> None:
        try:
            known.versions = await versions_of(self._log, known.row, since)
            known.reach = since
        except Rejected as error:
            unreadable.note("scheduler", known.row.id, f"the calendar's history cannot be read: {error}")
            self._known.pop(known.row.id, None)
