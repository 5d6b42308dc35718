"""The rules of the inbox, written as the database's owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import asyncpg

from rota_server.adapters.postgres.connecting import Connector
from rota_server.adapters.postgres.errors import translated
from rota_server.adapters.postgres.migrate import owner_address
from rota_server.domain.errors import Rejected
from rota_server.domain.inbox import InboxRule


async def allow(owner_url: str, role: str, tasks: Sequence[str], queues: Sequence[str]) -> None:
    """Let a role of the database put in these tasks for these queues, and from its first rule on nothing else.

    Raises:
        Rejected: there is no such role.
        Unavailable: PostgreSQL does not answer.
    """
    rows = [(role, task, queue) for task, queue in product(tasks, queues)]
    async with _as_owner(owner_url) as connection:
        if not await connection.fetchval("select exists (select from pg_roles where rolname = $1)", role):
            raise Rejected(f"the database has no role {role}", field="role")
        await connection.executemany("insert into inbox_rules values ($1, $2, $3) on conflict do nothing", rows)


async def forget(owner_url: str, role: str) -> int:
    """Remove all rules of a role, which is then as one without; how many there were. Raises Unavailable."""
    async with _as_owner(owner_url) as connection:
        return len(await connection.fetch("delete from inbox_rules where role = $1 returning 1", role))


async def rules(owner_url: str) -> list[InboxRule]:
    """All rules. Raises Unavailable."""
    async with _as_owner(owner_url) as connection:
        rows = await connection.fetch("select role, task, queue from inbox_rules order by 1, 2, 3")
        return [InboxRule(*row) for row in rows]


@asynccontextmanager
async def _as_owner(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await Connector(owner_address(url), application="rota-inbox").connect()
    try:
        with translated():
            yield connection
    finally:
        connection.terminate()
