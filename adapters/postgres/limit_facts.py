"""What the leader has kept of the limits, for whoever wants to know why a job waits. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, literal, null, select, union_all

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.tables import admissions, jobs, limit_states, running_attempts
from rota_server.domain.ids import Position


class PostgresLimitFacts:
    """Reads the leader's projection and the index of waiting jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def holders(self, queue: str, key: str | None, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """How many jobs count against the limits of the queue (of the key, if given), and the first of them."""
        running = running_attempts.c
        parts = union_all(
            select(
                running.job_id, running.queue, running.key, running.executor, running.started_at, literal("running")
            ),
            select(admissions.c.job_id, admissions.c.queue, admissions.c.key, null(), null(), literal("queued")),
        ).subquery("holders")
        job_id, in_queue, of_key, executor, started_at, state = parts.c
        query = select(job_id, of_key, executor, started_at, state).where(in_queue == queue)
        if key is not None:
            query = query.where(of_key == key)
        async with self._database.begin() as connection:
            count = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
            rows = (await connection.execute(query.order_by(started_at.nulls_last()).limit(limit))).all()
        names = ("job", "key", "executor", "started_at", "state")
        return int(count), [dict(zip(names, (str(row[0]), *row[1:]), strict=True)) for row in rows]

    async def meter(self, queue: str, key: str) -> Mapping[str, Any] | None:
        """The state of the meter of a rate, None when nothing has started lately. Key "": of the queue itself."""
        query = select(limit_states.c.state).where(limit_states.c.queue == queue, limit_states.c.key == key)
        async with self._database.begin() as connection:
            found: Mapping[str, Any] | None = (await connection.execute(query)).scalar()
        return found

    async def ahead(self, lane: str, since: Position) -> int:
        """How many jobs wait in this line since before this position."""
        query = select(func.count()).select_from(jobs).where(jobs.c.lane == lane, jobs.c.waits_since < since)
        async with self._database.begin() as connection:
            return int((await connection.execute(query)).scalar_one())
