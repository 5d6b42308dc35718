"""Coordination through ZooKeeper.

Everything stands under `/rota`, as JSON, for ZooKeeper's own tools: `leader/` (the contenders; the lowest number
leads), `executors/`, `stores/`, `schedulers/`. A leader's term is its node's `czxid`, the transaction that created it:
unlike the numbers in node names it never starts again, and the log refuses everything of an older term.

An election uses nodes of its own each time and never goes on after an interruption: whoever is not sure starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from kazoo.exceptions import NodeExistsError, NoNodeError

from rota_server.adapters.background import beside
from rota_server.adapters.zookeeper.holds import HeldLead, HeldPlace
from rota_server.adapters.zookeeper.session import Session
from rota_server.domain.errors import Unavailable
from rota_server.domain.ports.coordination import Fence, Member

log = logging.getLogger("rota.zookeeper")

ROOT = "/rota"
LEADER = f"{ROOT}/leader"
WATCH_SECONDS = 2.0
"""A watch wakes the waiting; a look every now and then is the net below."""

SWEEP_SECONDS = 0.5


class ZooKeeperCoordination:
    """The port Coordination; a context that holds the session.

    `hosts` as ZooKeeper writes them, `host:port,host:port/root`; `auth` as in Session.
    """

    def __init__(self, hosts: str, fence: Fence, *, auth: str | None = None) -> None:
        self._hosts = hosts
        self._auth = auth
        self._fence = fence
        self._leftovers: set[str] = set()
        self._left = asyncio.Event()
        self._session: Session
        self._sweeping: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._session = Session(self._hosts, self._auth)
        self._session.start()
        self._sweeping = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._sweeping.cancel()
        await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._session.stop()

    # -- the lead ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def elect(self, node: str, info: Mapping[str, Any]) -> AsyncIterator[HeldLead]:
        """See the port. `node` must be new for each election."""
        session = self._session
        async with self.register("scheduler", node, info), self._removed_after(f"{LEADER}/{node}-"):
            await session.ensure(LEADER)
            path = await session.call(
                session.client.create_async, f"{LEADER}/{node}-", _value(node, info), ephemeral=True, sequence=True
            )
            await self._wait_for_turn(path.rpartition("/")[2])
            lead = HeldLead(session, path)
            forget = session.listen(lead.told)
            try:
                if not await lead.prove():
                    raise Unavailable("the session was lost during the election", server="zookeeper")
                async with beside("the proving of the lead", lead.keep_proving(), lead.end):
                    await self._fence.enter(lead.term, node)
                    yield lead
            finally:
                forget()

    async def _wait_for_turn(self, own: str) -> None:
        """Wait until no contender has a lower number."""
        session = self._session
        changed = asyncio.Event()
        fired = session.on_loop(changed.set)
        while True:
            changed.clear()
            names = sorted(await session.call(session.client.get_children_async, LEADER), key=_number)
            if own not in names:
                raise Unavailable("this contender's node is gone: its session was lost", server="zookeeper")
            place = names.index(own)
            if place == 0:
                return
            if await session.call(session.client.exists_async, f"{LEADER}/{names[place - 1]}", fired) is None:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await changed.wait()

    async def leader(self) -> Member | None:
        """See the port. The contender with the lowest number."""
        session = self._session
        try:
            names = await session.call(session.client.get_children_async, LEADER)
        except NoNodeError:
            return None
        for name in sorted(names, key=_number):
            with contextlib.suppress(NoNodeError):
                value, stat = await session.call(session.client.get_async, f"{LEADER}/{name}")
                member = _member("leader", value)
                since = datetime.fromtimestamp(stat.created, UTC)
                return Member(id=member.id, role="leader", since=since, info={**member.info, "term": stat.czxid})
        return None

    # -- members -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def register(self, role: str, member_id: str, info: Mapping[str, Any]) -> AsyncIterator[HeldPlace]:
        """See the port. The node lives as long as the session."""
        session = self._session
        path = f"{_folder(role)}/{member_id}"
        value = _value(member_id, info)
        place = HeldPlace(session, path, value)
        forget = session.listen(place.told)  # before the node is there, so that no loss goes unnoticed
        try:
            async with self._removed_after(path):
                await session.ensure(_folder(role))
                await self._create_own(path, value)
                await place.prove()
                async with beside("the proving of a place", place.keep_proving(), place.end):
                    yield place
        finally:
            forget()

    async def _create_own(self, path: str, value: bytes) -> None:
        session = self._session
        try:
            await session.call(session.client.create_async, path, value, ephemeral=True)
        except NodeExistsError as error:
            stat = await session.call(session.client.exists_async, path)
            if stat is None or stat.ephemeralOwner != session.id:
                raise Unavailable(f"{path} still belongs to an earlier session", server="zookeeper") from error

    async def members(self, role: str) -> list[Member]:
        """See the port."""
        return await self._read(role, {})

    async def _read(self, role: str, known: dict[str, Member], watch: Any = None) -> list[Member]:
        session = self._session
        folder = _folder(role)
        try:
            names = await session.call(session.client.get_children_async, folder, watch)
        except NoNodeError:
            await session.ensure(folder)
            names = await session.call(session.client.get_children_async, folder, watch)
        for name in set(names) - set(known):
            with contextlib.suppress(NoNodeError):
                value, _ = await session.call(session.client.get_async, f"{folder}/{name}")
                known[name] = _member(role, value)
        for name in set(known) - set(names):
            del known[name]
        return sorted(known.values(), key=lambda member: (member.since, member.id))

    async def watch_members(self, role: str) -> AsyncIterator[list[Member]]:
        """See the port. Raises Unavailable as soon as the connection is in doubt."""
        changed = asyncio.Event()
        fired = self._session.on_loop(changed.set)
        forget = self._session.listen(lambda _state: changed.set())
        known: dict[str, Member] = {}
        before: list[str] | None = None
        try:
            while True:
                changed.clear()
                found = await self._read(role, known, fired)
                now = [member.id for member in found]
                if now != before:
                    before = now
                    yield found
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SECONDS):
                        await changed.wait()
                if not self._session.connected:
                    raise Unavailable("ZooKeeper cannot say who is alive", server="zookeeper")
        finally:
            forget()

    # -- nodes that must not stay ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _removed_after(self, prefix: str) -> AsyncIterator[None]:
        """Have the node, or those whose path begins so and with a number ends, removed at the end, however late.

        A node that stayed would be taken for a contender or a member for as long as the session lives, and a session
        survives an outage; and a creation whose answer was lost may have come true.
        """
        try:
            yield
        finally:
            self._leftovers.add(prefix)
            with contextlib.suppress(Unavailable, TimeoutError):
                if self._session.connected:
                    async with asyncio.timeout(SWEEP_SECONDS):
                        await self._remove(prefix)
            self._left.set()

    async def _remove(self, prefix: str) -> None:
        session = self._session
        folder, _, beginning = prefix.rpartition("/")
        with contextlib.suppress(NoNodeError):
            for name in await session.call(session.client.get_children_async, folder):
                if name == beginning or (beginning.endswith("-") and name.startswith(beginning)):
                    with contextlib.suppress(NoNodeError):
                        await session.call(session.client.delete_async, f"{folder}/{name}")
        self._leftovers.discard(prefix)

    async def _sweep(self) -> None:
        """Remove what could not be removed at once, forever."""
        while True:
            await self._left.wait()
            self._left.clear()
            while self._leftovers:
                for prefix in list(self._leftovers):
                    try:
                        await self._remove(prefix)
                    except Unavailable:
                        break
                    except Exception:
                        # One node that cannot be removed must not keep the others, nor end this service unseen.
                        log.exception("%s cannot be removed", prefix)
                if self._leftovers:
                    await asyncio.sleep(SWEEP_SECONDS)


def _number(name: str) -> int:
    """The number that ZooKeeper appended to a contender's name."""
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def _folder(role: str) -> str:
    return f"{ROOT}/{role}s"


def _value(member_id: str, info: Mapping[str, Any]) -> bytes:
    return json.dumps({"id": member_id, "since": datetime.now(UTC).isoformat(), "info": dict(info)}).encode()


def _member(role: str, value: bytes) -> Member:
    fields = json.loads(value)
    return Member(id=fields["id"], role=role, since=datetime.fromisoformat(fields["since"]), info=fields["info"])
