"""Positions in answers: where a list stands, and waiting until it is at least somewhere."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from rota_server.apps.store.http.requests import number
from rota_server.domain.errors import Rejected, RotaError
from rota_server.domain.ids import Position
from rota_server.domain.ports.event_log import EventLog

WAIT_SECONDS = 10.0
REACH = 1_000_000
"""Positions after the log's last one that may be waited for: more than it can reach meanwhile, by far."""


class NotReached(RotaError):
    """The log is not at the wanted position yet."""


class Positions:
    """Over the log. `wait_seconds`: how long `at_least` waits."""

    def __init__(self, log: EventLog, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._log = log
        self._wait_seconds = wait_seconds

    async def last(self) -> Position:
        """The log's last position."""
        return await self._log.last_position()

    async def at_least(self, request: Request) -> None:
        """Return once the log has reached `at_least`.

        Raises NotReached when that takes too long; Rejected at once for a position that nobody can have been told.
        """
        wanted = number(request, "at_least", 0)
        if wanted == 0:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_seconds
        while (last := await self._log.last_position()) < wanted:
            if wanted - last > REACH:
                message = f"at_least: the log ends at {last}, more than {REACH} positions before {wanted}"
                raise Rejected(message, field="at_least", code="beyond-the-log")
            left = deadline - loop.time()
            if left <= 0:
                raise NotReached(f"the log is at position {last} and has not reached {wanted}")
            await self._log.wait_for_append(Position(wanted - 1), left)
