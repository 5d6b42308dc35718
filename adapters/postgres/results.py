"""What ended jobs have returned, and how workflows and batches ended: loaded within bounds that the caller sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ARRAY, TextClause, Uuid, bindparam, text

from rota_server.adapters.postgres.connection import Database


def _of_ids(statement: str) -> TextClause:
    return text(statement).bindparams(bindparam("ids", type_=ARRAY(Uuid)))


# A job that has succeeded never runs again, so there is one such event at most. Its data are taken as they are: results
# may hold what PostgreSQL's own functions refuse to look into (an escaped NUL).
_RESULTS = """
select stream_id as id, data::text as data from events where stream_id = any(:ids) and type = 'AttemptSucceeded'
union all
select id, json_build_object(
    'result', json_build_object('state', doc->'state', 'total', doc->'total', 'counts', doc->'counts')
)::text from resources where id = any(:ids) and kind in ('workflow', 'batch') and not active
"""
_SIZES = _of_ids(f"select id, octet_length(data) from ({_RESULTS}) as found")
_VALUES = _of_ids(_RESULTS)


class PostgresResults:
    """Results by the ids of their jobs, workflows and batches. What has not succeeded, or not ended, has none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sizes(self, ids: Sequence[UUID]) -> dict[UUID, int]:
        """How many bytes each result has as JSON, and a few more. Raises Unavailable."""
        return {UUID(int=row[0].int): row[1] for row in await self._fetch(_SIZES, ids)}

    async def values(self, ids: Sequence[UUID]) -> dict[UUID, Any]:
        """The results. Raises Unavailable."""
        return {UUID(int=row[0].int): orjson.loads(row[1])["result"] for row in await self._fetch(_VALUES, ids)}

    async def _fetch(self, statement: TextClause, ids: Sequence[UUID]) -> Sequence[Any]:
        if not ids:
            return []
        async with self._database.begin() as connection:
            return (await connection.execute(statement, {"ids": list(ids)})).all()
