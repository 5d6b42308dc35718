"""PostgreSQL's time, without asking for it each time: an elapsed-time clock and what PostgreSQL said when it was asked.

This machine's own time of day is only compared with it. When somebody sets that clock, nothing here jumps.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from sqlalchemy import text

from rota_server.adapters.postgres.connection import Database

SAMPLE_SECONDS = 30.0
SAMPLES = 5

_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, where there is such a clock."""


def _elapsed() -> float:
    return time.clock_gettime(_ELAPSED)


class PostgresClock:
    """`now()` is PostgreSQL's time within half a round trip; this machine's until the first sample."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._base = time.time() - _elapsed()
        self.offset_seconds = 0.0
        """PostgreSQL's time minus this machine's, when last measured."""

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return datetime.fromtimestamp(self._base + _elapsed(), UTC)

    async def sample(self) -> float:
        """Measure the offset: of several samples the one with the shortest round trip. Raises Unavailable."""
        best: tuple[float, float] | None = None
        async with self._database.begin() as connection:
            for _ in range(SAMPLES):
                before = _elapsed()
                row = await connection.execute(text("select extract(epoch from clock_timestamp())"))
                after = _elapsed()
                sample = (after - before, float(row.scalar_one()) - (before + after) / 2)
                best = sample if best is None or sample < best else best
        own_base = time.time() - _elapsed()
        trip, base = best or (0.0, own_base)
        # An offset within the round trip is noise: on one machine both read the same clock.
        self._base = own_base if abs(base - own_base) <= trip else base
        self.offset_seconds = self._base - own_base
        return self.offset_seconds

    async def keep(self) -> None:
        """Sample now and then, forever."""
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)
