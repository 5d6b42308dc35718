"""Makes up for nominal times of the past: by the rule, zone and calendars in force then, and never what ran already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from rota_server.adapters.codec import decode
from rota_server.apps.calendar_versions import Versions
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.schedules.calendars import Calendars
from rota_server.apps.store.schedules.handlers import PAGE_EVENTS, Schedules
from rota_server.apps.store.schedules.views import candidate_view
from rota_server.domain.errors import NotPossible, Rejected, Unavailable
from rota_server.domain.log import Meta
from rota_server.domain.recurrence.calendars import Calendar
from rota_server.domain.recurrence.clocks import Clock
from rota_server.domain.schedules import backfill
from rota_server.domain.schedules.backfill import Candidate, InForce
from rota_server.domain.schedules.events import ScheduleChanged, ScheduleCreated
from rota_server.domain.schedules.schedule import REVISIONS_KEPT, Revision, Schedule

DEFAULT_LIMIT = 100
LIMIT_MAXIMUM = 1000
"""Jobs that one backfill makes."""

DEFAULT_RATE = 1.0
RATE_MAXIMUM = 1000.0
"""Jobs of a backfill that become due in a second."""

SHOWN = 1000
MAX_ROUNDS = 20


class Backfills:
    """The handler, without HTTP."""

    def __init__(self, parts: Parts, schedules: Schedules, calendars: Calendars) -> None:
        self._log = parts.log
        self._index = parts.index
        self._now = parts.now
        self._schedules = schedules
        self._calendars = calendars

    async def run(self, reference: str, options: dict[str, Any], meta: Meta) -> tuple[dict[str, Any], int]:
        """Do it, or with `dry_run` (the default) say what would be done; the last position written, 0 for none.

        Raises Rejected, NotPossible, NotFound; Unavailable: some of it may be done, and repeating it does the rest.
        """
        limit, rate, dry_run = _options(options)
        schedule, _ = await self._schedules.load(reference)
        first, last = _range(options, schedule.definition)
        if schedule.state == "archived":
            raise NotPossible(f"schedule {schedule.name} is archived", code="archived")
        in_force = await self._in_force(schedule, first, last)
        versions = await self._calendars.versions(
            [name for era in in_force for name in era.definition["calendars"]], first, last
        )
        found = backfill.candidates(schedule, in_force, first, last, _Then(versions))
        marked = backfill.without(found, await self._there(found), limit)
        begin = self._now()
        spacing = timedelta(seconds=1 / rate)
        position = 0
        chosen = [candidate for candidate in marked if candidate.reason is None]
        if not dry_run and chosen:
            position = await self._fill(reference, chosen, begin, spacing, options.get("reason"), meta)
        run_ats = {candidate.job_id: begin + place * spacing for place, candidate in enumerate(chosen)}
        reasons: dict[str, int] = {}
        for candidate in marked:
            if candidate.reason is not None:
                reasons[candidate.reason] = reasons.get(candidate.reason, 0) + 1
        return {
            "dry_run": dry_run,
            "jobs": len(chosen),
            "skipped": reasons,
            "seconds": max(0, len(chosen) - 1) / rate,
            "ticks": [candidate_view(candidate, run_ats.get(candidate.job_id)) for candidate in marked[:SHOWN]],
            "complete": "limit" not in reasons,
            "note": _note(schedule, first, last, any_found=bool(marked)),
        }, position

    async def _fill(
        self,
        reference: str,
        chosen: Sequence[Candidate],
        begin: datetime,
        spacing: timedelta,
        reason: str | None,
        meta: Meta,
    ) -> int:
        position = 0
        for start in range(0, len(chosen), backfill.UNIT_TICKS):
            part = chosen[start : start + backfill.UNIT_TICKS]
            position = max(
                position, await self._fill_part(reference, part, begin + start * spacing, spacing, reason, meta)
            )
        return position

    async def _fill_part(
        self,
        reference: str,
        part: Sequence[Candidate],
        begin: datetime,
        spacing: timedelta,
        reason: str | None,
        meta: Meta,
    ) -> int:
        for _ in range(MAX_ROUNDS):
            schedule, _row = await self._schedules.load(reference)
            there = await self._there(part)
            left = [candidate for candidate in part if candidate.job_id not in there]
            if not left:
                return 0
            filled = backfill.fill(schedule, left, begin, spacing, reason, meta)
            position = await self._schedules.append(schedule, filled.written, filled.jobs, meta)
            if position is not None:
                return position
        raise Unavailable("the schedule changed in every round", server="postgres")

    async def _there(self, found: Sequence[Candidate]) -> set[UUID]:
        """Those whose job exists, whoever made it."""
        ids = [candidate.job_id for candidate in found if candidate.reason is None]
        there: set[UUID] = set()
        for start in range(0, len(ids), PAGE_EVENTS):
            there |= set(await self._index.get(ids[start : start + PAGE_EVENTS]))
        return there

    async def _in_force(self, schedule: Schedule, first: datetime, last: datetime) -> list[InForce]:
        """What was in force in the range, oldest first. The first definition stands for the time before it, too."""
        revisions = await self._revisions(schedule, first)
        spans: list[tuple[Revision, datetime | None, datetime | None]] = []
        bounds = [None, *(revision.at for revision in revisions[1:]), None]
        for revision, (after, until) in zip(revisions, pairwise(bounds), strict=True):
            if (until is None or until >= first) and (after is None or after < last):
                spans.append((revision, after, until))
        found: list[InForce] = []
        for revision, after, until in spans:
            (raw,) = await self._log.read_stream_page(schedule.id, revision.version - 1, 1)
            event = decode(raw).event
            if isinstance(event, ScheduleCreated | ScheduleChanged):
                found.append(InForce(event.definition, revision.revision, after, until))
        return found

    async def _revisions(self, schedule: Schedule, first: datetime) -> list[Revision]:
        """When which definition came into force; older ones than the row knows only where the range needs them."""
        known = list(schedule.revisions)
        if len(known) < REVISIONS_KEPT or first > known[0].at:
            return known
        older: list[Revision] = []
        version = 0
        while version < known[0].version - 1:
            size = min(PAGE_EVENTS, known[0].version - 1 - version)
            for raw in await self._log.read_stream_page(schedule.id, version, size):
                if raw.type in ("ScheduleCreated", "ScheduleChanged"):
                    event = decode(raw).event
                    if isinstance(event, ScheduleCreated | ScheduleChanged):
                        older.append(Revision(event.revision, raw.version, event.at))
            version += size
        return [*older, *known]


def _note(schedule: Schedule, first: datetime, last: datetime, *, any_found: bool) -> str | None:
    """What one may wonder about: why there is nothing, or nothing of the end of the range."""
    decided = f"{schedule.cursor.isoformat(timespec='seconds')} has been decided; what comes after it ticks by itself"
    if first > schedule.cursor:
        return f"the range lies in the future: only up to {decided}"
    if last > schedule.cursor:
        return f"only up to {decided}"
    return None if any_found else "the rule has no nominal time in the range"


class _Then:
    """The calendars as they were."""

    def __init__(self, versions: dict[str, Versions]) -> None:
        self._versions = versions

    def __call__(self, names: Sequence[str], at: datetime) -> list[Calendar]:
        return [self._versions[name].then(at) for name in names if name in self._versions]


def _range(options: dict[str, Any], definition: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """From when to when; what has no offset is read on the schedule's clock, as `start` and `end` are."""
    clock = Clock(definition["timezone"], definition["gap"], definition["fold"])
    first, last = clock.instant(options["from"], "from"), clock.instant(options["to"], "to", bound="last")
    if last < first:
        raise Rejected("to: lies before from", field="to", code="invalid-argument")
    return first, last


def _options(options: dict[str, Any]) -> tuple[int, float, bool]:
    for name in ("from", "to"):
        if options.get(name) is None:
            raise Rejected(f"{name}: which range is meant?", field=name, code="missing")
    limit, rate = options.get("limit", DEFAULT_LIMIT), options.get("rate", DEFAULT_RATE)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LIMIT_MAXIMUM:
        message = f"limit: must be a whole number from 1 to {LIMIT_MAXIMUM}"
        raise Rejected(message, field="limit", code="invalid-argument")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.001 <= rate <= RATE_MAXIMUM:
        message = f"rate: jobs per second, from 0.001 to {RATE_MAXIMUM:g}"
        raise Rejected(message, field="rate", code="invalid-argument")
    dry_run = options.get("dry_run", True)
    if not isinstance(dry_run, bool):
        raise Rejected("dry_run: must be true or false", field="dry_run", code="invalid-argument")
    return limit, float(rate), dry_run
