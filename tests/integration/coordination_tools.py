"""Coordination for the tests: several adapters under one name, and processes that can be killed and frozen.

Run as a program it is such a process: it registers or stands for election, says so, and appends when told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.fence import PostgresFence
from rota_server.adapters.zookeeper.coordination import ZooKeeperCoordination
from rota_server.domain.errors import NotLeader, Unavailable
from rota_server.domain.ids import Term, Version
from rota_server.domain.jobs.events import LeaderElected
from rota_server.domain.log import Appended, Meta, StreamWrite, Unit
from rota_server.domain.ports.coordination import Coordination

SOON_SECONDS = 25.0
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def coordinated(database: Database, hosts: str | None) -> AsyncIterator[Coordination]:
    """A coordination of its own session: ZooKeeper's when there are hosts, else PostgreSQL's."""
    if hosts is None:
        yield PostgresCoordination(database)
        return
    async with ZooKeeperCoordination(hosts, PostgresFence(database)) as zookeeper:
        yield zookeeper


async def append_as(log: PostgresEventLog, term: Term, stream: UUID | None = None) -> None:
    """Append something under this term. Raises NotLeader."""
    event = LeaderElected(term=term, node="test")
    write = StreamWrite(stream_id=stream or uuid4(), expected_version=Version(0), events=[event], head=None)
    (result,) = await log.append([Unit(id=uuid4(), writes=[write], meta=Meta(actor="test", term=term))], fence=term)
    assert isinstance(result, Appended)


class Peer:
    """Another process with a place of its own."""

    def __init__(self, database_url: str, hosts: str | None, action: str, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.coordination_tools", database_url, hosts or "-", action, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    async def says(self, what: str) -> Any:
        """Wait until it says this word; what came with it."""
        async with asyncio.timeout(SOON_SECONDS):
            while True:
                assert self._process.stdout is not None
                line = await asyncio.to_thread(self._process.stdout.readline)
                assert line, f"{self.name} ended without saying {what}"
                said = json.loads(line)
                if said[0] == what:
                    return said[1]

    def ask_to_go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"append\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def peer(database_url: str, hosts: str | None, action: str, name: str) -> Any:
    found = Peer(database_url, hosts, action, name)
    try:
        yield found
    finally:
        found.end()


def _say(what: str, detail: Any = None) -> None:
    print(json.dumps([what, detail]), flush=True)


async def _hold_lock(database: Database, name: str) -> None:
    """Hold the lock of a row within a transaction, and go on when told to."""
    try:
        async with database.begin() as connection:
            await connection.execute(text("select id from members where id = :id for update"), {"id": name})
            _say("locked")
            await asyncio.to_thread(sys.stdin.readline)
            await connection.execute(text("select 1"))
    except Unavailable as error:
        _say("unavailable", str(error))


async def _live(database_url: str, hosts: str | None, action: str, name: str) -> None:
    database = Database(database_url)
    if action == "lock":
        await _hold_lock(database, name)
        return
    async with coordinated(database, hosts) as coordination:
        if action == "register":
            async with coordination.register("executor", name, {"pid": 1}) as place:
                _say("registered")
                await place.wait_lost()
                _say("lost")
            return
        async with coordination.elect(name, {}) as lead:
            _say("leads", lead.term)
            losing = asyncio.ensure_future(lead.wait_lost())
            losing.add_done_callback(lambda _done: _say("lost"))
            log = PostgresEventLog(database)
            while await asyncio.to_thread(sys.stdin.readline):
                try:
                    await append_as(log, lead.term)
                    _say("appended")
                except NotLeader as error:
                    _say("refused", error.current_term)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    url, zookeeper_hosts, wanted, own_name = sys.argv[1:]
    asyncio.run(_live(url, None if zookeeper_hosts == "-" else zookeeper_hosts, wanted, own_name))
