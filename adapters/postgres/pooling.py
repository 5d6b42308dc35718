"""Tells by its behaviour whether an address leads to PostgreSQL itself or through a pooler, and of which kind.

A pooler that keeps a server's connection for each client's session (PgBouncer's `session`) is as good as PostgreSQL.
One that gives a connection to each transaction (`transaction`) loses a session's settings, locks and notifications.
One that does so for each statement (`statement`) has no transactions, and Rota cannot work with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import Any

import asyncpg

from rota_server.adapters.postgres.errors import translated
from rota_server.domain.errors import Unavailable, WrongSetting

Connect = Callable[[], Awaitable["asyncpg.Connection[Any]"]]

ROUNDS = 3
"""Others' transactions may come between our questions; then they are asked again."""

FULL_SECONDS = 5.0
"""How long we wait for a pooler that has no connection for further clients."""

OTHERS = 2
"""So many further clients hold a transaction: enough in whatever order a pooler gives its idle connections away."""

_WHERE = """
select (select system_identifier from pg_control_system()), current_database()::text, pg_is_in_recovery()
"""


class Pooling(StrEnum):
    """For how long a client has a connection of the server's."""

    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"


async def pooling_of(connect: Connect) -> Pooling:
    """Find out, with connections made by `connect`, which get no settings. Raises Unavailable."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(_connected(connect))
        try:
            process = await _process(ours)
        except Unavailable as error:
            if "statement pooling" in str(error):
                return Pooling.STATEMENT
            raise
        if process == ours.get_server_pid():
            return Pooling.SESSION  # PostgreSQL itself: it named this process when we connected
        # Who has no connection left for another client does not share the one that we have.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FULL_SECONDS):
                for _ in range(ROUNDS):
                    if await _shared(ours, connect):
                        return Pooling.TRANSACTION
    return Pooling.SESSION


async def _shared(ours: asyncpg.Connection[Any], connect: Connect) -> bool:
    """Whether our session's server process serves another client, or another one serves us, while we are connected."""
    process = await _process(ours)
    async with AsyncExitStack() as stack:
        for _ in range(OTHERS):
            other = await stack.enter_async_context(_connected(connect))
            if await _process(other, keep=True) == process:
                return True
            if await _process(ours) != process:
                return True
    return False


async def _process(connection: asyncpg.Connection[Any], *, keep: bool = False) -> int:
    """The server's process of one transaction, which goes on if it is to be kept."""
    with translated():
        await connection.execute("begin")
        process: int = await connection.fetchval("select pg_backend_pid()")
        if not keep:
            await connection.execute("commit")
        return process


@asynccontextmanager
async def _connected(connect: Connect) -> Any:
    connection = await connect()
    try:
        yield connection
    finally:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            await connection.close(timeout=1)


async def prove_same(pooled: Connect, direct: Connect) -> None:
    """Prove that both lead to one database: a lock that is taken through one is seen through the other.

    Raises:
        WrongSetting: they do not.
        Unavailable: one of them does not answer now, or is a standby.
    """
    async with _connected(pooled) as through, _connected(direct) as straight:
        key = secrets.randbelow(2**31)
        with translated():
            await through.execute("begin")
            try:
                here = tuple(await through.fetchrow(_WHERE))
                process = await through.fetchval("select pg_backend_pid() from pg_advisory_xact_lock_shared($1)", key)
                there = tuple(await straight.fetchrow(_WHERE))
                seen = await straight.fetchval(
                    "select true from pg_locks where locktype = 'advisory' and pid = $1 and objid = $2::bigint::oid",
                    process,
                    key,
                )
            finally:
                await through.execute("rollback")
        if here[:2] == there[:2] and (here[2] or there[2]):
            raise Unavailable("ROTA_DATABASE_URL or ROTA_LISTEN_DATABASE_URL leads to a standby", server="postgres")
        if here[:2] != there[:2] or not seen:
            raise WrongSetting(
                "ROTA_LISTEN_DATABASE_URL leads to another database than ROTA_DATABASE_URL; it must be the direct "
                "address of the same one",
                field="ROTA_LISTEN_DATABASE_URL",
            )


def refuse(found: Pooling, setting: str, *, direct: bool) -> None:
    """Raise WrongSetting, in one line that names the way out, unless the address may be used so.

    `direct`: whether whoever uses it needs sessions.
    """
    if found is Pooling.STATEMENT:
        raise WrongSetting(
            f"{setting} leads through a pooler in statement mode, which has no transactions: use pool_mode = session "
            "or transaction",
            field=setting,
        )
    if found is Pooling.TRANSACTION and direct:
        raise WrongSetting(_WAYS_OUT[setting], field=setting)


_WAYS_OUT = {
    "ROTA_DATABASE_URL": (
        "ROTA_DATABASE_URL leads through a pooler in transaction mode: set ROTA_LISTEN_DATABASE_URL to PostgreSQL's "
        "own address as well, or use pool_mode = session"
    ),
    "ROTA_LISTEN_DATABASE_URL": (
        "ROTA_LISTEN_DATABASE_URL leads through a pooler in transaction mode: it must be PostgreSQL's own address, or "
        "one with pool_mode = session"
    ),
    "ROTA_OWNER_DATABASE_URL": (
        "ROTA_OWNER_DATABASE_URL leads through a pooler in transaction mode: migrations need PostgreSQL's own address, "
        "or one with pool_mode = session"
    ),
}
