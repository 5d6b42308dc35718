"""Shows when a rule would tick: of a schedule, or one that need not be saved."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from rota_server.apps.store.http.json_body import shown
from rota_server.apps.store.schedules.calendars import Calendars
from rota_server.apps.store.schedules.handlers import Schedules
from rota_server.apps.store.schedules.parsing import TIMING_FIELDS, refuse_surprises
from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.calendars import Calendar
from rota_server.domain.recurrence.clocks import Clock
from rota_server.domain.recurrence.preview import preview
from rota_server.domain.recurrence.timing import parse_timing

DEFAULT_COUNT = 10
FIELDS = frozenset({*TIMING_FIELDS, "after", "calendars", "schedule"})


class Previews:
    """The handler, without HTTP."""

    def __init__(self, schedules: Schedules, calendars: Calendars, now: Any) -> None:
        self._schedules = schedules
        self._calendars = calendars
        self._now = now

    async def preview(self, value: Any) -> dict[str, Any]:
        """The next times. Here `count` is how many to show. Raises Rejected, NotFound, Unavailable."""
        if not isinstance(value, dict):
            raise Rejected("the body must be a JSON object", code="wrong-type")
        for name in value:
            if name not in FIELDS:
                raise Rejected(f"{shown(name)}: there is no such field", field=name, code="unknown-field")
        refuse_surprises(value)
        now: datetime = self._now()
        count = value.get("count", DEFAULT_COUNT)
        if isinstance(count, bool) or not isinstance(count, int):
            raise Rejected("count: must be a whole number", field="count", code="invalid-argument")
        spec = {name: found for name, found in value.items() if name not in ("after", "count", "schedule")}
        seed, created = UUID(int=0), now
        if value.get("schedule") is not None:
            if set(value) & set(TIMING_FIELDS) - {"count"}:
                raise Rejected("schedule: either a schedule or a rule", field="schedule", code="invalid-argument")
            schedule, _ = await self._schedules.load(str(value["schedule"]))
            spec, seed, created = dict(schedule.definition), schedule.id, schedule.created_at
        calendars = await self._named(spec.get("calendars"))
        timing = parse_timing(spec, calendars, seed=seed, created=created)
        clock = Clock(timing.timezone, timing.gap, timing.fold)
        after = now if value.get("after") is None else clock.instant(value["after"], "after")
        return {"timezone": timing.timezone, "ticks": preview(timing, after, count)}

    async def _named(self, names: Any) -> list[Calendar]:
        if names is None:
            return []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Rejected("calendars: must be a list of names", field="calendars", code="invalid-argument")
        await self._calendars.check_names(names, names)
        return await self._calendars.present(names)
