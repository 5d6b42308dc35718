"""The load of `rota bench`: many HTTP/1.1 connections from one process, as little work of its own as possible."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit


class Connection:
    """One kept connection to the store."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._head = head

    @classmethod
    async def open(cls, url: str, path: str) -> Connection:
        """Connect; all requests of this connection are POSTs to `path`."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=64 * 1024 * 1024)
        head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
        return cls(reader, writer, head.encode())

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._writer.write(self._head + str(len(body)).encode() + b"\r\n\r\n" + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lowered = head.lower()
        start = lowered.index(b"content-length:") + 15
        length = int(lowered[start : lowered.index(b"\r", start)])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Close it."""
        self._writer.close()


async def post_for(
    url: str, path: str, body: Callable[[], bytes], *, connections: int, seconds: float, expected: int
) -> tuple[int, float]:
    """Post from so many connections for so long; how many answers came, and in which time."""
    opened = [await Connection.open(url, path) for _ in range(connections)]
    began = time.perf_counter()
    answered = 0

    async def load(connection: Connection) -> None:
        nonlocal answered
        while time.perf_counter() - began < seconds:
            status, answer = await connection.post(body())
            if status != expected:
                raise OSError(f"the store answered {status}: {answer[:300]!r}")
            answered += 1

    await asyncio.gather(*(load(connection) for connection in opened))
    took = time.perf_counter() - began
    for connection in opened:
        connection.close()
    return answered, took
