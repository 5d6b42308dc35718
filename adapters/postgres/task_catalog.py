"""Which tasks executors have announced: what a store may accept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.tables import task_catalog

ALERTS_LIMIT = 10_000


class PostgresTaskCatalog:
    """Tasks by name, with the options of their declaration (queue, timeout, retry, tags, priority)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def announce(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        """Enter or renew tasks."""
        if not tasks:
            return
        statement = insert(task_catalog)
        renewed = {"options": statement.excluded.options, "announced_at": func.clock_timestamp()}
        statement = statement.on_conflict_do_update(index_elements=["name"], set_=renewed)
        # In order of name, so that executors that start together do not lock each other out.
        rows = [{"name": name, "options": dict(tasks[name])} for name in sorted(tasks)]
        async with self._database.begin() as connection:
            await connection.execute(statement, rows)

    async def alerts(self) -> dict[str, Any]:
        """The alerts that tasks were announced with, by the task's name."""
        alert = task_catalog.c.options["alert"]
        statement = select(task_catalog.c.name, alert).where(alert.is_not(None)).limit(ALERTS_LIMIT)
        async with self._database.begin() as connection:
            rows = await connection.execute(statement)
            return {row[0]: row[1] for row in rows.all() if row[1] is not None}

    async def all(self) -> dict[str, dict[str, Any]]:
        """Every task that was ever announced."""
        async with self._database.begin() as connection:
            rows = await connection.execute(select(task_catalog.c.name, task_catalog.c.options))
            return {row[0]: row[1] for row in rows.all()}
