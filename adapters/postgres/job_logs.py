"""What tasks printed: parts of text by job and attempt. Bounded by whoever writes."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.tables import job_logs
from rota_server.domain.ports.job_logs import LogPart


class PostgresJobLogs:
    """Writes and reads job logs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, parts: Sequence[LogPart]) -> None:
        """Keep the parts; one that is there already (a repeated call) is left as it is."""
        rows = [
            {
                "job_id": p.job_id,
                "attempt": p.attempt,
                "part": p.part,
                "stream": p.stream,
                # PostgreSQL's text has no NUL; encoding drops what is no character at all.
                "content": p.text.replace("\x00", "�").encode("utf-8", "replace").decode(),
            }
            for p in parts
        ]
        async with self._database.begin() as connection:
            await connection.execute(insert(job_logs).on_conflict_do_nothing(), rows)

    async def read(self, job_id: UUID, *, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[LogPart]:
        """Parts behind (attempt, part), in order."""
        attempt, part = after
        query = (
            select(job_logs)
            .where(job_logs.c.job_id == job_id)
            .where((job_logs.c.attempt > attempt) | ((job_logs.c.attempt == attempt) & (job_logs.c.part > part)))
            .order_by(job_logs.c.attempt, job_logs.c.part)
            .limit(limit)
        )
        async with self._database.begin() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [
            LogPart(
                job_id=row["job_id"],
                attempt=row["attempt"],
                part=row["part"],
                stream=row["stream"],
                text=row["content"],
                at=row["written_at"],
            )
            for row in rows
        ]
