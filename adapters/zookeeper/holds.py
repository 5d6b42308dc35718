"""What this process holds in ZooKeeper: a place among the members, and the lead. Neither ever comes back once lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

from kazoo.client import KazooState
from kazoo.exceptions import NoNodeError

from rota_server.adapters.proofs import Proofs
from rota_server.adapters.zookeeper.session import SESSION_SECONDS, Session
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Term

TRUST_SECONDS = SESSION_SECONDS * 2 / 3
"""Who has not heard from ZooKeeper for so long no longer trusts that it leads, or that others see it."""

PROOF_SECONDS = 1.0


class HeldLead:
    """The port Leadership: held while ZooKeeper has confirmed recently that our node is there.

    The term is entered in the fence before anybody gets to see this.
    """

    def __init__(self, session: Session, path: str) -> None:
        self._session = session
        self._path = path
        self._lost = asyncio.Event()
        self._term = Term(0)
        self._proven_at = time.monotonic()

    @property
    def term(self) -> Term:
        """See the port."""
        return self._term

    @property
    def held(self) -> bool:
        """See the port."""
        if not self._lost.is_set() and time.monotonic() - self._proven_at >= TRUST_SECONDS:
            self._lost.set()  # a process that was stopped wakes up with an old proof
        return not self._lost.is_set()

    async def wait_lost(self) -> None:
        """See the port."""
        while self.held:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._proven_at + TRUST_SECONDS - time.monotonic())):
                    await self._lost.wait()

    def told(self, state: str) -> None:
        """The session's state has changed: whatever is not a connection ends the lead."""
        if state != KazooState.CONNECTED:
            self._lost.set()

    async def prove(self) -> bool:
        """Ask for our own node: an answer proves that the session was alive when it was asked. Raises Unavailable."""
        asked_at = time.monotonic()
        stat = await self._session.call(self._session.client.exists_async, self._path)
        if stat is None or stat.ephemeralOwner != self._session.id:
            self._lost.set()
        elif self.held:
            self._term = Term(stat.czxid)
            self._proven_at = asked_at
        return self.held

    async def keep_proving(self) -> None:
        """Prove it again and again, until it is lost."""
        while self.held:
            await asyncio.sleep(PROOF_SECONDS)
            with contextlib.suppress(Unavailable):
                await self.prove()

    def end(self) -> None:
        """Whatever ended the proving has ended the lead."""
        self._lost.set()


class HeldPlace:
    """The port Registration: held while the session lives and nobody has removed the node."""

    def __init__(self, session: Session, path: str, value: bytes) -> None:
        self._session = session
        self._path = path
        self._value = value
        self._lost = asyncio.Event()
        self._proofs = Proofs(TRUST_SECONDS)

    @property
    def certain_since(self) -> float | None:
        """See the port."""
        return self._proofs.since

    @property
    def lost(self) -> bool:
        """See the port."""
        return self._lost.is_set()

    async def wait_lost(self) -> None:
        """See the port."""
        await self._lost.wait()

    def told(self, state: str) -> None:
        """The session's state has changed. Suspended is not lost: the same session may come back.

        But it is in doubt: that a session is lost is only told once there is a connection again.
        """
        if state == KazooState.LOST:
            self.end()
        elif state != KazooState.CONNECTED:
            self._proofs.interrupt()

    async def update(self, info: Mapping[str, Any]) -> None:
        """See the port."""
        self._value = json.dumps({**json.loads(self._value), "info": dict(info)}).encode()
        try:
            await self._session.call(self._session.client.set_async, self._path, self._value)
        except NoNodeError:
            self.end()

    async def prove(self) -> None:
        """Ask for our own node: it may be gone with the session, or removed by hand. Raises Unavailable."""
        asked_at = time.monotonic()
        stat = await self._session.call(self._session.client.exists_async, self._path)
        if stat is None or stat.ephemeralOwner != self._session.id:
            self.end()
        else:
            self._proofs.add(asked_at)

    async def keep_proving(self) -> None:
        """Prove it again and again, until it is lost."""
        while not self.lost:
            await asyncio.sleep(PROOF_SECONDS)
            with contextlib.suppress(Unavailable):
                await self.prove()

    def end(self) -> None:
        """It is lost, by whatever ended it."""
        self._proofs.end()
        self._lost.set()
