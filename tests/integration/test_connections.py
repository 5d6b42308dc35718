"""How many connections PostgreSQL has to have for Rota, and what happens when there are no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from rota_server.adapters.postgres import connection as connections
from rota_server.adapters.postgres import pool
from rota_server.adapters.postgres.connection import Database
from rota_server.apps.cli.servers import _connections
from rota_server.apps.connections import CONNECTIONS
from rota_server.apps.settings import Settings
from tests.conftest import TestDatabase
from tests.integration.executor_system import system
from tests.waiting import until

SERVERS = Path(__file__).parents[2] / "docs" / "servers.md"


@asynccontextmanager
async def owner_of(database: TestDatabase) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database.owner_url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_connections_that_nobody_uses_are_closed_but_one(database: TestDatabase, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.2)
    found = Database(database.url, pool_size=4, application="rota-test")
    hot = found.hot()

    async def ask(seconds: float = 0.0) -> None:
        async with found.begin() as connection:
            await connection.exec_driver_sql(f"select pg_sleep({seconds})")

    async with owner_of(database) as owner:

        async def open_now() -> int:
            await ask()
            query = "select count(*) from pg_stat_activity where application_name = 'rota-test' and datname = $1"
            return int(await owner.fetchval(query, urlsplit(database.url).path[1:]))

        try:
            await asyncio.gather(*(ask(0.3) for _ in range(6)), hot.fetch("select 1"))
            assert await open_now() >= 4
            await until(lambda: _is(open_now, 1), timeout_seconds=20, what="a pool of one")
            assert await hot.fetch("select 1")
            await asyncio.gather(*(ask(0.3) for _ in range(8)))
        finally:
            await hot.close()
            await found.close()


async def _is(count: Any, wanted: int) -> bool:
    return bool(await count() == wanted)


async def test_when_all_connections_are_used_an_executor_says_so_and_loses_nothing(
    database: TestDatabase, redis_url: str, tmp_path: Path
):
    name = urlsplit(database.url).path[1:]
    async with system(database.url, redis_url, tmp_path) as rota, owner_of(database) as owner:
        first = await rota.executor(tasks=SLOW, concurrency=8)
        long = await rota.submit("long", 4)
        await rota.in_state("running", long)
        await owner.execute(f"alter database {name} connection limit 0")
        # As when others have taken all: what breaks, or is closed while it rests, does not come back.
        ended = """
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = $1 and application_name = 'rota-executor' and query like 'select base, recorded%'
        """
        assert await owner.fetch(ended, name)
        second = rota.spawn(concurrency=8)
        await until(lambda: "too many connections" in second.said(), timeout_seconds=60, what="the second's line")
        began = await owner.fetchval("select clock_timestamp()")
        await until(lambda: _beaten(owner, began), what="heartbeats for longer than a member's life")
        (tmp_path / "go").touch()
        await until(lambda: "too many connections" in first.said(), timeout_seconds=60, what="the first's line")
        await owner.execute(f"alter database {name} connection limit -1")
        await rota.in_state("succeeded", long)
        for job in long:
            assert (await rota.types(job)).count("AttemptStarted") == 1
        assert "Traceback" not in first.said() + second.said()
        more = await rota.submit("long", 4)
        await rota.in_state("succeeded", more)


async def _beaten(owner: asyncpg.Connection[Any], since: Any) -> bool:
    beaten = "select min(beat_at) > $1::timestamptz + interval '9 s' from members where role = 'executor'"
    return bool(await owner.fetchval(beaten, since))


SLOW = """
import time
from pathlib import Path
from rota import task

@task(name="long")
def long():
    while not Path(__file__).with_name("go").exists():
        time.sleep(0.05)
"""


async def test_the_doctor_adds_up_what_the_running_processes_may_need(
    database: TestDatabase, redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    settings = Settings(database_url=database.url, redis_url=redis_url)
    async with owner_of(database) as owner:

        async def run(role: str, count: int) -> None:
            await owner.execute(
                "insert into members (role, id, info) select $1, $1 || n, '{}' from generate_series(1, $2) n",
                role,
                count,
            )

        await run("executor", 3)
        await run("store", 1)
        told = await _connections(settings, database.url)
        needed = 3 * CONNECTIONS["executor"].most + CONNECTIONS["store"].most
        assert told.startswith(f"1 store, 3 executors: up to {needed} connections, ")
        assert "raise max_connections" not in told
        await run("scheduler", 100)
        told = await _connections(settings, database.url)
        assert type(told).__name__ == "_Warning"
        assert "100 schedulers" in told
        assert told.endswith("raise max_connections, or see docs/servers.md")


def test_the_page_about_servers_has_the_numbers_of_the_code():
    text = SERVERS.read_text()
    for role, own in CONNECTIONS.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {role} |") and "in the pool" in line]
        assert f"{own.pool + own.overflow} in the pool" in row
        assert f": {own.most} |" in row
