"""Which queues the leader manages, as far as this store knows: read again when it is old, or when the log said so.

A store that does not know yet that a queue is managed does no harm: the log refuses to dispatch there.
"""

from __future__ import annotations

import asyncio
import time

from rota_server.domain.ports.indexes import ResourceIndex

RENEW_SECONDS = 1.0
"""How old the knowledge may be before it is read again."""

QUEUES_LIMIT = 10_000
"""More queues with limits than this are not known in advance: the log tells of the others one by one."""


class ManagedQueues:
    """The managed queues."""

    def __init__(self, resources: ResourceIndex) -> None:
        self._resources = resources
        self._managed: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def managed(self) -> frozenset[str]:
        """The names of the managed queues. Raises Unavailable."""
        asked_at = time.monotonic()
        if asked_at - self._read_at <= RENEW_SECONDS:
            return self._managed
        async with self._lock:
            if self._read_at < asked_at:
                rows = await self._resources.find("queue", active=True, limit=QUEUES_LIMIT)
                self._managed = frozenset(row.name for row in rows)
                self._read_at = asked_at
        return self._managed

    @property
    def known(self) -> frozenset[str]:
        """As `managed`, as it was when last read or told."""
        return self._managed

    def refused(self, queue: str) -> None:
        """The log says that the leader manages this queue."""
        self._managed |= {queue}
        self._read_at = float("-inf")
