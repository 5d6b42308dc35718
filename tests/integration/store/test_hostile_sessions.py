"""What another user of the same database can do to Rota, and what is told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio

from rota_server.adapters.postgres.blocks import blocks
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.exclusive import LEADER_LOCK
from rota_server.domain.ids import Position
from tests.conftest import TestDatabase
from tests.integration.store.conftest import Stores, Submit
from tests.integration.test_event_log_contract import submission
from tests.waiting import until


@pytest_asyncio.fixture
async def foreigner(database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    """A session of a role that may do nothing but connect."""
    parts = urlsplit(database.url)
    role = f"foreigner{parts.path.removeprefix('/')}"
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(f"create role {role} login password 'foreign-password'")
    session = await asyncpg.connect(
        f"postgresql://{role}:foreign-password@{parts.hostname}:{parts.port}{parts.path}",
        server_settings={"application_name": "mischief"},
    )
    yield session
    await session.close()
    await owner.execute(f"drop role {role}")
    await owner.close()


@pytest.mark.parametrize("payload", ["9000000000000000000", "-1", "no number", "", "1e3"])
async def test_a_notification_by_anybody_makes_nobody_spin(
    payload: str, database: TestDatabase, foreigner: asyncpg.Connection
):
    own = Database(database.url)
    log = PostgresEventLog(own)
    try:
        waiting = asyncio.create_task(log.wait_for_append(Position(0), 30))
        await until(lambda: log._listener is not None, what="the listener")
        await foreigner.execute("select pg_notify('rota_log', $1)", payload)
        began = time.monotonic()
        await log.wait_for_append(Position(0), 0.7)
        assert time.monotonic() - began >= 0.6, "nothing was appended"
        assert not waiting.done()
        await log.append([submission()[0]])
        await asyncio.wait_for(waiting, 10)
    finally:
        await log.close()
        await own.close()


async def test_the_lock_of_appends_cannot_be_taken_by_anybody(database: TestDatabase, foreigner: asyncpg.Connection):
    own = Database(database.url)
    log = PostgresEventLog(own)
    try:
        await foreigner.execute("select pg_advisory_lock(7010201)")
        await asyncio.wait_for(log.append([submission()[0]]), 10)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await foreigner.execute("begin; lock table append_lock in exclusive mode")
        application = await own.connect_raw()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute("begin; lock table append_lock in exclusive mode")
        await application.close()
        await asyncio.wait_for(log.append([submission()[0]]), 10)
    finally:
        await log.close()
        await own.close()


async def test_who_blocks_all_writing_is_told_by_readiness_metrics_and_why(
    database: TestDatabase, stores: Stores, submit: Submit
):
    client = await stores.client()
    job_id = (await submit())["id"]
    assert (await client.get("/readyz")).status_code == 200
    assert 'rota_blocked{what="writing"} 0.0' in (await client.get("/metrics")).text
    owner = await asyncpg.connect(database.owner_url, server_settings={"application_name": "maintenance"})
    pid = owner.get_server_pid()
    async with owner.transaction():
        await owner.execute("lock table append_lock in exclusive mode")
        stuck = asyncio.create_task(client.post("/v1/jobs", json={"task": "noop"}))

        async def not_ready() -> bool:
            return (await client.get("/readyz")).status_code == 503

        await until(not_ready, what="the readiness to end", timeout_seconds=15)
        detail = (await client.get("/readyz")).json()["detail"]
        assert f"session {pid} of user rota (maintenance)" in detail
        reasons = (await client.get(f"/v1/jobs/{job_id}/why")).json()["reasons"]
        assert [(r["what"], r["session"]) for r in reasons if r["code"] == "blocked"] == [("writing", pid)]
        text = (await (await stores.client()).get("/metrics")).text
        assert 'rota_blocked{what="writing"} 1.0' in text
    await stuck
    await owner.close()
    await until(lambda: _ready(client), what="the readiness to come back")


async def _ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


async def test_a_foreign_holder_of_the_leaders_lock_is_named(database: TestDatabase, foreigner: asyncpg.Connection):
    own = Database(database.url)
    try:
        assert await blocks(own) == []
        ours = await own.connect_raw()
        await ours.execute(f"select pg_advisory_lock({LEADER_LOCK + 1})")
        await foreigner.execute(f"select pg_advisory_lock({LEADER_LOCK})")
        (block,) = await blocks(own)
        assert (block.what, block.pid) == ("leadership", foreigner.get_server_pid())
        assert "mischief" in str(block)
        await ours.close()
    finally:
        await own.close()


async def test_a_search_path_that_the_role_was_given_does_not_count(database: TestDatabase):
    own = Database(database.url)
    owner = await asyncpg.connect(database.owner_url)
    name = urlsplit(database.url).path.removeprefix("/")
    try:
        await owner.execute(f"create schema evil; alter role rota_app in database {name} set search_path = evil")
        connection = await own.connect_raw()
        assert await connection.fetchval("show search_path") == "public, pg_temp"
        await connection.close()
        async with own.begin() as pooled:
            assert (await pooled.exec_driver_sql("show search_path")).scalar() == "public, pg_temp"
    finally:
        await owner.execute(f"alter role rota_app in database {name} reset search_path")
        await owner.close()
        await own.close()
