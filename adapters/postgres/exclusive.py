"""One active process of a kind, the others standing by: a session advisory lock and a pulse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from adapters.postgres.connection import Database, translated
from domain.errors import Unavailable

RELAY_LOCK = 7010210
LEADER_LOCK = 7010211

PULSE_SECONDS = 1.0
PULSE_LIMIT_SECONDS = 3.0
"""A pulse that is not answered within this means that the lock may be gone."""

RETRY_SECONDS = 0.5


class ExclusiveLock:
    """An advisory lock held by a connection of its own."""

    def __init__(self, database: Database, key: int) -> None:
        self._database = database
        self._key = key

    @asynccontextmanager
    async def held(self) -> AsyncIterator[asyncio.Event]:
        """Wait for the lock and hold it during the context; the event is set once it may be lost.

        Raises Unavailable when PostgreSQL goes away while waiting.
        """
        connection = await self._database.connect_raw()
        lost = asyncio.Event()
        try:
            with translated():
                while not await connection.fetchval("select pg_try_advisory_lock($1)", self._key):
                    await asyncio.sleep(RETRY_SECONDS)
            pulse = asyncio.create_task(self._pulse(connection, lost))
            try:
                yield lost
            finally:
                pulse.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await pulse
        finally:
            connection.terminate()

    async def _pulse(self, connection: asyncpg.Connection[Any], lost: asyncio.Event) -> None:
        try:
            while True:
                await asyncio.sleep(PULSE_SECONDS)
                with translated():
                    await connection.fetchval("select 1", timeout=PULSE_LIMIT_SECONDS)
        except Unavailable:
            lost.set()


async def run_while_held(lock: ExclusiveLock, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work()` while the lock is held; return when it is lost. Errors of the work come through."""
    async with lock.held() as lost:
        task = asyncio.ensure_future(work())
        waiting = asyncio.ensure_future(lost.wait())
        try:
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for pending in (task, waiting):
                pending.cancel()
            await asyncio.gather(task, waiting, return_exceptions=True)
