"""Which versions of a shared calendar were in force from an instant on, read from the end of its stream.

No more of a stream is read than the question needs, and no more than a few of its events are held at a time.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rota_server.adapters.codec import decode
from rota_server.apps.calendar_reading import read_calendar
from rota_server.domain.errors import Unreadable
from rota_server.domain.events import named
from rota_server.domain.ports.event_log import EventLog
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.domain.recurrence.calendars import Calendar
from rota_server.domain.schedules.events import CalendarArchived, CalendarChanged, CalendarCreated

logger = logging.getLogger("rota.calendars")

LATEST = datetime.max.replace(tzinfo=UTC)
PAGE_EVENTS = 8
"""A calendar's event holds the whole calendar: a megabyte, if it is an iCalendar file."""

VERSIONS_MAXIMUM = 50
"""Earlier versions that are kept of one calendar; the oldest of them stands for still earlier ones."""


class Versions(NamedTuple):
    """A calendar's versions, oldest first, each with the instant from which the next one is in force."""

    past: Sequence[tuple[datetime, Calendar]]
    present: Calendar

    def then(self, at: datetime) -> Calendar:
        """The version for nominal times at this instant."""
        return next((calendar for until, calendar in self.past if at <= until), self.present)


class _Older(NamedTuple):
    """A version that is over: from when to when it was in force."""

    at: datetime
    ends: datetime
    definition: Mapping[str, Any]


async def versions_of(log: EventLog, row: ResourceRow, since: datetime, until: datetime = LATEST) -> Versions:
    """The versions for nominal times in [`since`, `until`]. Raises Unreadable, Rejected, Unavailable."""
    past: list[tuple[datetime, Calendar]] = []
    present: Calendar | None = None
    ends = LATEST
    older: _Older | None = None
    async for at, definition in _backwards(log, row):
        if present is None:
            present = await read_calendar(definition, row.name)
        else:
            if older is not None and older.at < until:
                past.append((older.ends, await read_calendar(older.definition, row.name)))
            older = _Older(at, ends, definition)
        ends = at
        if at < since:
            break
        if len(past) == VERSIONS_MAXIMUM:
            logger.warning("calendar %s has changed more than %d times since then", row.name, VERSIONS_MAXIMUM)
            break
    if older is not None:
        # The first version of all stands for the time before it, too.
        past.append((older.ends, await read_calendar(older.definition, row.name)))
    if present is None:
        raise Unreadable(f"calendar {row.name} has no version", stream_id=row.id)
    return Versions(past[::-1], present)


async def _backwards(log: EventLog, row: ResourceRow) -> AsyncIterator[tuple[datetime, Mapping[str, Any]]]:
    """Since when which definition is in force, the newest first."""
    upto = int(row.version)
    while upto > 0:
        size = min(upto, PAGE_EVENTS)
        for raw in reversed(await log.read_stream_page(row.id, upto - size, size)):
            event = decode(raw).event
            if isinstance(event, CalendarCreated | CalendarChanged):
                yield event.at, event.definition
            elif not isinstance(event, CalendarArchived):
                message = f"{named(event)} has no place in a calendar's stream"
                raise Unreadable(message, stream_id=row.id, position=raw.position)
        upto -= size
