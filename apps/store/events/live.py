"""The log as server-sent events: pulled from the log at the reader's pace, contiguous, the position as the id.

Holds no more than one page for a reader, however far that one is behind, and never skips a position.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from rota_server.adapters.codec import to_json
from rota_server.apps.store.parts import StoreLog
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Position
from rota_server.domain.log import RawEvent

PAGE_EVENTS = 500
PAGE_BYTES = 64 * 1024
"""What is held for each reader: a page ends here, but for a single event that is larger."""

HEARTBEAT_SECONDS = 15.0
"""How long a silent stream stays silent: what is between us and the reader may cut idle connections."""

RETRY_MILLISECONDS = 1000


class Live:
    """Follows the log for any number of readers until `stop` is set."""

    def __init__(self, log: StoreLog, stop: asyncio.Event, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._log = log
        self._stop = stop
        self._heartbeat_seconds = heartbeat_seconds

    async def follow(self, after: Position) -> AsyncIterator[bytes]:
        """The text of the stream behind `after`.

        It ends when the store stops and when the log is away; a reader connects again and goes on where it was.
        """
        yield b"retry: %d\n\n" % RETRY_MILLISECONDS
        with suppress(Unavailable):
            while not self._stop.is_set():
                events = await self._log.read_page(after, PAGE_EVENTS, PAGE_BYTES)
                if not events:
                    if not await self._wait(after):
                        yield b": nothing new\n\n"
                    continue
                after = events[-1].position
                yield b"".join(map(_message, events))

    async def _wait(self, after: Position) -> bool:
        """Wait for an append behind `after` or the stop; whether one of them has come."""
        began = asyncio.get_running_loop().time()
        appended = asyncio.ensure_future(self._log.wait_for_append(after, self._heartbeat_seconds))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([appended, stopped], return_when=asyncio.FIRST_COMPLETED)
            if appended.done():
                appended.result()
        finally:
            appended.cancel()
            stopped.cancel()
        return asyncio.get_running_loop().time() - began < self._heartbeat_seconds


def _message(event: RawEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.position, event.type.encode(), to_json(event))
