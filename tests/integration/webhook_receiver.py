"""A local HTTP server that receives webhooks, as a test tells it to: well, badly, slowly or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple


class Received(NamedTuple):
    """One request. `event` is its body as JSON."""

    headers: dict[str, str]
    body: bytes
    path: str

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receiver:
    """Answers each request with the status that `answer` gives for it; `None`: never."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.taken: list[Received] = []
        self.answer: Callable[[Received], int | None] = lambda _: 204
        self.headers = ""
        self.open = 0
        self.most_open = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def start(self) -> Receiver:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """As if the process had died: the port is closed and every connection with it."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def positions(self) -> list[int]:
        return [int(one.event["id"]) for one in self.taken]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    await self._request(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *pairs = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (pair.partition(":") for pair in pairs)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        received = Received(headers, body, line.split()[1])
        self.requests.append(received)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            status = self.answer(received)
            if status is None:
                await asyncio.Event().wait()
            if status is not None and 200 <= status < 300:
                self.taken.append(received)
            said = b"" if status == 204 else b"said"
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(said)}\r\n{self.headers}\r\n".encode() + said)
            await writer.drain()
        finally:
            self.open -= 1
