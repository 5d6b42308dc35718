"""One ZooKeeper session: kazoo's client, its calls as coroutines, its state changes as asyncio events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    OperationTimeoutError,
    SessionExpiredError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry

from domain.errors import Unavailable

log = logging.getLogger("rota.zookeeper")

SESSION_SECONDS = 6.0
CALL_SECONDS = 5.0

_UNAVAILABLE = (
    ConnectionLoss,
    ConnectionClosedError,
    OperationTimeoutError,
    SessionExpiredError,
    KazooTimeoutError,
    TimeoutError,
)

T = TypeVar("T")
Listener = Callable[[str], None]


class Session:
    """A session that comes back by itself after an outage, as a new one if the old one has expired."""

    def __init__(self, hosts: str) -> None:
        self.client = KazooClient(
            hosts=hosts,
            timeout=SESSION_SECONDS,
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, backoff=1.5, max_delay=1.0),
            command_retry=KazooRetry(max_tries=1, delay=0.1),
        )
        self._loop = asyncio.get_running_loop()
        self._listeners: set[Listener] = set()
        self._connected = asyncio.Event()
        self.client.add_listener(self._changed)

    def start(self) -> None:
        """Begin to connect."""
        self.client.start_async()

    async def stop(self) -> None:
        """End the session: ephemeral nodes vanish at once."""
        with contextlib.suppress(*_UNAVAILABLE):
            await asyncio.to_thread(self.client.stop)
        await asyncio.to_thread(self.client.close)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener(state)` called on the event loop at each change; the answer ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    @property
    def connected(self) -> bool:
        """Whether the server answers now, as far as we know."""
        return self._connected.is_set()

    def _changed(self, state: str) -> None:
        # Called in kazoo's thread; must return at once.
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._loop.call_soon_threadsafe(self._tell, state)

    def _tell(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._connected.set()
        else:
            self._connected.clear()
            log.warning("the ZooKeeper session is %s", state)
        for listener in list(self._listeners):
            listener(state)

    async def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Run one of the client's methods in a thread. Raises Unavailable while there is no connection."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._connected.wait()
                return await asyncio.to_thread(function, *arguments, **options)
        except _UNAVAILABLE as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"ZooKeeper does not answer ({said})", server="zookeeper") from error
