"""Failures that are no clean deaths: a server that may only be read, a failover, a way that is frozen.

Afterwards every job has ended, no attempt
ran twice, and only attempts of an executor that was cut off were lost, each job's once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from rota import Client
from rota_server.adapters.embedded.directory import DataDirectory
from rota_server.adapters.embedded.postgres import EmbeddedPostgres
from rota_server.adapters.embedded.process import spawn
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.migrate import migrate
from rota_server.domain.ids import Position
from rota_server.domain.jobs.events import AttemptLost
from tests.chaos.system import WHOLE, Load, System, jobs_of, run, system
from tests.freezing_proxy import FreezingProxy
from tests.servers import APP_PASSWORD
from tests.standby import standby_of
from tests.waiting import until_sync
from tests.zookeeper_server import ZooKeeperServer

pytestmark = pytest.mark.chaos

JOBS = jobs_of("PARTIAL_JOBS", short=240, whole=1000)
CUT_SECONDS = 20.0 if WHOLE else 12.0
"""Longer than a member may be silent: 8 s without ZooKeeper, 6 s with it."""

SLOTS = 10


def passes(seconds: float) -> None:
    """A failure has to last: there is no other sign for that than the clock."""
    threading.Event().wait(seconds)


async def losses(database_url: str) -> list[tuple[str, str]]:
    """The executor and the job of each attempt that was declared lost."""
    database = Database(database_url)
    log = PostgresEventLog(database)
    found: list[tuple[str, str]] = []
    position = Position(0)
    while events := await log.read(position, 2000):
        found += [(e.event.executor, str(e.stream_id)) for e in events if isinstance(e.event, AttemptLost)]
        position = events[-1].position
    await log.close()
    await database.close()
    return found


# -- one executor cut off from one server ----------------------------------------------------------------------------


@contextmanager
def another_executor(found: System, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """One more executor of this system, with addresses of its own."""
    tasks = str(Path(__file__).with_name("chaos_tasks.py"))
    settings = {
        "ROTA_DATABASE_URL": found.database_url(),
        "ROTA_REDIS_URL": found.redis_url(),
        "ROTA_TASKS": tasks,
        "ROTA_TASK_PROCESSES": "1",
        "ROTA_CONCURRENCY": str(SLOTS),
        "CHAOS_TRACE": str(found.trace),
        **env,
    }
    with (found.place / "cut.log").open("wb") as out:
        process = spawn(
            [sys.executable, "-m", "rota_server.apps.cli.main", "executor"],
            log=out,
            death_signal=signal.SIGKILL,
            env={**os.environ, **settings},
        )
    try:
        with Client(found.url, timeout=30) as client:
            until_sync(lambda: pid_is_member(client, process.pid), timeout_seconds=90, what="the executor")
        yield process
    finally:
        process.kill()
        process.wait()


def executors(client: Client) -> list[dict[str, Any]]:
    return list(client.call("GET", "/v1/executors")["items"])


def pid_is_member(client: Client, pid: int) -> bool:
    return any(member["pid"] == pid for member in executors(client))


def along(url: str, proxy: FreezingProxy) -> str:
    return make_url(url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)


@pytest.mark.parametrize("server", ["postgres", "redis", "zookeeper"])
def test_an_executor_that_is_cut_off_from_one_server_loses_its_own_attempts_at_most(
    server: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    with ExitStack() as stack:
        env: dict[str, str] = {"ROTA_CONCURRENCY": str(SLOTS)}
        if server == "zookeeper":
            zookeeper = ZooKeeperServer(tmp_path / "zookeeper")
            stack.callback(zookeeper.stop)
            zookeeper.start()
            env["ROTA_ZOOKEEPER_HOSTS"] = zookeeper.hosts
        found = stack.enter_context(system(tmp_path, executors=1, **env))
        name, address = {
            "postgres": ("ROTA_DATABASE_URL", found.database_url()),
            "redis": ("ROTA_REDIS_URL", found.redis_url()),
            "zookeeper": ("ROTA_ZOOKEEPER_HOSTS", f"zookeeper://{env.get('ROTA_ZOOKEEPER_HOSTS', '')}"),
        }[server]
        url = make_url(address)
        proxy = stack.enter_context(FreezingProxy(str(url.host), int(url.port or 0)))
        env[name] = along(address, proxy).removeprefix("zookeeper://")
        cut = stack.enter_context(another_executor(found, **env))
        with Client(found.url, timeout=30) as client:
            own = [member["id"] for member in executors(client) if member["pid"] == cut.pid]
        load = Load(found.url, JOBS, seconds=0.4)
        load.start()
        assert load.half.wait(120)
        with proxy.frozen():
            passes(CUT_SECONDS)
        types = run(found, load.join())
        assert types["AttemptSucceeded"] == JOBS
        lost = asyncio.run(losses(found.database_url()))
        assert {executor for executor, _ in lost} <= set(own), "others lost attempts, too"
        assert len(lost) <= SLOTS, "it took work while it was cut off"
        assert not [job for job, times in Counter(job for _, job in lost).items() if times > 1]
        assert cut.poll() is None
        with Client(found.url, timeout=30) as client:
            until_sync(lambda: pid_is_member(client, cut.pid), timeout_seconds=60, what="its coming back")


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def only_read(found: System, how: str) -> None:
    setting = f"alter system set default_transaction_read_only = {how}"
    asyncio.run(execute(found.owner_url(), setting, "select pg_reload_conf()"))


def test_a_postgresql_that_may_only_be_read_for_five_seconds_costs_nothing(found: System) -> None:
    load = Load(found.url, JOBS, seconds=0.1)
    load.start()
    assert load.half.wait(120)
    before = found.state()["processes"]
    only_read(found, "on")
    passes(5.0)
    only_read(found, "off")
    types = run(found, load.join())
    assert types["AttemptSucceeded"] == JOBS
    assert types["AttemptStarted"] == JOBS
    assert found.state()["processes"] == before, "a process had to be started again"


def test_a_failover_to_a_promoted_standby_costs_nothing(tmp_path: Path) -> None:
    """The address leads to the standby before it is promoted: everybody meets a server that may only be read."""
    tmp_path.chmod(0o755)
    with ExitStack() as stack:
        directory = stack.enter_context(DataDirectory(tmp_path / "primary"))
        primary = stack.enter_context(EmbeddedPostgres(directory))
        url = asyncio.run(migrate(primary.url, APP_PASSWORD))
        port = stack.enter_context(standby_of(primary))
        follows = "select count(*) from pg_stat_replication where sync_state = 'sync'"
        waiting = "alter system set synchronous_standby_names = '*'"
        asyncio.run(execute(primary.url, waiting, "select pg_reload_conf()"))
        until_sync(lambda: asyncio.run(value_of(primary.url, follows)), what="the standby's following")
        proxy = stack.enter_context(FreezingProxy("127.0.0.1", primary.port))
        url = along(url, proxy)
        found = stack.enter_context(system(tmp_path / "up", ROTA_DATABASE_URL=url))
        found.given_database_url = url
        load = Load(found.url, JOBS, seconds=0.1)
        load.start()
        assert load.half.wait(120)
        before = found.state()["processes"]
        standby = make_url(primary.url).set(port=port).render_as_string(hide_password=False)
        primary.stop_immediate()
        proxy.switch("127.0.0.1", port)
        passes(3.0)
        assert asyncio.run(value_of(standby, "select pg_promote()"))
        types = run(found, load.join())
        assert types["AttemptSucceeded"] == JOBS
        assert types["AttemptLost"] == 0
        assert found.state()["processes"] == before, "a process had to be started again"


async def value_of(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()
