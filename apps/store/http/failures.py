"""Who tries to call the store without a valid token: logged with the address, and answered ever more slowly.

A valid token is never kept waiting, whatever others at its address do. Holds a bounded number of addresses and waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger("rota.store.access")

FREE = 5
"""Failures of an address that are answered at once."""

FIRST_DELAY_SECONDS = 0.25
DELAY_LIMIT_SECONDS = 4.0
FORGET_SECONDS = 300.0
ADDRESSES_LIMIT = 1000
WAITING_LIMIT = 100
"""Answers that are kept waiting; further ones are given at once, so that nobody fills the store with them."""

LOG_SECONDS = 10.0
"""How often an address is logged at most; what comes between is counted."""


@dataclass
class _Address:
    last_at: float
    failures: int = 0
    unlogged: int = 0
    logged_at: float = float("-inf")


class AccessFailures:
    """Of one store."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._addresses: dict[str, _Address] = {}
        self._waiting = 0

    async def failed(self, address: str, method: str, path: str) -> None:
        """Note a failure, and return when it may be answered."""
        found = self._note(address)
        if self._clock() - found.logged_at >= LOG_SECONDS:
            more = "" if found.unlogged == 0 else f", and {found.unlogged} others since the last such line"
            log.warning("%s asked without a valid token: %s %r%s", address, method, path[:200], more)
            found.logged_at, found.unlogged = self._clock(), 0
        else:
            found.unlogged += 1
        over = found.failures - FREE
        if over <= 0 or self._waiting >= WAITING_LIMIT:
            return
        self._waiting += 1
        try:
            await self._sleep(min(DELAY_LIMIT_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(over, 10)))
        finally:
            self._waiting -= 1

    def _note(self, address: str) -> _Address:
        now = self._clock()
        found = self._addresses.pop(address, None)
        if found is None or now - found.last_at > FORGET_SECONDS:
            found = _Address(now)
        if len(self._addresses) >= ADDRESSES_LIMIT:
            self._addresses.pop(next(iter(self._addresses)))  # the one that was seen the longest ago
        found.last_at = now
        found.failures += 1
        self._addresses[address] = found
        return found
