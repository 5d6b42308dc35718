"""Reads the current state of resources (schedules, queues, workflows ...). Writes nothing: the append does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.tables import resources
from rota_server.domain.ids import Position, Version
from rota_server.domain.ports.indexes import ResourceRow


class PostgresResourceIndex:
    """The port ResourceIndex on the table `resources`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, ids: Sequence[UUID]) -> dict[UUID, ResourceRow]:
        """See the port."""
        return {row.id: row for row in await self._rows(select(resources).where(resources.c.id.in_(ids)))}

    async def by_name(self, kind: str, names: Sequence[str]) -> dict[str, ResourceRow]:
        """See the port."""
        query = select(resources).where(resources.c.kind == kind, resources.c.name.in_(names))
        return {row.name: row for row in await self._rows(query)}

    async def find(
        self,
        kind: str,
        *,
        active: bool | None = None,
        doc: Mapping[str, Any] | None = None,
        before: Position | None = None,
        limit: int,
    ) -> list[ResourceRow]:
        """See the port."""
        query = select(resources).where(resources.c.kind == kind)
        if active is not None:
            query = query.where(resources.c.active.is_(active))
        if doc:
            query = query.where(resources.c.doc.contains(dict(doc)))
        if before is not None:
            query = query.where(resources.c.first_position < before)
        return await self._rows(query.order_by(resources.c.first_position.desc()).limit(limit))

    async def due(self, kind: str, until: datetime, limit: int) -> Sequence[tuple[UUID, datetime]]:
        """See the port."""
        query = (
            select(resources.c.id, resources.c.due_at)
            .where(resources.c.kind == kind, resources.c.due_at <= until)
            .order_by(resources.c.due_at)
            .limit(limit)
        )
        async with self._database.begin() as connection:
            return [(found, due_at) for found, due_at in (await connection.execute(query)).all()]

    async def _rows(self, query: Select[Any]) -> list[ResourceRow]:
        async with self._database.begin() as connection:
            return [_row(row) for row in (await connection.execute(query)).mappings()]


def _row(row: Mapping[str, Any]) -> ResourceRow:
    # asyncpg's own class of UUIDs is not everybody's: JSON encoders refuse it.
    identity = UUID(int=row["id"].int)
    changed = {"id": identity, "version": Version(row["version"]), "position": Position(row["position"])}
    return ResourceRow(**{**row, **changed})
