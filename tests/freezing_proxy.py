"""A way to a server that can be frozen: nothing gets through, and nothing is closed, as behind a broken network.

Runs in a thread of its own, so that it serves tests with and without an event loop, and processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

CHUNK = 65536


class FreezingProxy:
    """Listens on a port of this machine and forwards to `target` (host, port)."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name="freezing-proxy", daemon=True)
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self.port = 0
        self.accepted = 0
        """How many connections were made to it."""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def freeze(self) -> None:
        """Hold everything, connections that are made from now on included."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def thaw(self) -> None:
        """Let what was held go through."""
        self._loop.call_soon_threadsafe(self._open.set)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen while the context lasts."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def switch(self, host: str, port: int, *, cut: bool = True) -> None:
        """Lead elsewhere from now on. Connections that are there are closed, or go on as they are."""
        self._target = (host, port)
        if cut:
            self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        self._open.set()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.accepted += 1
        try:
            await self._open.wait()
            there, back = await asyncio.open_connection(*self._target)
            self._writers.add(back)
            try:
                await asyncio.gather(self._forward(reader, back), self._forward(there, writer))
            finally:
                self._writers.discard(back)
                back.transport.abort()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                await self._open.wait()
                data = await reader.read(CHUNK)
                await self._open.wait()
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()
