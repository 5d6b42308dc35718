"""Coordination through PostgreSQL alone: heartbeat rows and an advisory lock. For one machine, or without ZooKeeper.

PostgreSQL's clock decides who is alive. A leader trusts its lock only as long as its connection answered recently. Who
cannot get its own heartbeat through never says that others are dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rota_server.adapters.background import beside
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.exclusive import LEADER_LOCK, ExclusiveLock, Hold
from rota_server.adapters.postgres.fence import PostgresFence
from rota_server.adapters.postgres.tables import leadership, members
from rota_server.adapters.proofs import Proofs
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Term
from rota_server.domain.ports.coordination import Member

BEAT_SECONDS = 2.0
BEAT_RETRY_SECONDS = 0.25
TTL_SECONDS = 8.0
"""Who has not beaten for so long is not a member any more: three beats may fail."""

OWN_BEAT_SECONDS = 2 * BEAT_SECONDS + 1.0
"""Who has not got a beat through for so long cannot judge others, nor be sure to be seen by them."""

WATCH_SECONDS = 0.5
LOOK_SECONDS = 2.0
FORGET = text("interval '1 hour'")
"""When the rows of the dead are removed."""


class _Leadership:
    """A held advisory lock and the term entered with it."""

    def __init__(self, term: Term, hold: Hold) -> None:
        self._term = term
        self._hold = hold

    @property
    def term(self) -> Term:
        return self._term

    @property
    def held(self) -> bool:
        return self._hold.certain

    async def wait_lost(self) -> None:
        await self._hold.wait_lost()


class _Registration:
    """A heartbeat row of this process's own."""

    def __init__(self, database: Database, role: str, member_id: str, info: Mapping[str, Any]) -> None:
        self._database = database
        self._own = (members.c.role == role, members.c.id == member_id)
        self._row = {"role": role, "id": member_id}
        self._info = dict(info)
        self._lost = asyncio.Event()
        self._proofs = Proofs(OWN_BEAT_SECONDS)

    @property
    def certain_since(self) -> float | None:
        return self._proofs.since

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def end(self) -> None:
        """Whatever ended the beat has ended the place."""
        self._proofs.end()
        self._lost.set()

    async def wait_lost(self) -> None:
        await self._lost.wait()

    async def update(self, info: Mapping[str, Any]) -> None:
        self._info = dict(info)
        await self._refresh()

    async def enter(self) -> None:
        asked_at = time.monotonic()
        async with self._database.begin() as connection:
            await connection.execute(delete(members).where(members.c.beat_at < func.clock_timestamp() - FORGET))
            statement = insert(members).values(**self._row, info=self._info)
            renewed = {"info": statement.excluded.info, "beat_at": func.clock_timestamp()}
            await connection.execute(statement.on_conflict_do_update(index_elements=["role", "id"], set_=renewed))
        self._proofs.add(asked_at)

    async def beat(self) -> None:
        """Beat for as long as the row is there.

        A beat that fails loses nothing: while PostgreSQL is away from everybody nobody can be declared dead. But who
        is cut off alone can be, so without beats this place is in doubt.
        """
        pause = BEAT_SECONDS
        alive = True
        while alive:
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    alive = await self._refresh()
                pause = BEAT_SECONDS
            except (Unavailable, TimeoutError):
                pause = BEAT_RETRY_SECONDS

    async def _refresh(self) -> bool:
        asked_at = time.monotonic()
        async with self._database.begin() as connection:
            # A heartbeat need not survive a crash, and should not wait for the disk.
            await connection.execute(text("set local synchronous_commit to off"))
            result = await connection.execute(
                members.update().where(*self._own).values(beat_at=func.clock_timestamp(), info=self._info)
            )
        alive = result.rowcount == 1
        if alive:
            self._proofs.add(asked_at)
        return alive

    async def leave(self) -> None:
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS), self._database.begin() as connection:
                await connection.execute(delete(members).where(*self._own))


class PostgresCoordination:
    """The port Coordination."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fence = PostgresFence(database)
        self._own: list[str] = []
        """The ids under which this process is registered, the newest last."""

    @asynccontextmanager
    async def elect(self, node: str, info: Mapping[str, Any]) -> AsyncIterator[_Leadership]:
        """See the port."""
        lock = ExclusiveLock(self._database, LEADER_LOCK)
        async with self.register("scheduler", node, info), lock.held() as hold:
            term = Term(await self._fence.current() + 1)
            await self._fence.enter(term, node)
            yield _Leadership(term, hold)

    @asynccontextmanager
    async def register(self, role: str, member_id: str, info: Mapping[str, Any]) -> AsyncIterator[_Registration]:
        """See the port."""
        registration = _Registration(self._database, role, member_id, info)
        await registration.enter()
        self._own.append(member_id)
        try:
            async with beside("the heartbeat", registration.beat(), registration.end):
                yield registration
        finally:
            self._own.remove(member_id)
            await registration.leave()

    async def members(self, role: str) -> list[Member]:
        """See the port."""
        async with self._database.begin() as connection:
            return await self._members(connection, role)

    async def _members(self, connection: AsyncConnection, role: str) -> list[Member]:
        fresh = members.c.beat_at > func.clock_timestamp() - text(f"interval '{TTL_SECONDS} s'")
        query = select(members).where(members.c.role == role, fresh).order_by(members.c.since)
        rows = (await connection.execute(query)).mappings().all()
        return [Member(id=r["id"], role=r["role"], since=r["since"], info=r["info"]) for r in rows]

    async def watch_members(self, role: str) -> AsyncIterator[list[Member]]:
        """See the port. Looks twice a second.

        Raises:
            Unavailable: PostgreSQL does not answer in time, or this process's own heartbeats do not arrive.
        """
        before: list[tuple[str, datetime]] | None = None
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    found = await self._look(role)
            except TimeoutError as error:
                raise Unavailable("PostgreSQL takes too long to tell who is alive", server="postgres") from error
            now = [(m.id, m.since) for m in found]
            if now != before:
                before = now
                yield found
            await asyncio.sleep(WATCH_SECONDS)

    async def _look(self, role: str) -> list[Member]:
        async with self._database.begin() as connection:
            if self._own:
                own_beat = select(
                    func.max(members.c.beat_at) < func.clock_timestamp() - text(f"interval '{OWN_BEAT_SECONDS} s'")
                ).where(members.c.id == self._own[-1])
                if (await connection.execute(own_beat)).scalar():
                    raise Unavailable("this process's own heartbeats do not arrive", server="postgres")
            return await self._members(connection, role)

    async def leader(self) -> Member | None:
        """See the port. The node of the term in force, if it is alive."""
        async with self._database.begin() as connection:
            row = (await connection.execute(select(leadership))).mappings().first()
            standing = await self._members(connection, "scheduler")
        if row is None:
            return None
        for member in standing:
            if member.id == row["node"]:
                info = {**member.info, "term": row["term"]}
                return Member(id=member.id, role="leader", since=row["since"], info=info)
        return None
