"""The HTTP server (uvicorn) as a service: bound before it is announced, stopped by its owner and not by signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from rota_server.apps.store.http.connections import Connection, Limits, allow_files, connection_factory

log = logging.getLogger("rota.store.http")

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
SHUTDOWN_SECONDS = 10
"""How long a stop waits for requests that are being answered. Then their connections are cut off."""

CUT_OFF_SECONDS = 3
"""How long a request may take to notice that. Then it is broken off."""

POLL_SECONDS = 0.02


class _Server(uvicorn.Server):
    """uvicorn without hands on the process's signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: the process has its own way to stop."""
        yield


class StoreServer:
    """Serves the application at `host` and `port` (0: any free one)."""

    def __init__(self, app: ASGIApp, host: str, port: int, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._done = asyncio.Event()
        self._server = _Server(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                ws="none",
                http=connection_factory(self._limits),  # type: ignore[arg-type] # called as the class would be
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS + CUT_OFF_SECONDS,
            )
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._socket is not None, "not started"  # noqa: S101 - an invariant of the caller
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._socket.getsockname()[1]}"

    async def start(self) -> None:
        """Take the address. Raises OSError when it cannot be had."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            # From here on connections wait for us instead of being refused: who reads where we listen may come.
            bound.listen(BACKLOG)
        except OSError as error:
            bound.close()
            message = f"cannot listen on {self._host} port {self._port}: {error.strerror or error}"
            raise OSError(error.errno, message) from error
        bound.setblocking(False)
        self._socket = bound
        self._sweeping = asyncio.ensure_future(self._sweep())

    async def serve(self) -> None:
        """Answer requests until `finish`. Raises OSError when the server ends by itself."""
        assert self._socket is not None, "not started"  # noqa: S101 - an invariant of the caller
        allow_files(self._limits.connections)
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._sweeping.cancel()
            self._done.set()
            self._socket.close()
        if not self._server.should_exit:
            raise OSError("the HTTP server has ended by itself")
        # The owner cancels what it has started; an early return would look like a failure to it.
        await asyncio.Event().wait()

    async def _sweep(self) -> None:
        """End the connections whose time is over, forever."""
        while True:
            await asyncio.sleep(self._limits.sweep_seconds)
            for connection in tuple(self.connections):
                try:
                    connection.check()
                except Exception:
                    log.exception("a connection could not be checked and is cut off")
                    connection.transport.abort()

    @property
    def connections(self) -> set[Connection]:
        """Those that are open."""
        return cast("set[Connection]", self._server.server_state.connections)

    async def finish(self) -> None:
        """Take no more requests, answer those that are there, cut off what has not ended in time, and return."""
        self._server.should_exit = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await self._done.wait()
                return
        left = tuple(self.connections)
        log.warning("%d connections have not ended within %d s and are cut off", len(left), SHUTDOWN_SECONDS)
        for connection in left:
            connection.transport.abort()
        await self._done.wait()
