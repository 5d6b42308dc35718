"""Wakes the mover of the inbox: by a notification while it sleeps, by a poll otherwise.

A notification serialises the commits that carry one, so users' transactions only send it to a mover that sleeps. Asleep
means: it holds a lock. It gets that lock only once no transaction is under way that has seen it awake; so whatever
was put in without a notification is there when it looks once more.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg

from rota_server.adapters.postgres.connection import Database, end
from rota_server.adapters.postgres.errors import translated
from rota_server.adapters.postgres.inbox import PostgresInbox

CHANNEL = "rota_inbox"
SLEEP_LOCK = 7010213
POLL_SECONDS = (0.005, 0.1)
"""Between two looks while awake, the shortest and the longest."""

SLEEP_SECONDS = 5.0
"""A sleeping mover looks by itself, too: the net below the notifications."""

SILENCE_SECONDS = 60
"""PostgreSQL ends the session, and with it the lock, when it was silent for so long."""


class InboxBell:
    """The port Bell: a connection that listens."""

    def __init__(self, database: Database, inbox: PostgresInbox) -> None:
        self._database = database
        self._inbox = inbox
        self._connection: asyncpg.Connection[Any] | None = None
        self._rung = asyncio.Event()

    async def rest(self) -> None:
        """Return when there is something in the inbox, or perhaps is. Raises Unavailable."""
        pause = POLL_SECONDS[0]
        connection = await self._listening()
        with translated():
            while not await connection.fetchval("select pg_try_advisory_lock($1)", SLEEP_LOCK):
                await asyncio.sleep(pause)
                if not await self._inbox.is_empty():
                    return
                pause = min(pause * 2, POLL_SECONDS[1])
            try:
                if await self._inbox.is_empty():
                    await self._sleep()
            finally:
                await connection.fetchval("select pg_advisory_unlock($1)", SLEEP_LOCK)

    async def _sleep(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SLEEP_SECONDS):
                await self._rung.wait()

    async def _listening(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            connection = await self._database.connect_raw()
            try:
                with translated():
                    # A frozen process must not pass for a sleeping one forever: everybody would notify it.
                    await connection.execute(f"set idle_session_timeout = '{SILENCE_SECONDS} s'")
                    await connection.add_listener(CHANNEL, self._notified)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        self._rung.clear()
        return self._connection

    def _notified(self, *_: object) -> None:
        self._rung.set()

    async def close(self) -> None:
        """Close the connection, and with it the lock."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await end(connection)
