"""Reads the current status of jobs from their head rows. Writes nothing: the append does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    select,
    text,
    tuple_,
)

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.tables import dependencies, jobs
from rota_server.domain.ids import Position, Version
from rota_server.domain.ports.indexes import HeadRow, JobFilter

_IN_LINES = text(
    """
    select wanted.lane, waiting.id, waiting.waits_since
    from unnest(:lanes, :afters) as wanted (lane, after)
    cross join lateral (
        select id, waits_since from jobs
        where jobs.lane = wanted.lane and jobs.waits_since > wanted.after order by waits_since limit :limit
    ) as waiting
    order by wanted.lane, waiting.waits_since
    """
).bindparams(
    bindparam("lanes", type_=ARRAY(Text)),
    bindparam("afters", type_=ARRAY(BigInteger)),
    bindparam("limit", type_=Integer),
)

SCAN_ROWS = 2_000
"""Rows of one step of a scan."""

SCAN_WINDOW = 256_000
"""Positions that one step goes through at most, where little is found: a matter of a second."""


class PostgresJobIndex:
    """The port JobIndex on the table `jobs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, job_ids: Sequence[UUID]) -> dict[UUID, HeadRow]:
        """See the port."""
        rows = await self._rows(select(jobs).where(jobs.c.id.in_(job_ids)))
        return {row.id: row for row in rows}

    async def find(self, where: JobFilter, *, before: Position | None, limit: int) -> list[HeadRow]:
        """See the port."""
        query = select(jobs).where(*_conditions(where)).order_by(jobs.c.first_position.desc()).limit(limit)
        if before is not None:
            query = query.where(jobs.c.first_position < before)
        return await self._rows(query)

    async def count(self, where: JobFilter) -> int:
        """See the port."""
        async with self._database.begin() as connection:
            result = await connection.execute(select(func.count()).select_from(jobs).where(*_conditions(where)))
            return int(result.scalar_one())

    async def timers(self, until: datetime, limit: int) -> Sequence[tuple[UUID, datetime]]:
        """See the port."""
        query = select(jobs.c.id, jobs.c.due_at).where(jobs.c.due_at <= until).order_by(jobs.c.due_at).limit(limit)
        async with self._database.begin() as connection:
            return [(job_id, due_at) for job_id, due_at in (await connection.execute(query)).all()]

    async def queued(self, after: Position, limit: int) -> list[HeadRow]:
        """See the port. A scan of the table: used only when the broker has lost its content."""
        query = (
            select(jobs).where(jobs.c.state == "queued", jobs.c.position > after).order_by(jobs.c.position).limit(limit)
        )
        return await self._rows(query)

    async def scan_queued(self, streams: Sequence[tuple[str, str]]) -> AsyncIterator[list[HeadRow]]:
        """See the port. Walks the index of submissions in windows, wider ones where little is found."""
        ends = select(func.min(jobs.c.first_position), func.max(jobs.c.first_position))
        async with self._database.begin() as connection:
            first, last = (await connection.execute(ends)).one()
        if first is None:
            return
        where = (jobs.c.state == "queued", tuple_(jobs.c.queue, jobs.c.priority).in_(streams))
        after, window = first - 1, SCAN_ROWS
        while after < last:
            within = (jobs.c.first_position > after, jobs.c.first_position <= after + window)
            query = select(jobs).where(*where, *within).order_by(jobs.c.first_position).limit(SCAN_ROWS)
            rows = await self._rows(query)
            if rows:
                yield rows
            if len(rows) == SCAN_ROWS:
                after = rows[-1].first_position
            else:
                after += window
                window = min(window * 2, SCAN_WINDOW)

    async def queue_counts(self) -> dict[tuple[str, str], int]:
        """See the port."""
        query = (
            select(jobs.c.queue, jobs.c.priority, func.count())
            .where(jobs.c.state == "queued")
            .group_by(jobs.c.queue, jobs.c.priority)
        )
        async with self._database.begin() as connection:
            return {(q, p): n for q, p, n in (await connection.execute(query)).all()}

    async def in_line(self, lane: str, after: Position, limit: int) -> Sequence[tuple[UUID, Position]]:
        """See the port."""
        query = (
            select(jobs.c.id, jobs.c.waits_since)
            .where(jobs.c.lane == lane, jobs.c.waits_since > after)
            .order_by(jobs.c.waits_since)
            .limit(limit)
        )
        async with self._database.begin() as connection:
            return [(job_id, since) for job_id, since in (await connection.execute(query)).all()]

    async def in_lines(
        self, lanes: Sequence[tuple[str, Position]], limit: int
    ) -> dict[str, list[tuple[UUID, Position]]]:
        """See the port. One walk along the index for each line, in one round trip."""
        values = {"lanes": [lane for lane, _ in lanes], "afters": [after for _, after in lanes], "limit": limit}
        found: dict[str, list[tuple[UUID, Position]]] = {}
        async with self._database.begin() as connection:
            for lane, job_id, since in (await connection.execute(_IN_LINES, values)).all():
                found.setdefault(lane, []).append((job_id, since))
        return found

    async def lanes(self) -> Sequence[tuple[str, int]]:
        """See the port. Reads one index of the waiting jobs."""
        query = select(jobs.c.lane, func.count()).where(jobs.c.lane.is_not(None)).group_by(jobs.c.lane)
        async with self._database.begin() as connection:
            return [(lane, count) for lane, count in (await connection.execute(query)).all()]

    async def states_of_origin(self, origin_id: UUID) -> dict[str, int]:
        """See the port."""
        return (await self.states_of_origins([origin_id])).get(origin_id, {})

    async def states_of_origins(self, origin_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
        """See the port."""
        query = select(jobs.c.origin_id, jobs.c.state, func.count())
        query = query.where(jobs.c.origin_id.in_(origin_ids)).group_by(jobs.c.origin_id, jobs.c.state)
        counts: dict[UUID, dict[str, int]] = {}
        async with self._database.begin() as connection:
            for origin_id, state, count in (await connection.execute(query)).all():
                counts.setdefault(origin_id, {})[state] = count
        return counts

    async def awaited(self) -> Sequence[tuple[UUID, UUID]]:
        """See the port."""
        return await self._pairs(select(dependencies.c.predecessor, dependencies.c.dependent))

    async def dependents(self, predecessors: Sequence[UUID]) -> Sequence[tuple[UUID, UUID]]:
        """See the port."""
        query = select(dependencies.c.predecessor, dependencies.c.dependent)
        return await self._pairs(query.where(dependencies.c.predecessor.in_(predecessors)))

    async def _pairs(self, query: Select[Any]) -> list[tuple[UUID, UUID]]:
        async with self._database.begin() as connection:
            return [(first, second) for first, second in (await connection.execute(query)).all()]

    async def state_counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        async with self._database.begin() as connection:
            return {row[0]: row[1] for row in (await connection.execute(query)).all()}

    async def _rows(self, query: Select[Any]) -> list[HeadRow]:
        async with self._database.begin() as connection:
            return [
                HeadRow(**{**row, "version": Version(row["version"]), "position": Position(row["position"])})
                for row in (await connection.execute(query)).mappings()
            ]


def _conditions(where: JobFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if where.state is not None:
        conditions.append(jobs.c.state == where.state)
    if where.queue is not None:
        conditions.append(jobs.c.queue == where.queue)
    if where.task is not None:
        conditions.append(jobs.c.task == where.task)
    if where.origin_id is not None:
        conditions.append(jobs.c.origin_id == where.origin_id)
    if where.key is not None:
        conditions.append(jobs.c.key == where.key)
    if where.tags:
        conditions.append(jobs.c.tags.contains(dict(where.tags)))
    if where.submitted_after is not None:
        conditions.append(jobs.c.submitted_at > where.submitted_after)
    if where.submitted_before is not None:
        conditions.append(jobs.c.submitted_at < where.submitted_before)
    return conditions
