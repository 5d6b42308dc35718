"""Connections to PostgreSQL, and the translation of its errors into Rota's.

Pooled connections (SQLAlchemy) serve everything that is not hot; `HotConnection` keeps one connection for a loop
that sends the same prepared statement thousands of times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from adapters.postgres.address import PostgresAddress
from adapters.postgres.connecting import Connector
from domain.errors import Unavailable

POOL_SECONDS = 5.0
# connection errors, operator intervention (shutdown, crash, cancel), too many connections and the like, lock timeout
UNAVAILABLE_STATES = ("08", "57", "53", "55P03")


def _means_unavailable(error: BaseException | None) -> bool:
    if error is None:
        return False
    state = getattr(error, "sqlstate", None) or ""
    gone = OSError | TimeoutError | asyncpg.PostgresConnectionError | asyncpg.InterfaceError
    return isinstance(error, gone) or state.startswith(UNAVAILABLE_STATES) or _means_unavailable(error.__cause__)


@contextmanager
def translated() -> Iterator[None]:
    """Raise Unavailable for whatever says that the server can not answer now; let the rest through."""
    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if _means_unavailable(error):
            raise Unavailable(f"PostgreSQL does not answer ({_brief(error)})", server="postgres") from error
        raise
    except (DBAPIError, DisconnectionError, PoolTimeoutError) as error:
        orig = getattr(error, "orig", None)
        invalid = getattr(error, "connection_invalidated", False) or isinstance(error, PoolTimeoutError)
        if invalid or _means_unavailable(orig):
            raise Unavailable(f"PostgreSQL does not answer ({_brief(orig or error)})", server="postgres") from error
        raise


def _brief(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


class Database:
    """The servers' address, a small pool, and hot connections on demand."""

    def __init__(self, url: str, *, pool_size: int = 4, application: str = "rota") -> None:
        """Opens nothing yet. Raises WrongSetting when `url` is not an address of PostgreSQL that can be honoured."""
        self.address = PostgresAddress.parse(url)
        self._connector = Connector(self.address, application=application)
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connector.connect,
            pool_size=pool_size,
            max_overflow=4,
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=True,
        )

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

    async def close(self) -> None:
        """Close the pool."""
        await self.engine.dispose()


class HotConnection:
    """One lasting connection, opened anew after it broke. Calls on it queue up; they never run side by side."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection[Any] | None = None
        self._lock = asyncio.Lock()

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """Run the (cached, prepared) statement. Raises Unavailable when the connection broke meanwhile."""
        async with self._lock:
            connection = await self._open()
            try:
                with translated():
                    rows: list[Any] = await connection.fetch(statement, *arguments)
                    return rows
            except Unavailable:
                self._drop()
                raise
            except asyncio.CancelledError:
                # A cancelled statement leaves the connection in the middle of a protocol exchange.
                self._drop()
                raise

    async def _open(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connect_raw()
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Close the connection if there is one."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
