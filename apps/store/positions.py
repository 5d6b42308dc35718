"""Positions in answers: where a list stands, and waiting until it is at least somewhere."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from apps.store.requests import number
from domain.errors import Unavailable
from domain.ids import Position
from domain.ports import EventLog

WAIT_SECONDS = 10.0


class Positions:
    """Over the log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def last(self) -> Position:
        """The log's last position."""
        return await self._log.last_position()

    async def at_least(self, request: Request) -> None:
        """Return once the log has reached `at_least`. Raises Unavailable when it has not within 10 s."""
        wanted = number(request, "at_least", 0)
        if wanted == 0:
            return
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while await self._log.last_position() < wanted:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise Unavailable(f"the log has not reached position {wanted}", server="the log")
            await self._log.wait_for_append(Position(wanted - 1), left)
