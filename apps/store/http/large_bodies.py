"""Large bodies: how many bytes of them a store holds at once, however many clients send some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from rota_server.apps.store.http.requests import BODY_LIMIT_BYTES, declared_length, read_body
from rota_server.domain.errors import RotaError

TOTAL_BYTES = 160 * 1024 * 1024
WAIT_SECONDS = 10.0


class Busy(RotaError):
    """The store is at a limit of its own; nothing of the request was done. It may be repeated."""


class LargeBodies:
    """Lets bodies in as long as there is room for them; the others wait, for a while."""

    def __init__(self, total_bytes: int = TOTAL_BYTES, wait_seconds: float = WAIT_SECONDS) -> None:
        self._free = total_bytes
        self._wait_seconds = wait_seconds
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def read(self, request: Request, limit_bytes: int, *, weight: int = 1) -> AsyncIterator[bytes]:
        """The body, which counts until the block ends. `weight`: how much more than itself it takes once decoded.

        Raises Rejected when it is too large, Busy when there was no room for it in time.
        """
        declared = declared_length(request)
        size = limit_bytes if declared is None else min(declared, limit_bytes)
        taken = 0 if size <= BODY_LIMIT_BYTES else size * weight
        await self._take(taken)
        try:
            yield await read_body(request, limit_bytes)
        finally:
            async with self._changed:
                self._free += taken
                self._changed.notify_all()

    async def _take(self, size: int) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds), self._changed:
                await self._changed.wait_for(lambda: size == 0 or self._free >= size)
                self._free -= size
        except TimeoutError:
            raise Busy("other large bodies are being read; send it again later, or in smaller parts") from None
