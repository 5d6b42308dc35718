"""The body of a request on its way in: a client that is still sending cannot read an answer.

What nobody has read of it is read and thrown away before the answer, within bounds of bytes and time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Message, Receive

DISCARD_BYTES = 128 * 1024 * 1024
DISCARD_SECONDS = 10.0


class RequestBody:
    """Passes the parts of one body on, and knows whether all of it was read."""

    def __init__(self, headers: Mapping[bytes, str], receive: Receive) -> None:
        self._receive = receive
        self._ended = b"transfer-encoding" not in headers and headers.get(b"content-length", "0") == "0"
        self._asked = False
        self._waits_for_leave = headers.get(b"expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        """See ASGI."""
        self._asked = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._ended = True
        return message

    async def discard(self) -> bool:
        """Read what is left of it; False when something may still come, so that the connection has to end."""
        if self._ended:
            return True
        if self._waits_for_leave and not self._asked:
            return False  # the client has not begun to send it
        left = DISCARD_BYTES
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self._ended and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return False
        return self._ended
