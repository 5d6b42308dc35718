"""Coordination through PostgreSQL alone: heartbeat rows and an advisory lock. For one machine, or without ZooKeeper.

PostgreSQL's clock decides who is alive. A leader trusts its lock only as long as its connection answered recently.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.connection import Database
from adapters.postgres.exclusive import LEADER_LOCK, ExclusiveLock
from adapters.postgres.fence import PostgresFence
from adapters.postgres.tables import leadership, members
from domain.errors import Unavailable
from domain.ids import Term
from domain.ports import Member

BEAT_SECONDS = 2.0
TTL_SECONDS = 6.0
WATCH_SECONDS = 0.5


class _Leadership:
    """A held advisory lock and the term entered with it."""

    def __init__(self, term: Term, lost: asyncio.Event) -> None:
        self._term = term
        self._lost = lost

    @property
    def term(self) -> Term:
        return self._term

    @property
    def held(self) -> bool:
        return not self._lost.is_set()

    async def wait_lost(self) -> None:
        await self._lost.wait()


class _Registration:
    """A heartbeat row of this process's own."""

    def __init__(self, database: Database, role: str, member_id: str, info: Mapping[str, Any]) -> None:
        self._database = database
        self._role = role
        self._id = member_id
        self._info = dict(info)
        self._lost = asyncio.Event()

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    async def wait_lost(self) -> None:
        await self._lost.wait()

    async def update(self, info: Mapping[str, Any]) -> None:
        self._info = dict(info)

    async def enter(self) -> None:
        async with self._database.begin() as connection:
            await connection.execute(
                delete(members).where(members.c.beat_at < func.clock_timestamp() - text("interval '1 hour'"))
            )
            statement = insert(members).values(role=self._role, id=self._id, info=self._info)
            renewed = {"info": statement.excluded.info, "beat_at": func.clock_timestamp()}
            await connection.execute(statement.on_conflict_do_update(index_elements=["role", "id"], set_=renewed))

    async def beat(self) -> None:
        """Beat for as long as the row is there.

        While PostgreSQL is away nobody can be declared dead; a process that was cut off alone for longer than the time
        to live finds out by its attempts' heads that they were declared lost.
        """
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    alive = await self._refresh()
            except (Unavailable, TimeoutError):
                continue
            if not alive:
                self._lost.set()
                return

    async def _refresh(self) -> bool:
        async with self._database.begin() as connection:
            result = await connection.execute(
                members.update()
                .where(members.c.role == self._role, members.c.id == self._id)
                .values(beat_at=func.clock_timestamp(), info=self._info)
            )
        return result.rowcount == 1

    async def leave(self) -> None:
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS), self._database.begin() as connection:
                await connection.execute(delete(members).where(members.c.role == self._role, members.c.id == self._id))


class PostgresCoordination:
    """The port Coordination."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fence = PostgresFence(database)

    @asynccontextmanager
    async def elect(self, node: str, info: Mapping[str, Any]) -> AsyncIterator[_Leadership]:
        """See the port."""
        async with self.register("scheduler", node, info):
            async with ExclusiveLock(self._database, LEADER_LOCK).held() as lost:
                term = Term(await self._fence.current() + 1)
                await self._fence.enter(term, node)
                yield _Leadership(term, lost)

    @asynccontextmanager
    async def register(self, role: str, member_id: str, info: Mapping[str, Any]) -> AsyncIterator[_Registration]:
        """See the port."""
        registration = _Registration(self._database, role, member_id, info)
        await registration.enter()
        beating = asyncio.create_task(registration.beat())
        try:
            yield registration
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await registration.leave()

    async def members(self, role: str) -> list[Member]:
        """See the port."""
        fresh = members.c.beat_at > func.clock_timestamp() - text(f"interval '{TTL_SECONDS} s'")
        query = select(members).where(members.c.role == role, fresh).order_by(members.c.since)
        async with self._database.begin() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [Member(id=r["id"], role=r["role"], since=r["since"], info=r["info"]) for r in rows]

    async def watch_members(self, role: str) -> AsyncIterator[list[Member]]:
        """See the port. Looks once a second."""
        before: list[tuple[str, datetime]] | None = None
        while True:
            found = await self.members(role)
            now = [(m.id, m.since) for m in found]
            if now != before:
                before = now
                yield found
            await asyncio.sleep(WATCH_SECONDS)

    async def leader(self) -> Member | None:
        """See the port. The node of the term in force, if it is alive."""
        async with self._database.begin() as connection:
            row = (await connection.execute(select(leadership))).mappings().first()
        if row is None:
            return None
        for member in await self.members("scheduler"):
            if member.id == row["node"]:
                return Member(
                    id=member.id, role="leader", since=row["since"], info={**member.info, "term": row["term"]}
                )
        return None

    async def close(self) -> None:
        """Nothing is kept open."""
