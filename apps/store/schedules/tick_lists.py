"""What became of a schedule's nominal times, newest first; what was skipped as one, as one item or one by one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from rota_server.adapters.codec import decode
from rota_server.apps.store.parts import StoreLog
from rota_server.apps.store.schedules.handlers import Schedules
from rota_server.apps.store.schedules.views import tick_view
from rota_server.domain.log import Recorded
from rota_server.domain.recurrence.counting import before_last, tail
from rota_server.domain.recurrence.instants import utc_text
from rota_server.domain.recurrence.timing import Timing
from rota_server.domain.schedules import definition as definitions
from rota_server.domain.schedules.events import ScheduleChanged, ScheduleCreated, TicksSkipped
from rota_server.domain.schedules.schedule import Schedule

SHOWN_BITS = 29
"""Of a cursor: how many of a stretch have been shown. The rest is the version below which the next page begins."""

MOMENT = timedelta(microseconds=1)


class TickLists:
    """The handler, without HTTP."""

    def __init__(self, log: StoreLog, schedules: Schedules) -> None:
        self._log = log
        self._schedules = schedules

    async def page(
        self, reference: str, cursor: int | None, limit: int, wanted: Callable[[Recorded], bool], *, expand: bool
    ) -> tuple[list[dict[str, Any]], int | None]:
        """One page and the cursor of the next. `expand`: every nominal time of a stretch is an item of its own."""
        before = None if cursor is None else cursor >> SHOWN_BITS
        shown = 0 if cursor is None else cursor & ((1 << SHOWN_BITS) - 1)
        found, following = await self._schedules.ticks(reference, before, limit, wanted)
        timings: dict[int, Timing | None] = {}
        items: list[dict[str, Any]] = []
        for recorded in found:
            if len(items) == limit:
                return items, recorded.version + 1 << SHOWN_BITS
            timing = await self._timing(reference, recorded, timings) if expand else None
            view = tick_view(recorded) or {}
            if timing is None or not isinstance(recorded.event, TicksSkipped):
                items.append(view)
            else:
                part = _expanded(recorded.event, view, timing, shown, limit - len(items))
                items += part
                if part and shown + len(part) < recorded.event.count:
                    return items, recorded.version + 1 << SHOWN_BITS | shown + len(part)
            shown = 0
        return items, None if following is None else following << SHOWN_BITS

    async def _timing(self, reference: str, recorded: Recorded, known: dict[int, Timing | None]) -> Timing | None:
        """When the definition ticks that a stretch was skipped of; None when it is not at hand."""
        event = recorded.event
        if not isinstance(event, TicksSkipped):
            return None
        if event.revision not in known:
            schedule, _ = await self._schedules.load(reference)
            known[event.revision] = await self._read_timing(schedule, event.revision)
        return known[event.revision]

    async def _read_timing(self, schedule: Schedule, revision: int) -> Timing | None:
        place = next((r for r in schedule.revisions if r.revision == revision), None)
        if place is None:
            return None
        (raw,) = await self._log.read_stream_page(schedule.id, place.version - 1, 1)
        event = decode(raw).event
        if not isinstance(event, ScheduleCreated | ScheduleChanged):
            return None
        return definitions.timing(schedule, event.definition)


def _expanded(event: TicksSkipped, view: dict[str, Any], timing: Timing, shown: int, room: int) -> list[dict[str, Any]]:
    """Up to `room` nominal times of the stretch behind those that were shown, newest first."""
    after = event.first - MOMENT
    until = before_last(timing, after, event.until, shown)
    rest = {name: value for name, value in view.items() if name not in ("utc", "until", "count")}
    return [
        {"at": nominal.local, "utc": utc_text(nominal.at), **rest, "note": nominal.note}
        for nominal in reversed(tail(timing, after, until, room).last)
    ]
