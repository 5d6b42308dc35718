"""A PostgreSQL that dies and its standby that is promoted: an address that names both is enough to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import asyncpg
from sqlalchemy import make_url

from rota_server.adapters.embedded.directory import DataDirectory
from rota_server.adapters.embedded.postgres import EmbeddedPostgres
from rota_server.adapters.postgres.exclusive import LEADER_LOCK, ExclusiveLock
from rota_server.adapters.postgres.migrate import migrate
from rota_server.adapters.postgres.roles import KINDS
from rota_server.domain.errors import Unavailable
from tests.integration.executor_system import System, system
from tests.integration.test_connections import SLOW
from tests.servers import APP_PASSWORD
from tests.standby import standby_of
from tests.waiting import until


async def test_roles_follow_a_promoted_standby_by_their_address_alone(redis_url: str, tmp_path: Path):
    with ExitStack() as stack:
        primary = stack.enter_context(EmbeddedPostgres(stack.enter_context(DataDirectory(tmp_path / "data"))))
        app = make_url(await migrate(primary.url, APP_PASSWORD, dict.fromkeys(KINDS, APP_PASSWORD)))
        port = await asyncio.to_thread(stack.enter_context, standby_of(primary))
        follows = "select count(*) = 1 from pg_stat_replication where state = 'streaming'"
        await until(lambda: asked(primary.url, follows), what="the standby's following")
        await asked(primary.url, "alter system set synchronous_standby_names = '*'")
        await asked(primary.url, "select pg_reload_conf()")
        standby = make_url(primary.url).set(port=port).render_as_string(hide_password=False)
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{port}"
        url = f"postgresql://rota_app:{app.password}@{hosts}/rota?target_session_attrs=read-write"
        async with system(url, redis_url, tmp_path) as rota:
            executor = await rota.executor(tasks=SLOW, concurrency=8)
            jobs = await rota.submit("long", 4)
            await rota.in_state("running", jobs)
            lock = ExclusiveLock(rota.database, LEADER_LOCK)
            async with lock.held() as hold:
                await rota.log.wait_for_append(await rota.log.last_position(), 0.1)  # listens from now on
                primary.stop_immediate()
                await asyncio.wait_for(hold.wait_lost(), 10)
            assert await asked(standby, "select pg_promote()")
            (tmp_path / "go").touch()
            await until(lambda: all_in(rota, jobs), timeout_seconds=60, what="the ends of what ran")
            async with lock.held() as hold:
                assert hold.certain
                last = await rota.log.last_position()
                told = asyncio.create_task(rota.log.wait_for_append(last, 20))
                more = await rota.submit("long", 4)
                await told
            await rota.in_state("succeeded", more)
            for job in (*jobs, *more):
                types = await rota.types(job)
                assert types.count("AttemptStarted") == 1, types
            assert "Traceback" not in executor.said()


async def all_in(rota: System, jobs: Sequence[UUID]) -> bool:
    try:
        return (await rota.states(jobs)) == {"succeeded": 4}
    except Unavailable:
        return False


async def asked(url: str, question: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()
