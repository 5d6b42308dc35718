"""A pool that gives up what it no longer needs: PostgreSQL's connections are few, and shared by all processes."""

from __future__ import annotations

import logging
import time
from typing import Any

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

IDLE_SECONDS = 15.0

logging.getLogger(f"{__name__}.ShrinkingPool").setLevel(logging.WARNING)
"""SQLAlchemy logs the life of a pool's connections under its class's name."""


class ShrinkingPool(AsyncAdaptedQueuePool):
    """Closes one connection in every `IDLE_SECONDS` in which there was always one that nobody used; never the last."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._since = time.monotonic()
        self._unused = 0
        """How many connections nobody has used in this period."""

    def _do_get(self) -> ConnectionPoolEntry:
        found = super()._do_get()
        self._unused = min(self._unused, self.checkedin())
        return found

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        now = time.monotonic()
        if now - self._since < IDLE_SECONDS:
            super()._do_return_conn(record)
            return
        surplus, self._since = self._unused > 0, now
        if surplus:
            try:
                record.close()
            finally:
                self._dec_overflow()
        else:
            super()._do_return_conn(record)
        self._unused = self.checkedin()
