"""The event log in memory. Same promises as in PostgreSQL, except that it ends with its process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from adapters.codec import decode, encode_event, encode_meta
from domain.errors import NotLeader
from domain.ids import Position, Term, Version
from domain.log import Appended, AppendResult, Conflicted, JobHead, RawEvent, Recorded, StreamWrite, Unit
from domain.ports import HeadRow, JobFilter


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
        self.term = Term(0)

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        """See the port."""
        if fence is not None and self.term > fence:
            raise NotLeader(f"term {fence} is over", own_term=fence, current_term=self.term)
        results = [self._append(unit) for unit in units]
        self._appended.set()
        self._appended = asyncio.Event()
        return results

    def _append(self, unit: Unit) -> AppendResult:
        known = self._units.get(unit.id)
        if known is not None:
            return known
        for write in unit.writes:
            if len(self._streams.get(write.stream_id, ())) != write.expected_version:
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
        if write.head is not None:
            self._set_head(write.stream_id, stream, write.head)

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
        )

    async def read(self, after: Position, limit: int) -> list[Recorded]:
        """See the port."""
        return [decode(raw) for raw in self._events[after : after + limit]]

    async def read_raw(self, after: Position, limit: int) -> list[RawEvent]:
        """See the port."""
        return self._events[after : after + limit]

    async def read_stream(self, stream_id: UUID) -> list[Recorded]:
        """See the port."""
        return [decode(raw) for raw in self._streams.get(stream_id, ())]

    async def read_streams(self, stream_ids: Sequence[UUID]) -> dict[UUID, list[Recorded]]:
        """See the port."""
        return {i: [decode(raw) for raw in self._streams[i]] for i in stream_ids if i in self._streams}

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


def _matches(row: HeadRow, where: JobFilter) -> bool:
    return (
        where.state in (None, row.state)
        and where.queue in (None, row.queue)
        and where.task in (None, row.task)
        and all(row.tags.get(name) == value for name, value in where.tags.items())
        and (where.submitted_after is None or row.submitted_at > where.submitted_after)
        and (where.submitted_before is None or row.submitted_at < where.submitted_before)
    )
