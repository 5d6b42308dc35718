"""The inbox: jobs that users' own transactions have put in. Read in order, deleted once they are in the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from rota_server.adapters.postgres.connection import Database
from rota_server.domain.inbox import InboxItem, InboxRule, InboxState, RejectedItem

_COLUMNS = "id, place, task, args, options, enqueued_by, enqueued_at"
# As texts: what they hold, the reader decides, not the driver.
_TEXTS = "id, place, task, args::text as args, options::text as options, enqueued_by, enqueued_at"
_TAKE = f"select {_TEXTS} from inbox where place > $1 order by place limit $2"
_RULES = "select role, task, queue from inbox_rules"
_DONE = "delete from inbox where id = any($1::uuid[])"
_REJECT = f"""
with gone as (delete from inbox where id = any($1::uuid[]) returning {_COLUMNS})
insert into inbox_rejected ({_COLUMNS}, problem)
select {_COLUMNS}, refused.problem::json
from gone join unnest($1::uuid[], $2::text[]) as refused (id, problem) using (id)
"""
_STATE = (
    "select (select count(*) from inbox), (select min(enqueued_at) from inbox), (select count(*) from inbox_rejected)"
)
_REJECTED = f"""
select {_TEXTS}, rejected_at, problem::text as problem from inbox_rejected where place > $1 order by place limit $2
"""
_FIND = f"select {_TEXTS} from inbox where id = $1"
_FIND_REJECTED = f"select {_TEXTS}, rejected_at, problem::text as problem from inbox_rejected where id = $1"
_RETRY = """
with gone as (delete from inbox_rejected where id = $1
              returning id, task, args, options, enqueued_by, enqueued_at)
insert into inbox (id, task, args, options, enqueued_by, enqueued_at) select * from gone returning id
"""
_DROP = "delete from inbox_rejected where id = $1 returning id"


class PostgresInbox:
    """The port Inbox on the tables `inbox` and `inbox_rejected`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, after: int, limit: int) -> list[InboxItem]:
        """See the port."""
        return [_item(row) for row in await self._rows(_TAKE, after, limit)]

    async def rules(self) -> list[InboxRule]:
        """See the port."""
        return [InboxRule(row.role, row.task, row.queue) for row in await self._rows(_RULES)]

    async def is_empty(self) -> bool:
        """Whether nothing waits. Raises Unavailable."""
        return not await self._rows("select 1 from inbox limit 1")

    async def done(self, ids: Sequence[UUID]) -> None:
        """See the port."""
        await self._rows(_DONE, list(ids))

    async def reject(self, ids: Sequence[UUID], problems: Sequence[str]) -> None:
        """See the port."""
        await self._rows(_REJECT, list(ids), list(problems))

    async def state(self) -> InboxState:
        """See the port."""
        ((waiting, oldest, rejected),) = await self._rows(_STATE)
        return InboxState(waiting, oldest, rejected)

    async def rejected(self, after: int, limit: int) -> list[RejectedItem]:
        """See the port."""
        rows = await self._rows(_REJECTED, after, limit)
        return [RejectedItem(_item(row), row.rejected_at, row.problem) for row in rows]

    async def find(self, item_id: UUID) -> InboxItem | RejectedItem | None:
        """See the port."""
        for row in await self._rows(_FIND, item_id):
            return _item(row)
        for row in await self._rows(_FIND_REJECTED, item_id):
            return RejectedItem(_item(row), row.rejected_at, row.problem)
        return None

    async def retry(self, item_id: UUID) -> bool:
        """See the port."""
        return bool(await self._rows(_RETRY, item_id))

    async def drop(self, item_id: UUID) -> bool:
        """See the port."""
        return bool(await self._rows(_DROP, item_id))

    async def _rows(self, statement: str, *arguments: Any) -> Sequence[Any]:
        async with self._database.begin() as connection:
            result = await connection.exec_driver_sql(statement, arguments or None)
            return result.all() if result.returns_rows else ()


def _item(row: Any) -> InboxItem:
    return InboxItem(UUID(int=row.id.int), row.place, row.task, row.args, row.options, row.enqueued_by, row.enqueued_at)
