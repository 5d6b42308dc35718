"""What a session in PostgreSQL does when the server, or the process that has it, is not well."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text

from rota_server.adapters.postgres.connection import Database, HotConnection
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Term
from tests.conftest import TestDatabase
from tests.integration.coordination_tools import append_as, peer
from tests.waiting import until

SLOW = "select pg_sleep(25), 'left behind'"
WRITE = "update members set role = role"


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url, application="test-sessions")
    yield database
    await database.close()


@pytest.fixture
async def hot(pool: Database) -> AsyncIterator[HotConnection]:
    connection = pool.hot()
    yield connection
    await connection.close()


@pytest.fixture
async def owner(database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


async def only_read(owner: asyncpg.Connection, how: str) -> None:
    """Have the database refuse to be written to, as a standby does, or accept it again."""
    name = await owner.fetchval("select current_database()")
    await owner.execute(f"alter database {name} set default_transaction_read_only = {how}")
    await owner.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test-sessions'"
    )


async def pooled_pid(pool: Database) -> int:
    async with pool.begin() as connection:
        return int((await connection.execute(text("select pg_backend_pid()"))).scalar_one())


async def test_a_server_that_may_only_be_read_is_away_until_it_can_be_written_to(
    pool: Database, owner: asyncpg.Connection
) -> None:
    log = PostgresEventLog(pool)
    await only_read(owner, "on")

    async def writes() -> bool:
        try:
            async with pool.begin() as connection:
                await connection.execute(text(WRITE))
            await append_as(log, Term(0))
        except Unavailable:
            return False
        return True

    for _ in range(3):
        assert not await writes()
    await only_read(owner, "off")
    await until(writes, timeout_seconds=10, what="a write")
    await log.close()


async def test_whoever_met_a_server_that_may_only_be_read_lets_all_connections_to_it_go(
    pool: Database, hot: HotConnection
) -> None:
    """They may all lead to the server that was the primary until a moment ago."""
    reader = pool.hot()
    ((pid,),) = await reader.fetch("select pg_backend_pid()")
    before = await pooled_pid(pool)
    await hot.fetch("set default_transaction_read_only = on")
    with pytest.raises(Unavailable, match="read-only"):
        await hot.fetch(WRITE)
    await hot.fetch(WRITE)
    ((after,),) = await reader.fetch("select pg_backend_pid()")
    assert after != pid

    async def write_where_only_reading_is_allowed() -> None:
        async with pool.begin() as connection:
            await connection.execute(text("set transaction read only"))
            await connection.execute(text(WRITE))

    with pytest.raises(Unavailable, match="read-only"):
        await write_where_only_reading_is_allowed()
    assert await pooled_pid(pool) != before
    await reader.close()


@pytest.mark.parametrize("state", ["25006", "25P03", "40001", "40003", "40P01", "53100", "55P03", "57014", "58030"])
async def test_what_means_not_now_is_unavailable_by_every_way(pool: Database, hot: HotConnection, state: str) -> None:
    statement = f"do $$ begin raise exception 'not now' using errcode = '{state}'; end $$"
    with pytest.raises(Unavailable):
        await hot.fetch(statement)
    with pytest.raises(Unavailable):
        async with pool.begin() as connection:
            await connection.execute(text(statement))


@pytest.mark.parametrize("value", ["no number", 2**80])
async def test_what_can_never_be_sent_is_no_outage(hot: HotConnection, value: object) -> None:
    with pytest.raises(asyncpg.DataError):
        await hot.fetch("select $1::int", value)


async def test_a_process_frozen_within_a_transaction_loses_its_locks(
    owner: asyncpg.Connection, postgres_url: str
) -> None:
    await owner.execute("insert into members (role, id, info) values ('executor', 'e1', '{}')")
    locking = "select id from members where id = 'e1' for update"
    with peer(postgres_url, None, "lock", "e1") as other:
        await other.says("locked")
        other.signal(signal.SIGSTOP)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await owner.fetch(f"{locking} nowait")
        async with asyncio.timeout(15):
            await owner.fetch(locking)
        other.signal(signal.SIGCONT)
        other.ask_to_go_on()
        await other.says("unavailable")


async def test_every_session_is_bounded_by_the_server_too(pool: Database, hot: HotConnection) -> None:
    wanted = {"statement_timeout": 30_000, "lock_timeout": 10_000, "idle_in_transaction_session_timeout": 6_000}
    asking = "select name, setting::int from pg_settings where name like '%\\_timeout'"
    raw = await pool.connect_raw()
    async with pool.begin() as connection:
        pooled = (await connection.exec_driver_sql(asking)).all()
    for rows in (pooled, await hot.fetch(asking), await raw.fetch(asking)):
        assert wanted.items() <= dict(rows).items()
    await raw.close()


@pytest.mark.parametrize("kind", ["hot", "pool"])
async def test_the_query_of_a_request_that_was_given_up_ends_in_postgresql(
    pool: Database, hot: HotConnection, owner: asyncpg.Connection, kind: str
) -> None:
    async def ask() -> None:
        if kind == "hot":
            await hot.fetch(SLOW)
            return
        async with pool.begin() as connection:
            await connection.exec_driver_sql(SLOW)

    async def runs() -> bool:
        found = "select count(*) from pg_stat_activity where query = $1 and state = 'active'"
        return bool(await owner.fetchval(found, SLOW))

    async def ended() -> bool:
        return not await runs()

    asking = asyncio.create_task(ask())
    await until(runs, what="the query")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(ended, timeout_seconds=5, what="the query's end")
