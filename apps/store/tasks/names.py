"""Which tasks may be submitted: those that executors have announced, kept in memory and read again on a miss."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from rota_server.apps.store.parts import TaskCatalog

PAUSE_SECONDS = 0.1
"""Between two readings of the catalogue, however many unknown names are asked for."""

RENEW_SECONDS = 30.0
"""After which options that executors may have announced again are read again."""


class TaskNames:
    """The announced tasks. Without a catalogue every name is accepted."""

    def __init__(self, catalog: TaskCatalog | None) -> None:
        self._catalog = catalog
        self._known: dict[str, dict[str, Any]] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def including(self, tasks: set[str]) -> Mapping[str, Mapping[str, Any]] | None:
        """The known tasks and their options; None when any task is accepted.

        A task that was announced before this call is among them. Raises Unavailable.
        """
        if self._catalog is None:
            return None
        now = time.monotonic()
        if now - self._read_at > RENEW_SECONDS or not tasks <= self._known.keys():
            await self._read(self._catalog, asked_at=now)
        return self._known

    async def announced(self, *names: str) -> Mapping[str, Mapping[str, Any]]:
        """All announced tasks and their options, whatever else is accepted. Raises Unavailable."""
        return await self.including(set(names)) or {}

    async def _read(self, catalog: TaskCatalog, *, asked_at: float) -> None:
        async with self._lock:
            if self._read_at >= asked_at:  # somebody else's reading began after we asked
                return
            await asyncio.sleep(self._read_at + PAUSE_SECONDS - time.monotonic())
            began = time.monotonic()
            self._known = await catalog.all()
            self._read_at = began
