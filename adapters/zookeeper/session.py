"""One ZooKeeper session: kazoo's client, its answers as coroutines, its state changes as calls on the event loop.

Everything that kazoo does in its threads ends here: nothing of Rota's runs in them but handing a result to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    NoAuthError,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
    SessionMovedError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, READ_ACL_UNSAFE

from rota_server.domain.errors import Unavailable

log = logging.getLogger("rota.zookeeper")

SESSION_SECONDS = 6.0
"""What is asked of the server, which must allow it (4 to 40 s with its default `tickTime`)."""

CALL_SECONDS = 5.0
FORGET_SECONDS = 2 * SESSION_SECONDS
"""A client tells each server how much of ZooKeeper's history it has seen, and a server that knows less refuses it: one
that has lost its data forever. After an outage of this length a server that is merely behind is out of the question.
"""

_UNAVAILABLE = (
    ConnectionLoss,
    ConnectionClosedError,
    OperationTimeoutError,
    SessionExpiredError,
    SessionMovedError,
    KazooTimeoutError,
    TimeoutError,
)
_REFUSED = (NoAuthError, AuthFailedError)

Listener = Callable[[str], None]


class Session:
    """A session that comes back by itself after an outage, as a new one if the old one has expired.

    `auth` is `user:password` of ZooKeeper's digest scheme: then others can read what is written, but not change it.
    """

    def __init__(self, hosts: str, auth: str | None = None) -> None:
        self._hosts = hosts
        self._auth = auth
        self.client = self._make_client(hosts)
        self._loop = asyncio.get_running_loop()
        self._listeners: set[Listener] = set()
        self._connected = asyncio.Event()
        self._forgetting: asyncio.TimerHandle | None = None
        self.client.add_listener(self._changed)

    def _make_client(self, hosts: str) -> KazooClient:
        return KazooClient(
            hosts=hosts,
            timeout=SESSION_SECONDS,
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, backoff=1.5, max_delay=1.0),
            command_retry=KazooRetry(max_tries=0),
            auth_data=[("digest", self._auth)] if self._auth else None,
            default_acl=[*CREATOR_ALL_ACL, *READ_ACL_UNSAFE] if self._auth else None,
        )

    def start(self) -> None:
        """Begin to connect."""
        self.client.start_async()

    async def stop(self) -> None:
        """End the session: ephemeral nodes vanish at once."""
        self.client.remove_listener(self._changed)
        self._expect_history()
        with contextlib.suppress(*_UNAVAILABLE):
            await asyncio.to_thread(self.client.stop)
        await asyncio.to_thread(self.client.close)

    @property
    def id(self) -> int | None:
        """The owner of this session's ephemeral nodes; None before there is one."""
        identity = self.client.client_id
        return None if identity is None else int(identity[0])

    @property
    def connected(self) -> bool:
        """Whether the server answers now, as far as we know."""
        return self._connected.is_set()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener(state)` called on the event loop at each change; the answer ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def on_loop(self, callback: Callable[[], None]) -> Callable[..., None]:
        """What may be given to kazoo as a watch: it runs `callback` on the event loop."""

        def fired(*_event: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed already
                self._loop.call_soon_threadsafe(callback)

        return fired

    def _changed(self, state: str) -> None:
        # Called in kazoo's thread, which can do nothing else meanwhile.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell, state)

    def _tell(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._connected.set()
            self._expect_history()
            log.info("the ZooKeeper session is CONNECTED")
        else:
            self._connected.clear()
            if self._forgetting is None:
                self._forgetting = self._loop.call_later(FORGET_SECONDS, self._forget_history)
            log.warning("the ZooKeeper session is %s", state)
        for listener in list(self._listeners):
            listener(state)

    def _forget_history(self) -> None:
        log.warning("ZooKeeper has been away for %.0f s: accepting servers that have lost their data", FORGET_SECONDS)
        self.client.last_zxid = 0

    def _expect_history(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None

    async def call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The result of one of the client's `..._async` methods.

        Raises:
            Unavailable: there is no connection, or it broke meanwhile and nobody knows whether the call was served.
        """
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._connected.wait()
                return await self._result(method(*arguments, **options))
        except _UNAVAILABLE as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"ZooKeeper does not answer ({said})", server="zookeeper") from error
        except _REFUSED as error:
            message = "ZooKeeper refuses access: its nodes belong to other credentials (ROTA_ZOOKEEPER_AUTH)"
            raise Unavailable(message, server="zookeeper") from error

    async def _result(self, pending: Any) -> Any:
        future: asyncio.Future[Any] = self._loop.create_future()

        def settle() -> None:
            if future.done():
                return
            if pending.exception is None:
                future.set_result(pending.value)
            else:
                future.set_exception(pending.exception)

        pending.rawlink(self.on_loop(settle))
        return await future

    async def ensure(self, path: str) -> None:
        """Make the node and those above it, the root that the hosts name included. Raises Unavailable."""
        try:
            await self.call(self.client.ensure_path_async, path)
        except NoNodeError:
            await self._make_root()
            await self.call(self.client.ensure_path_async, path)

    async def _make_root(self) -> None:
        servers, _, root = self._hosts.partition("/")
        client = self._make_client(servers)
        try:
            await asyncio.to_thread(client.start, CALL_SECONDS)
            await asyncio.to_thread(client.ensure_path, f"/{root}")
        except _UNAVAILABLE as error:
            raise Unavailable(f"ZooKeeper does not answer ({error!r})", server="zookeeper") from error
        finally:
            await asyncio.to_thread(client.stop)
            await asyncio.to_thread(client.close)
