"""The event log in memory. Same promises as in PostgreSQL, except that it ends with its process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from rota_server.adapters.codec import decode, encode_event, encode_meta
from rota_server.domain.errors import NotLeader
from rota_server.domain.ids import Position, Term, Version
from rota_server.domain.jobs.job import REPORTS
from rota_server.domain.log import (
    Appended,
    AppendResult,
    Conflicted,
    JobHead,
    RawEvent,
    Recorded,
    ResourceHead,
    StreamWrite,
    Unit,
)
from rota_server.domain.ports.event_log import LAST_VERSION
from rota_server.domain.ports.indexes import HeadRow, JobFilter, ResourceRow


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryEventLog:
    """The port EventLog. `now` stamps events; `term` is the leadership in force."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._events: list[RawEvent] = []
        self._streams: dict[UUID, list[RawEvent]] = {}
        self._units: dict[UUID, Appended] = {}
        self._appended = asyncio.Event()
        self.heads: dict[UUID, HeadRow] = {}
        self.resources: dict[UUID, ResourceRow] = {}
        self.dependencies: set[tuple[UUID, UUID]] = set()
        self.term = Term(0)

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        """See the port."""
        if fence is not None and self.term > fence:
            raise NotLeader(f"term {fence} is over", own_term=fence, current_term=self.term)
        results = [self._append(unit, leads=fence is not None) for unit in units]
        self._appended.set()
        self._appended = asyncio.Event()
        return results

    def _append(self, unit: Unit, *, leads: bool) -> AppendResult:
        known = self._units.get(unit.id)
        if known is not None:
            return known
        queues = set() if leads else {r.name for r in self.resources.values() if r.kind == "queue" and r.active}
        for write in unit.writes:
            head = write.head
            if isinstance(head, JobHead) and head.state == "queued" and head.queue in queues:
                return Conflicted(unit.writes[0].stream_id, head.queue)
        for write in unit.writes:
            if len(self._streams.get(write.stream_id, ())) != write.expected_version or self._name_taken(write):
                return Conflicted(write.stream_id)
        first = len(self._events) + 1
        last_at = self._events[-1].recorded_at if self._events else self._now()
        recorded_at = max(self._now(), last_at)
        for write in unit.writes:
            self._write(unit, write, recorded_at)
        result = Appended(Position(first), Position(len(self._events)), recorded_at)
        self._units[unit.id] = result
        return result

    def _write(self, unit: Unit, write: StreamWrite, recorded_at: datetime) -> None:
        stream = self._streams.setdefault(write.stream_id, [])
        for event in write.events:
            raw = RawEvent(
                Position(len(self._events) + 1),
                write.stream_id,
                Version(len(stream) + 1),
                type(event).__name__,
                recorded_at,
                encode_event(event).decode(),
                encode_meta(unit.meta, unit=unit.id, schema=event.schema).decode(),
            )
            self._events.append(raw)
            stream.append(raw)
        if isinstance(write.head, JobHead):
            self._set_head(write.stream_id, stream, write.head)
        elif write.head is not None:
            self._set_resource(write.stream_id, stream, write.head)

    def _name_taken(self, write: StreamWrite) -> bool:
        head = write.head
        return isinstance(head, ResourceHead) and any(
            row.id != write.stream_id and (row.kind, row.name) == (head.kind, head.name)
            for row in self.resources.values()
        )

    def _set_resource(self, stream_id: UUID, stream: Sequence[RawEvent], head: ResourceHead) -> None:
        self.resources[stream_id] = ResourceRow(
            id=stream_id,
            kind=head.kind,
            name=head.name,
            version=stream[-1].version,
            position=stream[-1].position,
            first_position=stream[0].position,
            doc=orjson.loads(orjson.dumps(head.doc)),
            active=head.active,
            due_at=head.due_at,
            created_at=stream[0].recorded_at,
            changed_at=stream[-1].recorded_at,
        )

    def _set_head(self, job_id: UUID, stream: Sequence[RawEvent], head: JobHead) -> None:
        self.heads[job_id] = HeadRow(
            id=job_id,
            version=stream[-1].version,
            position=stream[-1].position,
            first_position=stream[0].position,
            state=head.state,
            attempt=head.attempt,
            queue=head.queue,
            priority=head.priority,
            task=head.task,
            tags=head.tags,
            submitted_at=stream[0].recorded_at,
            changed_at=stream[-1].recorded_at,
            due_at=head.due_at,
            key=self.heads[job_id].key if job_id in self.heads else head.key,
            lane=head.lane,
            waits_since=None if head.lane is None else stream[-1].position,
            origin_id=self.heads[job_id].origin_id if job_id in self.heads else head.origin_id,
        )
        self.dependencies |= {(predecessor, job_id) for predecessor in head.awaits}

    async def read(self, after: Position, limit: int) -> list[Recorded]:
        """See the port."""
        return [decode(raw) for raw in self._events[after : after + limit]]

    async def read_raw(self, after: Position, limit: int) -> list[RawEvent]:
        """See the port."""
        return self._events[after : after + limit]

    async def read_stream(self, stream_id: UUID) -> list[Recorded]:
        """The whole stream: for tests and tools alone."""
        return [decode(raw) for raw in self._streams.get(stream_id, ())]

    async def read_streams(self, stream_ids: Sequence[UUID]) -> dict[UUID, list[Recorded]]:
        """As `read_stream` for several streams; unknown ones are missing."""
        return {i: [decode(raw) for raw in self._streams[i]] for i in stream_ids if i in self._streams}

    async def read_stream_page(
        self, stream_id: UUID, after: int, limit: int, limit_bytes: int | None = None
    ) -> list[RawEvent]:
        """See the port."""
        page: list[RawEvent] = []
        for raw in self._streams.get(stream_id, [])[after : after + limit]:
            if page and limit_bytes is not None and _bytes_of(page) >= limit_bytes:
                break
            page.append(raw)
        return page

    async def read_changes_page(
        self, stream_id: UUID, after: int, limit: int, limit_bytes: int, upto: int = LAST_VERSION
    ) -> list[RawEvent]:
        """See the port."""
        stream = self._streams.get(stream_id, [])[:upto]
        last = next((raw.version for raw in reversed(stream) if raw.type in REPORTS), 0)
        page: list[RawEvent] = []
        for raw in stream[after:]:
            if len(page) == limit or (page and _bytes_of(page) >= limit_bytes):
                break
            if raw.version == last or raw.type not in REPORTS:
                page.append(raw)
        return page

    async def read_streams_within(
        self, after: Mapping[UUID, int], limit: int, limit_bytes: int
    ) -> dict[UUID, list[Recorded]] | None:
        """See the port."""
        found = {name: events for name, seen in after.items() if (events := self._streams.get(name, [])[seen:])}
        every = [raw for events in found.values() for raw in events]
        if len(every) > limit or _bytes_of(every) > limit_bytes:
            return None
        return {name: [decode(raw) for raw in events] for name, events in found.items()}

    async def last_version(self, stream_id: UUID) -> Version:
        """See the port."""
        return Version(len(self._streams.get(stream_id, ())))

    async def last_position(self) -> Position:
        """See the port."""
        return Position(len(self._events))

    async def wait_for_append(self, after: Position, timeout_seconds: float) -> None:
        """See the port."""
        if len(self._events) > after:
            return
        waiting = self._appended
        try:
            async with asyncio.timeout(timeout_seconds):
                await waiting.wait()
        except TimeoutError:
            return


def _bytes_of(events: Sequence[RawEvent]) -> int:
    return sum(len(raw.data.encode()) for raw in events)


class MemoryJobIndex:
    """The port JobIndex over a MemoryEventLog's heads."""

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log

    def _rows(self) -> list[HeadRow]:
        return list(self._log.heads.values())

    async def get(self, job_ids: Sequence[UUID]) -> dict[UUID, HeadRow]:
        """See the port."""
        return {i: self._log.heads[i] for i in job_ids if i in self._log.heads}

    async def find(self, where: JobFilter, *, before: Position | None, limit: int) -> list[HeadRow]:
        """See the port."""
        rows = [r for r in self._rows() if _matches(r, where) and (before is None or r.first_position < before)]
        return sorted(rows, key=lambda row: -row.first_position)[:limit]

    async def count(self, where: JobFilter) -> int:
        """See the port."""
        return sum(_matches(row, where) for row in self._rows())

    async def timers(self, until: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        """See the port."""
        timers = [(row.due_at, row.id) for row in self._rows() if row.due_at is not None and row.due_at <= until]
        return [(job_id, due_at) for due_at, job_id in sorted(timers, key=lambda timer: timer[0])[:limit]]

    async def queued(self, after: Position, limit: int) -> list[HeadRow]:
        """See the port."""
        rows = [row for row in self._rows() if row.state == "queued" and row.position > after]
        return sorted(rows, key=lambda row: row.position)[:limit]

    async def queue_counts(self) -> dict[tuple[str, str], int]:
        """See the port."""
        return dict(Counter((row.queue, row.priority) for row in self._rows() if row.state == "queued"))

    async def in_line(self, lane: str, after: Position, limit: int) -> list[tuple[UUID, Position]]:
        """See the port."""
        waiting = [(row.id, row.waits_since or Position(0)) for row in self._rows() if row.lane == lane]
        return sorted((w for w in waiting if w[1] > after), key=lambda w: w[1])[:limit]

    async def in_lines(
        self, lanes: Sequence[tuple[str, Position]], limit: int
    ) -> dict[str, list[tuple[UUID, Position]]]:
        """See the port."""
        found = {lane: await self.in_line(lane, after, limit) for lane, after in lanes}
        return {lane: jobs for lane, jobs in found.items() if jobs}

    async def lanes(self) -> list[tuple[str, int]]:
        """See the port."""
        return list(Counter(row.lane for row in self._rows() if row.lane is not None).items())

    async def states_of_origin(self, origin_id: UUID) -> dict[str, int]:
        """See the port."""
        return dict(Counter(row.state for row in self._rows() if row.origin_id == origin_id))

    async def states_of_origins(self, origin_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
        """See the port."""
        counts = {origin_id: await self.states_of_origin(origin_id) for origin_id in origin_ids}
        return {origin_id: states for origin_id, states in counts.items() if states}

    async def awaited(self) -> list[tuple[UUID, UUID]]:
        """See the port."""
        return list(self._log.dependencies)

    async def dependents(self, predecessors: Sequence[UUID]) -> list[tuple[UUID, UUID]]:
        """See the port."""
        return [pair for pair in self._log.dependencies if pair[0] in predecessors]


class MemoryResourceIndex:
    """The port ResourceIndex over a MemoryEventLog's resources."""

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log

    async def get(self, ids: Sequence[UUID]) -> dict[UUID, ResourceRow]:
        """See the port."""
        return {i: self._log.resources[i] for i in ids if i in self._log.resources}

    async def by_name(self, kind: str, names: Sequence[str]) -> dict[str, ResourceRow]:
        """See the port."""
        return {r.name: r for r in self._log.resources.values() if r.kind == kind and r.name in names}

    async def find(
        self,
        kind: str,
        *,
        active: bool | None = None,
        doc: Mapping[str, Any] | None = None,
        before: Position | None = None,
        limit: int,
    ) -> list[ResourceRow]:
        """See the port. `doc` is compared at its top level only."""
        rows = [
            row
            for row in self._log.resources.values()
            if row.kind == kind
            and active in (None, row.active)
            and (before is None or row.first_position < before)
            and all(row.doc.get(name) == value for name, value in (doc or {}).items())
        ]
        return sorted(rows, key=lambda row: -row.first_position)[:limit]

    async def due(self, kind: str, until: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        """See the port."""
        due = [(r.id, r.due_at) for r in self._log.resources.values() if r.kind == kind and r.due_at is not None]
        return sorted((d for d in due if d[1] <= until), key=lambda d: d[1])[:limit]


def _matches(row: HeadRow, where: JobFilter) -> bool:
    return (
        where.state in (None, row.state)
        and where.queue in (None, row.queue)
        and where.task in (None, row.task)
        and where.origin_id in (None, row.origin_id)
        and where.key in (None, row.key)
        and all(row.tags.get(name) == value for name, value in where.tags.items())
        and (where.submitted_after is None or row.submitted_at > where.submitted_after)
        and (where.submitted_before is None or row.submitted_at < where.submitted_before)
    )
