"""What the store does with schedules: create, read, change. When they tick is the leader's business.

Never makes a nominal time's job itself, except where somebody asks for it: a run by hand, or a backfill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request
from uuid_utils.compat import uuid7

from rota_server.adapters.codec import decode
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.resources import Changed, ResourceChange, Resources
from rota_server.apps.store.schedules.calendars import Calendars
from rota_server.apps.store.schedules.parsing import definition_of, merged, parse_schedule, refuse_surprises, task_of
from rota_server.apps.store.tasks.names import TaskNames
from rota_server.domain.errors import NotFound, Unavailable
from rota_server.domain.ids import Position, Version, resource_id
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs import decisions
from rota_server.domain.jobs.job import ENDED, STATES
from rota_server.domain.log import Appended, Meta, Recorded, StreamWrite, Unit
from rota_server.domain.ports.indexes import JobFilter, ResourceRow
from rota_server.domain.schedules import changes
from rota_server.domain.schedules.changes import Written
from rota_server.domain.schedules.events import TickQueued
from rota_server.domain.schedules.schedule import KIND, Schedule, evolve, from_json
from rota_server.domain.schedules.ticking import OPEN_MAXIMUM, NewJob

MAX_ROUNDS = 20
PAGE_EVENTS = 1000
SCANNED_PAGES = 10
"""Pages of a schedule's stream that one page of its ticks may read."""

Act = Callable[[Schedule, "str | None", Meta, datetime], Written | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run by hand: its job, and whether this request made it."""

    job_id: UUID
    position: int
    created: bool


class Schedules:
    """The handlers, without HTTP."""

    def __init__(self, parts: Parts, resources: Resources, calendars: Calendars) -> None:
        self._log = parts.log
        self._index = parts.index
        self._commit = parts.commit
        self._now = parts.now
        self._tasks = TaskNames(parts.catalog)
        self._resources = resources
        self._calendars = calendars

    # -- reading -----------------------------------------------------------------------------------------------------

    async def load(self, reference: str) -> tuple[Schedule, ResourceRow]:
        """The schedule with this id or name. Raises NotFound."""
        row = await self._resources.load(KIND, reference)
        return schedule_of(row), row

    async def page(self, request: Request, doc: dict[str, Any]) -> tuple[list[ResourceRow], str | None]:
        """One page of the schedules whose documents contain `doc`, newest first, and the cursor of the next."""
        return await self._resources.page(request, KIND, doc=doc or None)

    async def at(self, reference: str, at: int | datetime) -> tuple[Schedule, int]:
        """The schedule as it was, and the position of its last event then. Raises NotFound."""
        row = await self._resources.load(KIND, reference)
        schedule: Schedule | None = None
        position, version = 0, 0
        while True:
            page = await self._log.read_stream_page(row.id, version, PAGE_EVENTS)
            for recorded in self._decoded(page):
                if (recorded.position > at) if isinstance(at, int) else (recorded.recorded_at > at):
                    page = []
                    break
                schedule, position, version = evolve(schedule, recorded), recorded.position, recorded.version
            if len(page) < PAGE_EVENTS:
                break
        if schedule is None:
            raise NotFound(f"there was no schedule {reference[:200]!r} at that time", field="at")
        return schedule, position

    async def ticks(
        self, reference: str, before: int | None, limit: int, wanted: Callable[[Recorded], bool]
    ) -> tuple[list[Recorded], int | None]:
        """Outcomes below version `before`, newest first, and below which version the next page begins.

        That a tick was queued is among them only as long as it waits: then its outcome stands for it.
        """
        row = await self._resources.load(KIND, reference)
        waiting = {tick.nominal for tick in schedule_of(row).queued}
        upto = row.version if before is None else min(before - 1, row.version)
        found: list[Recorded] = []
        for _ in range(SCANNED_PAGES):
            if upto <= 0:
                break
            size = min(upto, max(limit, 100))
            page = await self._log.read_stream_page(row.id, upto - size, size)
            for recorded in reversed(self._decoded(page)):
                if len(found) == limit:
                    return found, recorded.version + 1
                event = recorded.event
                if (not isinstance(event, TickQueued) or event.nominal in waiting) and wanted(recorded):
                    found.append(recorded)
            upto -= size
        return found, upto + 1 if upto > 0 else None

    @staticmethod
    def _decoded(page: Sequence[Any]) -> list[Recorded]:
        return [decode(raw) for raw in page]

    # -- changing ----------------------------------------------------------------------------------------------------

    async def create(self, value: Any, meta: Meta) -> Changed:
        """A new schedule. Raises Rejected, NotPossible, Unavailable."""
        request = parse_schedule(value)
        refuse_surprises(value)
        stream_id = resource_id(KIND, request.name)
        known = await self._tasks.including(task_of(value))
        await self._calendars.check_names(request.calendars)

        def decide_creation(row: ResourceRow | None, now: datetime) -> ResourceChange | None:
            before = None if row is None else schedule_of(row)
            definition = definition_of(request, stream_id, now, now, known)
            return _change(changes.create(before, request.name, definition, request.reason, meta, now))

        return await self._resources.change(stream_id, decide_creation, meta)

    async def change(self, reference: str, value: Any, meta: Meta) -> Changed:
        """Another definition from now on. Raises Rejected, NotPossible, NotFound, Unavailable."""
        found, _ = await self.load(reference)
        known = await self._tasks.including(task_of(value))
        wanted = parse_schedule(merged(found.name, found.definition, value))
        refuse_surprises(value)
        await self._calendars.check_names(wanted.calendars, found.definition["calendars"])
        watches = changes.begins_to_watch(found, {"overlap": wanted.overlap})
        unfinished = await self._unfinished(found.id) if watches else ()

        def decide_change(row: ResourceRow | None, now: datetime) -> ResourceChange | None:
            schedule = _existing(row, reference)
            request = parse_schedule(merged(schedule.name, schedule.definition, value))
            template = None if "job" in value else schedule.definition["job"]
            if template is None:
                request = request.model_copy(update={"job": value["job"]})
            definition = definition_of(request, schedule.id, schedule.created_at, now, known, job=template)
            return _change(changes.change(schedule, definition, request.reason, meta, now, unfinished))

        return await self._resources.change(found.id, decide_change, meta)

    async def act(self, reference: str, act: Act, reason: str | None, meta: Meta) -> Changed:
        """Pause, resume or archive. Raises NotPossible, NotFound, Unavailable."""
        found, _ = await self.load(reference)

        def decide_act(row: ResourceRow | None, now: datetime) -> ResourceChange | None:
            return _change(act(_existing(row, reference), reason, meta, now))

        return await self._resources.change(found.id, decide_act, meta)

    async def run(self, reference: str, key: str | None, reason: str | None, meta: Meta) -> RunResult:
        """Make a job now, or answer that of the same key. Raises NotPossible, NotFound, Unavailable."""
        key = key if key is not None else uuid7().hex
        for _ in range(MAX_ROUNDS):
            schedule, _row = await self.load(reference)
            ended = await self._ended(schedule.open)
            run = changes.run(schedule, key, ended, reason, meta, self._now())
            known = (await self._index.get([run.job_id])).get(run.job_id)
            if known is not None:
                return RunResult(job_id=run.job_id, position=known.first_position, created=False)
            job = NewJob(run.job_id, run.spec)
            position = await self.append(schedule, run.written, [job], meta)
            if position is not None:
                return RunResult(job_id=run.job_id, position=position, created=True)
        raise Unavailable("the schedule changed in every round", server="postgres")

    async def append(
        self, schedule: Schedule, written_: Written, jobs: Sequence[NewJob], meta: Meta
    ) -> Position | None:
        """Append the schedule's events and its new jobs in one unit; None when somebody was quicker."""
        now = self._now()
        managed = await self._resources.modes.managed()
        writes = [
            StreamWrite(
                stream_id=schedule.id,
                expected_version=Version(schedule.version),
                events=written_.events,
                head=written_.head,
            )
        ]
        for job in jobs:
            command = c.SubmitJob(spec=job.spec, managed=job.spec.queue in managed)
            events = decisions.decide(None, command, now)
            writes.append(decisions.write_for(None, job.id, events, meta, now)[0])
        result = await self._commit.append(Unit(id=uuid7(), writes=writes, meta=meta))
        if isinstance(result, Appended):
            return result.last_position
        if result.queue is not None:
            self._resources.modes.refused(result.queue)
        return None

    async def _unfinished(self, schedule_id: UUID) -> list[str]:
        """The schedule's jobs that have not ended, the newest ones when there are very many."""
        found: list[str] = []
        for state in STATES:
            if state not in ENDED and len(found) < OPEN_MAXIMUM:
                where = JobFilter(origin_id=schedule_id, state=state)
                rows = await self._index.find(where, before=None, limit=OPEN_MAXIMUM - len(found))
                found += [str(row.id) for row in rows]
        return found

    async def _ended(self, jobs: Sequence[str]) -> frozenset[str]:
        if not jobs:
            return frozenset()
        heads = await self._index.get([UUID(job) for job in jobs])
        return frozenset(job for job in jobs if UUID(job) not in heads or heads[UUID(job)].state in ENDED)


def schedule_of(row: ResourceRow) -> Schedule:
    """The schedule of its row."""
    return from_json(row.id, row.name, row.version, row.doc)


def _existing(row: ResourceRow | None, reference: str) -> Schedule:
    if row is None:
        raise NotFound(f"there is no schedule {reference[:200]!r}", field="id")
    return schedule_of(row)


def _change(written_: Written | None) -> ResourceChange | None:
    return None if written_ is None else ResourceChange(events=written_.events, head=written_.head)
