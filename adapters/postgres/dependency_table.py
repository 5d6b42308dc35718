"""The table of dependencies as the leader reads it: who waits for whom, and whether that has come true.

The append enters rows; here they are only read, and forgotten once their job does not wait any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ARRAY, TextClause, Uuid, bindparam, text

from rota_server.adapters.postgres.connection import Database
from rota_server.domain.ids import Position
from rota_server.domain.jobs.dependencies import ENDS, OPEN, Status
from rota_server.domain.jobs.spec import After, after_from_json

_WAITS = "w.state = 'waiting' and w.lane is null"
_ENDS = ", ".join(f"'{state}'" for state in sorted(ENDS))


def _of_ids(statement: str) -> TextClause:
    return text(statement).bindparams(bindparam("ids", type_=ARRAY(Uuid)))


_PAIRS = text(
    f"select d.predecessor::text, d.dependent::text from dependencies d join jobs w on w.id = d.dependent and {_WAITS}"
)
_UNDECIDED = text(
    f"""
    select d.dependent::text from dependencies d join jobs w on w.id = d.dependent and {_WAITS}
    join jobs p on p.id = d.predecessor and p.state in ({_ENDS})
    union
    select d.dependent::text from dependencies d join jobs w on w.id = d.dependent and {_WAITS}
    join resources p on p.id = d.predecessor and not p.active
    """
)
_LEFT = text(
    f"select distinct d.dependent::text from dependencies d join jobs w on w.id = d.dependent and not ({_WAITS})"
)
_AFTERS = _of_ids(
    f"""
    select w.id::text, (e.data->'spec'->'after')::text from jobs w
    join events e on e.stream_id = w.id and e.version = 1
    where w.id = any(:ids) and {_WAITS}
    """
)
_STATUSES = _of_ids(
    f"""
    select id::text, case when state in ({_ENDS}) then state else '{OPEN}' end, position from jobs where id = any(:ids)
    union all
    select id::text, case when active then '{OPEN}' else doc->>'state' end, position from resources
    where id = any(:ids) and kind in ('workflow', 'batch')
    """
)
_FORGET = _of_ids("select rota_forget_dependencies(:ids)")


class PostgresDependencyTable:
    """The leader's view of who waits for whom. Ids are texts, as in the feed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[list[tuple[str, str]], list[str], list[str]]:
        """All that waits as (predecessor, dependent); of these, dependents of which a predecessor has ended; leftovers.

        As of one moment. Leftovers are dependents that do not wait any more and are still in the table.
        """
        async with self._database.snapshot() as connection:
            pairs = [(row[0], row[1]) for row in (await connection.execute(_PAIRS)).all()]
            undecided = [row[0] for row in (await connection.execute(_UNDECIDED)).all()]
            left = [row[0] for row in (await connection.execute(_LEFT)).all()]
        return pairs, undecided, left

    async def afters(self, dependents: Sequence[str]) -> dict[str, After]:
        """What these wait for in detail; one that does not wait for others (any more) is missing."""
        rows = await self._fetch(_AFTERS, dependents)
        return {row[0]: after_from_json(orjson.loads(row[1])) for row in rows if row[1] not in (None, "null")}

    async def statuses(self, predecessors: Sequence[str]) -> dict[str, Status]:
        """The present state of these jobs, workflows and batches; unknown ones are missing."""
        return {row[0]: Status(row[1], Position(row[2])) for row in await self._fetch(_STATUSES, predecessors)}

    async def forget(self, dependents: Sequence[str]) -> set[str]:
        """Forget whom these waited for; those that was done for. The others wait again, or are just being changed."""
        rows = await self._fetch(_FORGET, dependents)
        return {str(job_id) for job_id in rows[0][0]}

    async def _fetch(self, statement: TextClause, ids: Sequence[str]) -> Sequence[Any]:
        async with self._database.begin() as connection:
            return (await connection.execute(statement, {"ids": [UUID(i) for i in ids]})).all()
