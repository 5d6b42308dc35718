"""Coordination through ZooKeeper.

Everything stands under `/rota`, as JSON, for ZooKeeper's own tools: `leader/` (the contenders, the first one leads),
`executors/`, `stores/`, `schedulers/`. A leader's term is its node's `czxid`, the transaction that created it: unlike
the numbers in node names it never starts again, and the log refuses everything of an older term.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol

from kazoo.client import KazooState
from kazoo.exceptions import CancelledError, LockTimeout, NodeExistsError, NoNodeError

from adapters.zookeeper.session import SESSION_SECONDS, Session
from domain.errors import NotLeader, Unavailable
from domain.ids import Term
from domain.ports import Member

log = logging.getLogger("rota.zookeeper")

ROOT = "/rota"
LEADER = f"{ROOT}/leader"
TRUST_SECONDS = SESSION_SECONDS * 2 / 3
"""A leader that has not heard from ZooKeeper for so long no longer trusts that it leads."""

PROOF_SECONDS = 1.0
WATCH_SECONDS = 2.0


class Fence(Protocol):
    """Where terms are put in force."""

    async def enter(self, term: Term, node: str) -> None:
        """Raises NotLeader when the term is not greater than the one in force."""


class _Leadership:
    def __init__(self, term: Term) -> None:
        self._term = term
        self._lost = asyncio.Event()
        self.proven_at = time.monotonic()

    @property
    def term(self) -> Term:
        return self._term

    @property
    def held(self) -> bool:
        return not self._lost.is_set() and time.monotonic() - self.proven_at < TRUST_SECONDS

    def lose(self) -> None:
        self._lost.set()

    async def wait_lost(self) -> None:
        # The trust window counts too: a process that was stopped wakes up with an old proof.
        while self.held:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._lost.wait()
        self._lost.set()


class _Registration:
    def __init__(self, session: Session, path: str, value: bytes) -> None:
        self._session = session
        self._path = path
        self._value = value
        self._lost = asyncio.Event()

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    async def wait_lost(self) -> None:
        await self._lost.wait()

    def lose(self) -> None:
        self._lost.set()

    async def update(self, info: Mapping[str, Any]) -> None:
        fields = json.loads(self._value)
        self._value = json.dumps({**fields, "info": dict(info)}).encode()
        await self._session.call(self._session.client.set, self._path, self._value)


class ZooKeeperCoordination:
    """The port Coordination; a context that holds the session."""

    def __init__(self, hosts: str, fence: Fence) -> None:
        self._hosts = hosts
        self._fence = fence
        self._session: Session

    async def __aenter__(self) -> ZooKeeperCoordination:
        self._session = Session(self._hosts)
        self._session.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._session.stop()

    @asynccontextmanager
    async def elect(self, node: str, info: Mapping[str, Any]) -> AsyncIterator[_Leadership]:
        """See the port.

        Each round has a session and a lock of its own. A lock's node that could not be deleted while ZooKeeper was away
        would live on with the session, and the next round would wait behind it for ever.
        """
        session = Session(self._hosts)
        session.start()
        try:
            async with self._registered(session, "scheduler", node, info):
                lock = session.client.Lock(LEADER, identifier=_value(node, info).decode())
                await self._acquire(session, lock)
                path = f"{LEADER}/{lock.node}"
                stat = await session.call(session.client.exists, path)
                if stat is None:
                    raise NotLeader("the node of this leadership is gone already", own_term=0)
                leadership = _Leadership(Term(stat.czxid))
                session.listen(lambda state: leadership.lose() if state != KazooState.CONNECTED else None)
                proving = asyncio.create_task(self._prove(session, leadership, path))
                try:
                    await self._fence.enter(leadership.term, node)
                    yield leadership
                finally:
                    leadership.lose()
                    proving.cancel()
                    await asyncio.gather(proving, return_exceptions=True)
        finally:
            await session.stop()

    async def _acquire(self, session: Session, lock: Any) -> None:
        while True:
            await session.call(session.client.ensure_path, LEADER)
            try:
                await asyncio.to_thread(lock.acquire, timeout=5.0)
            except LockTimeout:
                continue
            except asyncio.CancelledError:
                lock.cancel()
                raise
            except CancelledError as error:
                raise Unavailable("the election was interrupted", server="zookeeper") from error
            except Exception as error:
                from kazoo.exceptions import KazooException  # noqa: PLC0415

                if isinstance(error, KazooException | TimeoutError):
                    raise Unavailable(f"no election now ({error!r})", server="zookeeper") from error
                raise
            else:
                return

    async def _prove(self, session: Session, leadership: _Leadership, path: str) -> None:
        """Ask for our own node again and again: an answer proves that the session was alive when it was asked."""
        while not leadership._lost.is_set():  # noqa: SLF001 - one module
            asked_at = time.monotonic()
            try:
                if await session.call(session.client.exists, path) is None:
                    leadership.lose()
                    return
            except Unavailable:
                pass
            else:
                leadership.proven_at = asked_at
            await asyncio.sleep(PROOF_SECONDS)

    @asynccontextmanager
    async def register(self, role: str, member_id: str, info: Mapping[str, Any]) -> AsyncIterator[_Registration]:
        """See the port. The node lives as long as this process's session."""
        async with self._registered(self._session, role, member_id, info) as registration:
            yield registration

    @asynccontextmanager
    async def _registered(
        self, session: Session, role: str, member_id: str, info: Mapping[str, Any]
    ) -> AsyncIterator[_Registration]:
        path = f"{_folder(role)}/{member_id}"
        value = _value(member_id, info)
        with contextlib.suppress(NodeExistsError):
            await session.call(session.client.create, path, value, ephemeral=True, makepath=True)
        registration = _Registration(session, path, value)
        forget = session.listen(lambda state: registration.lose() if state == KazooState.LOST else None)
        try:
            yield registration
        finally:
            forget()
            with contextlib.suppress(Unavailable, NoNodeError):
                await session.call(session.client.delete, path)

    async def members(self, role: str) -> list[Member]:
        """See the port."""
        return await self._read(role, {})

    async def _read(self, role: str, known: dict[str, Member], watch: Any = None) -> list[Member]:
        client = self._session.client
        folder = _folder(role)
        try:
            names = await self._session.call(client.get_children, folder, watch)
        except NoNodeError:
            await self._session.call(client.ensure_path, folder)
            return []
        found = []
        for name in names:
            if name not in known:
                with contextlib.suppress(NoNodeError):
                    value, _ = await self._session.call(client.get, f"{folder}/{name}")
                    known[name] = _member(role, value)
            if name in known:
                found.append(known[name])
        for name in set(known) - set(names):
            del known[name]
        return sorted(found, key=lambda member: member.since)

    async def watch_members(self, role: str) -> AsyncIterator[list[Member]]:
        """See the port. A watch wakes it, a look every two seconds is the net below."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        known: dict[str, Member] = {}
        before: list[str] | None = None

        def fired(_event: object) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        while True:
            changed.clear()
            members = await self._read(role, known, fired)
            now = [member.id for member in members]
            if now != before:
                before = now
                yield members
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await changed.wait()

    async def leader(self) -> Member | None:
        """See the port. The contender with the lowest sequence number."""
        client = self._session.client
        try:
            names = await self._session.call(client.get_children, LEADER)
        except NoNodeError:
            return None
        for name in sorted(names, key=lambda name: name[-10:]):
            with contextlib.suppress(NoNodeError):
                value, stat = await self._session.call(client.get, f"{LEADER}/{name}")
                member = _member("leader", value)
                since = datetime.fromtimestamp(stat.created, UTC)
                return Member(id=member.id, role="leader", since=since, info={**member.info, "term": stat.czxid})
        return None


def _folder(role: str) -> str:
    return f"{ROOT}/{role}s"


def _value(member_id: str, info: Mapping[str, Any]) -> bytes:
    return json.dumps({"id": member_id, "since": datetime.now(UTC).isoformat(), "info": dict(info)}).encode()


def _member(role: str, value: bytes) -> Member:
    fields = json.loads(value)
    return Member(id=fields["id"], role=role, since=datetime.fromisoformat(fields["since"]), info=fields["info"])
