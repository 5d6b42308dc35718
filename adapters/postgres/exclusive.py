"""One active process of a kind, the others standing by: a session advisory lock and a pulse.

The lock's session ends when nothing was heard from its process for `SESSION_SECONDS`, so that a frozen process or one
behind a broken network does not hold it forever; its process stops trusting the lock well before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from rota_server.adapters.background import beside
from rota_server.adapters.postgres.connection import Database, end
from rota_server.adapters.postgres.errors import translated
from rota_server.domain.errors import Unavailable

RELAY_LOCK = 7010210
LEADER_LOCK = 7010211
INBOX_LOCK = 7010212

SESSION_SECONDS = 6.0
"""PostgreSQL ends a session, and with it the lock, when it was silent for so long."""

TRUST_SECONDS = 4.0
"""How long after the last answered pulse the lock is trusted."""

PULSE_SECONDS = 1.0
RETRY_SECONDS = 0.5

_SESSION = f"""
set idle_session_timeout = '{SESSION_SECONDS} s';
set tcp_keepalives_idle = 2;
set tcp_keepalives_interval = 1;
set tcp_keepalives_count = 3;
set tcp_user_timeout = '{SESSION_SECONDS} s';
"""


class Hold:
    """A lock that this process holds, as far as it knows."""

    def __init__(self) -> None:
        self._lost = asyncio.Event()
        self._proven_at = time.monotonic()

    @property
    def certain(self) -> bool:
        """Whether the lock cannot be anybody else's yet, by this process's own clock. False for good once lost."""
        if not self._lost.is_set() and time.monotonic() - self._proven_at >= TRUST_SECONDS:
            self._lost.set()
        return not self._lost.is_set()

    async def wait_lost(self) -> None:
        """Return when the lock is lost or no longer certain."""
        while self.certain:
            left = self._proven_at + TRUST_SECONDS - time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, left)):
                    await self._lost.wait()

    async def pulse(self, connection: asyncpg.Connection[Any]) -> None:
        """Ask for a sign of life again and again; return when there is none."""
        try:
            while self.certain:
                asked_at = time.monotonic()
                with translated():
                    standby = await connection.fetchval("select pg_is_in_recovery()", timeout=TRUST_SECONDS)
                if standby:
                    return
                if self.certain:
                    self._proven_at = asked_at
                await asyncio.sleep(PULSE_SECONDS)
        except Unavailable:
            pass

    def end(self) -> None:
        """Whatever ended the pulse has ended the lock."""
        self._lost.set()


class ExclusiveLock:
    """An advisory lock held by a connection of its own."""

    def __init__(self, database: Database, key: int) -> None:
        self._database = database
        self._key = key

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Hold]:
        """Wait for the lock and hold it during the context.

        Raises Unavailable when PostgreSQL goes away while waiting, or is a standby, where everybody gets any lock.
        """
        connection = await self._database.connect_raw()
        try:
            with translated():
                await connection.execute(_SESSION)
                if await connection.fetchval("select pg_is_in_recovery()"):
                    raise Unavailable("this PostgreSQL is a standby", server="postgres")
                # A session that waits inside PostgreSQL could not be told from one that hangs.
                while not await connection.fetchval("select pg_try_advisory_lock($1)", self._key):  # noqa: ASYNC110
                    await asyncio.sleep(RETRY_SECONDS)
            hold = Hold()
            async with beside("the pulse of a lock", hold.pulse(connection), hold.end):
                yield hold
        finally:
            await end(connection)


async def run_while_held(lock: ExclusiveLock, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work()` while the lock is held; return when it is lost. Errors of the work come through."""
    async with lock.held() as hold:
        task = asyncio.ensure_future(work())
        waiting = asyncio.ensure_future(hold.wait_lost())
        try:
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for pending in (task, waiting):
                pending.cancel()
            await asyncio.gather(task, waiting, return_exceptions=True)
