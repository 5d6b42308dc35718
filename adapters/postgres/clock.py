"""PostgreSQL's time, without asking for it each time: this machine's clock and its sampled offset."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from adapters.postgres.connection import Database

SAMPLE_SECONDS = 30.0
SAMPLES = 5


class PostgresClock:
    """`now()` is PostgreSQL's time within half a round trip."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.offset_seconds = 0.0

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.offset_seconds)

    async def sample(self) -> float:
        """Measure the offset: of several samples the one with the shortest round trip."""
        best: tuple[float, float] | None = None
        async with self._database.begin() as connection:
            for _ in range(SAMPLES):
                before = time.time()
                row = await connection.execute(text("select extract(epoch from clock_timestamp())"))
                after = time.time()
                sample = (after - before, float(row.scalar_one()) - (before + after) / 2)
                best = sample if best is None or sample < best else best
        trip, offset = best or (0.0, 0.0)
        # An offset within the round trip is noise: on one machine both read the same clock.
        self.offset_seconds = 0.0 if abs(offset) <= trip else offset
        return self.offset_seconds

    async def keep(self) -> None:
        """Sample now and then, for ever."""
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)
