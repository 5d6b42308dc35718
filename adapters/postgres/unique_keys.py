"""Forgets unique keys that nobody holds any more, so that their table does not grow forever."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from rota_server.adapters.postgres.connection import Database

IDLE = timedelta(days=1)
"""How long nobody may have held a key, and its seconds have been over, before it is forgotten."""

BATCH = 1_000
PAUSE_SECONDS = 300.0


async def forget_unique_keys(database: Database) -> None:
    """Do it again and again; any number of processes may. Raises Unavailable."""
    while True:
        if await forget_once(database) < BATCH:
            await asyncio.sleep(PAUSE_SECONDS)


async def forget_once(database: Database, *, idle: timedelta = IDLE, most: int = BATCH) -> int:
    """Forget up to `most` keys; how many there were. Raises Unavailable."""
    async with database.begin() as connection:
        result = await connection.exec_driver_sql("select rota_forget_unique($1, $2)", (idle, most))
        return int(result.scalar_one())
