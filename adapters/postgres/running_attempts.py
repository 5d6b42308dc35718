"""The leader's projection: the attempts that run, how many jobs are queued, and up to where it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.connection import Database
from adapters.postgres.tables import checkpoints, queue_counts, running_attempts
from domain.brain import RunningAttempt
from domain.ids import Position, Version

CHECKPOINT = "scheduler"


class PostgresRunningAttempts:
    """Reads and writes the projection; rows and checkpoint change together or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[Position, list[RunningAttempt], dict[tuple[str, str], int]]:
        """The checkpoint and what is true there."""
        async with self._database.begin() as connection:
            await connection.execute(text("set transaction isolation level repeatable read"))
            position = (
                await connection.execute(select(checkpoints.c.position).where(checkpoints.c.name == CHECKPOINT))
            ).scalar()
            rows = (await connection.execute(select(running_attempts))).mappings().all()
            counts = (await connection.execute(select(queue_counts))).mappings().all()
        running = [RunningAttempt(**{**row, "version": Version(row["version"])}) for row in rows]
        queued = {(row["queue"], row["priority"]): row["queued"] for row in counts}
        return Position(position or 0), running, queued

    async def save(
        self,
        *,
        old: Position,
        new: Position,
        started: Sequence[RunningAttempt],
        ended: Sequence[UUID],
        counts: Mapping[tuple[str, str], int],
    ) -> bool:
        """Move the checkpoint from `old` to `new` with what happened between; False: somebody else moved it."""
        async with self._database.begin() as connection:
            if old == 0:
                await connection.execute(
                    insert(checkpoints).values(name=CHECKPOINT, position=0).on_conflict_do_nothing()
                )
            moved = await connection.execute(
                update(checkpoints)
                .where(checkpoints.c.name == CHECKPOINT, checkpoints.c.position == old)
                .values(position=new)
            )
            if moved.rowcount != 1:
                return False
            if ended:
                await connection.execute(delete(running_attempts).where(running_attempts.c.job_id.in_(ended)))
            if started:
                rows = [
                    {
                        "job_id": a.job_id,
                        "attempt": a.attempt,
                        "version": a.version,
                        "executor": a.executor,
                        "started_at": a.started_at,
                        "timeout_seconds": a.timeout_seconds,
                    }
                    for a in started
                ]
                statement = insert(running_attempts)
                changed = {name: statement.excluded[name] for name in rows[0] if name != "job_id"}
                await connection.execute(statement.on_conflict_do_update(index_elements=["job_id"], set_=changed), rows)
            if counts:
                statement = insert(queue_counts)
                await connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["queue", "priority"], set_={"queued": statement.excluded.queued}
                    ),
                    [{"queue": q, "priority": p, "queued": n} for (q, p), n in sorted(counts.items())],
                )
        return True

    async def checkpoint(self) -> Position:
        """The position up to which the projection is true."""
        async with self._database.begin() as connection:
            query = select(checkpoints.c.position).where(checkpoints.c.name == CHECKPOINT)
            return Position((await connection.execute(query)).scalar() or 0)

    async def of_executor(self, executor: str, *, older_than_seconds: float) -> list[RunningAttempt]:
        """What stands as running on this executor for longer than that."""
        query = select(running_attempts).where(
            running_attempts.c.executor == executor,
            running_attempts.c.started_at < func.clock_timestamp() - text(f"interval '{older_than_seconds} s'"),
        )
        async with self._database.begin() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [RunningAttempt(**{**row, "version": Version(row["version"])}) for row in rows]
