"""Connections to PostgreSQL: a pool for everything that is not hot, and lasting ones for loops that are.

A connection that has met a server which may not be written to is not kept: the next one finds the primary, where the
address has several hosts or leads elsewhere after a failover.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from adapters.postgres.address import PostgresAddress
from adapters.postgres.connecting import Connector
from adapters.postgres.errors import means_read_only, translated
from adapters.postgres.sessions import SESSION
from domain.errors import Unavailable

POOL_SECONDS = 5.0


class Database:
    """The servers' address, a small pool, and hot connections on demand."""

    def __init__(self, url: str, *, pool_size: int = 4, application: str = "rota") -> None:
        """Opens nothing yet. Raises WrongSetting when `url` is not an address of PostgreSQL that can be honoured."""
        self.url = url
        self.address = PostgresAddress.parse(url)
        self._connector = Connector(self.address, application=application, session=SESSION)
        self.failovers = 0
        """How often a server was met that may not be written to. Older connections may lead to it, too."""
        self._leaving: set[asyncio.Task[None]] = set()
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connector.connect,
            pool_size=pool_size,
            max_overflow=4,
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=True,
        )
        event.listen(self.engine.sync_engine, "handle_error", self._met_error)

    async def prove_access(self) -> None:
        """Connect once. Raises Refused when the server does not want us, Unavailable when it does not answer."""
        await (await self._connector.connect()).close(timeout=1)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on a pooled connection."""
        with translated():
            async with self.engine.begin() as connection:
                yield connection

    async def connect_raw(self) -> asyncpg.Connection[Any]:
        """A connection of asyncpg's own, which the caller closes."""
        return await self._connector.connect()

    def hot(self) -> HotConnection:
        """A connection for one loop's statements; opened at first use."""
        return HotConnection(self)

    def _met_error(self, context: ExceptionContext) -> None:
        if means_read_only(context.original_exception):
            self.failovers += 1
            context.is_disconnect = True  # the pool then lets go of all its connections

    def let_go(self, connection: asyncpg.Connection[Any]) -> None:
        """Close a connection in the background: the statement that it may be in the middle of is cancelled first.

        Closing the socket alone would leave the statement running in the server, for nobody.
        """
        task = asyncio.get_running_loop().create_task(_close(connection))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Close the pool, and wait for connections that are being let go."""
        await asyncio.gather(*self._leaving)
        await self.engine.dispose()


async def end(connection: asyncpg.Connection[Any]) -> None:
    """Close a connection on which nothing runs, at once."""
    connection.terminate()
    await asyncio.sleep(0)  # the loop closes the socket in its next turn, and might have no other one


async def _close(connection: asyncpg.Connection[Any]) -> None:
    with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await connection.close()


class HotConnection:
    """One lasting connection, opened anew after it broke. Calls on it queue up; they never run side by side."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection[Any] | None = None
        self._opened_at = 0
        self._lock = asyncio.Lock()

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """Run the (cached, prepared) statement. Raises Unavailable when the connection broke meanwhile."""
        async with self._lock:
            connection = await self._open()
            try:
                with translated():
                    rows: list[Any] = await connection.fetch(statement, *arguments)
                    return rows
            except Unavailable as error:
                if means_read_only(error):
                    self._database.failovers += 1
                self._drop()
                raise
            except asyncio.CancelledError:
                # A cancelled statement leaves the connection in the middle of a protocol exchange.
                self._drop()
                raise

    async def _open(self) -> asyncpg.Connection[Any]:
        if self._opened_at != self._database.failovers:
            self._drop()
        if self._connection is None or self._connection.is_closed():
            opened_at = self._database.failovers
            self._connection = await self._database.connect_raw()
            self._opened_at = opened_at
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._database.let_go(self._connection)
            self._connection = None

    async def close(self) -> None:
        """Close the connection if there is one."""
        if self._connection is not None and not self._lock.locked():
            connection, self._connection = self._connection, None
            await end(connection)
        self._drop()
