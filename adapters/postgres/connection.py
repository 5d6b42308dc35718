"""Connections to PostgreSQL: a pool for everything that is not hot, and lasting ones for loops that are.

A connection that has met a server which may not be written to is not kept: the next one finds the primary, where the
address has several hosts or leads elsewhere after a failover.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from rota_server.adapters.postgres.address import PostgresAddress
from rota_server.adapters.postgres.connecting import Connector, local_settings
from rota_server.adapters.postgres.errors import means_read_only, translated
from rota_server.adapters.postgres.pool import IDLE_SECONDS, ShrinkingPool
from rota_server.adapters.postgres.pooling import pooling_of, prove_same, refuse
from rota_server.adapters.postgres.sessions import SESSION
from rota_server.domain.errors import Unavailable

POOL_SECONDS = 5.0


class Database:
    """The servers' address, a small pool, and hot connections on demand."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 4,
        overflow: int = 4,
        application: str = "rota",
        direct_url: str | None = None,
        session: Mapping[str, str] = SESSION,
    ) -> None:
        """Opens nothing yet. With `direct_url`, `url` may lead through a pooler that keeps no sessions.

        Raises:
            WrongSetting: one of them is not an address of PostgreSQL that can be honoured.
        """
        self.url = url
        self.address = PostgresAddress.parse(url)
        self._connector = Connector(self.address, application=application, session=session)
        self._direct = self._connector
        if direct_url is not None:
            direct = PostgresAddress.parse(direct_url, setting="ROTA_LISTEN_DATABASE_URL")
            self._direct = Connector(direct, application=application, session=session)
        self._proven = False
        self._proving = asyncio.Lock()
        self.failovers = 0
        """How often a server was met that may not be written to. Older connections may lead to it, too."""
        self._leaving: set[asyncio.Task[None]] = set()
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            creator=self._connect_pooled,
            pool_size=pool_size,
            max_overflow=overflow,
            poolclass=ShrinkingPool,
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=True,
        )
        self._repeatable = self.engine.execution_options(isolation_level="REPEATABLE READ")
        event.listen(self.engine.sync_engine, "handle_error", self._met_error)
        if self.without_sessions:
            event.listen(self.engine.sync_engine, "begin", self._begun)

    @property
    def without_sessions(self) -> bool:
        """Whether the pool and the hot connections keep nothing in a session: each transaction has its own settings."""
        return self._direct is not self._connector

    async def prove_access(self) -> None:
        """Connect once.

        Raises:
            Refused: the server does not want us.
            Unavailable: it does not answer.
            WrongSetting: a pooler takes away what is needed, or the direct address leads to another database.
        """
        await self._prove()
        await (await self._connector.connect_bare()).close(timeout=1)

    async def _prove(self) -> None:
        """Look once, before anything else, what the addresses lead to; the first time that it answers counts."""
        if self._proven:
            return
        async with self._proving:
            if self._proven:
                return
            found = await pooling_of(self._connector.connect_bare)
            refuse(found, "ROTA_DATABASE_URL", direct=not self.without_sessions)
            if self.without_sessions:
                refuse(await pooling_of(self._direct.connect_bare), "ROTA_LISTEN_DATABASE_URL", direct=True)
                await prove_same(self._connector.connect_bare, self._direct.connect_bare)
            self._proven = True

    def _connect_pooled(self) -> Any:
        dialect: Any = self.engine.sync_engine.dialect
        keeping = {"prepared_statement_cache_size": 0} if self.without_sessions else {}
        return dialect.dbapi.connect(async_creator_fn=self.connect_any, **keeping)

    def _begun(self, connection: Connection) -> None:
        connection.exec_driver_sql(local_settings(self._connector.settings))

    async def connect_any(self) -> asyncpg.Connection[Any]:
        """A connection that need not have a session, which the caller closes."""
        await self._prove()
        return await (self._connector.connect_bare() if self.without_sessions else self._connector.connect())

    @property
    def begun(self) -> str:
        """Statements that begin a transaction with our settings."""
        return f"begin; {local_settings(self._connector.settings)}"

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on a pooled connection."""
        with translated():
            async with self.engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on a pooled connection whose statements all see the same state."""
        with translated():
            async with self._repeatable.begin() as connection:
                yield connection

    async def connect_raw(self) -> asyncpg.Connection[Any]:
        """A connection of asyncpg's own with a session, which the caller closes."""
        await self._prove()
        return await self._direct.connect()

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
    """One lasting connection, opened again after it broke. Calls on it queue up; they never run side by side.

    Closed while nobody needs it: PostgreSQL has few, and many processes that rest would hold them all.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection[Any] | None = None
        self._opened_at = 0
        self._lock = asyncio.Lock()
        self._used_at = 0.0
        self._idle: asyncio.TimerHandle | None = None

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """Run the (cached, prepared) statement. Raises Unavailable when the connection broke meanwhile."""
        async with self._lock:
            connection = await self._open()
            self._used_at = asyncio.get_running_loop().time()
            try:
                with translated():
                    if self._database.without_sessions:
                        return await self._fetch_in_transaction(connection, statement, arguments)
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

    async def _fetch_in_transaction(
        self, connection: asyncpg.Connection[Any], statement: str, arguments: tuple[Any, ...]
    ) -> list[Any]:
        """Everything in one transaction: a pooler gives each to another session."""
        try:
            await connection.execute(self._database.begun)
            rows: list[Any] = await connection.fetch(statement, *arguments)
            await connection.execute("commit")
        except asyncpg.PostgresError:
            if not connection.is_closed():
                await connection.execute("rollback")
            raise
        return rows

    async def _open(self) -> asyncpg.Connection[Any]:
        if self._opened_at != self._database.failovers:
            self._drop()
        if self._connection is None or self._connection.is_closed():
            opened_at = self._database.failovers
            self._connection = await self._database.connect_any()
            self._opened_at = opened_at
            self._look_later(IDLE_SECONDS)
        return self._connection

    def _look_later(self, seconds: float) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        left = self._used_at + IDLE_SECONDS - asyncio.get_running_loop().time()
        if self._lock.locked() or left > 0:
            self._look_later(max(left, 1.0))
        else:
            self._drop()

    def _drop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._connection is not None:
            self._database.let_go(self._connection)
            self._connection = None

    async def close(self) -> None:
        """Close the connection if there is one."""
        if self._connection is not None and not self._lock.locked():
            connection, self._connection = self._connection, None
            await end(connection)
        self._drop()
