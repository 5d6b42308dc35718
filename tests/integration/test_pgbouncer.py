"""Rota behind a real PgBouncer, in each of its pool modes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from rota import Client, RotaError
from rota_server.adapters.embedded.directory import usable_port
from rota_server.adapters.embedded.process import spawn
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.migrate import migrate
from rota_server.adapters.postgres.pooling import Pooling, pooling_of
from rota_server.domain.errors import WrongSetting
from tests.conftest import TestDatabase
from tests.integration.test_addresses import ROLES, outputs_of
from tests.integration.test_event_log_contract import submission
from tests.pgbouncer_server import pgbouncer
from tests.servers import APP_PASSWORD
from tests.waiting import until_sync


@pytest.fixture(scope="module")
def poolers(postgres_server: str) -> Iterator[dict[str, str]]:
    """The host and port of a PgBouncer of each mode."""
    with (
        pgbouncer(postgres_server, "session") as session,
        pgbouncer(postgres_server, "transaction") as transaction,
        pgbouncer(postgres_server, "statement") as statement,
    ):
        found = {"session": session, "transaction": transaction, "statement": statement}
        yield {mode: urlsplit(url).netloc.rpartition("@")[2] for mode, url in found.items()}


def through(pooler: str, url: str) -> str:
    return url.replace(urlsplit(url).netloc.rpartition("@")[2], pooler)


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
async def test_a_pooler_is_known_by_its_behaviour(mode: str, poolers: dict[str, str], database: TestDatabase):
    url = through(poolers[mode], database.url)
    assert await pooling_of(lambda: asyncpg.connect(url, statement_cache_size=0)) is Pooling(mode)


@pytest.mark.parametrize("settings", [{"server_round_robin": "1", "min_pool_size": "2"}, {"default_pool_size": "1"}])
async def test_a_pooler_is_known_in_whatever_order_it_gives_connections_away(
    settings: dict[str, str], database: TestDatabase
):
    with pgbouncer(database.url, "transaction", **settings) as url:
        assert await pooling_of(lambda: asyncpg.connect(url, statement_cache_size=0)) is Pooling.TRANSACTION


async def test_postgresql_itself_is_known(database: TestDatabase):
    assert await pooling_of(lambda: asyncpg.connect(database.url)) is Pooling.SESSION


@pytest.mark.parametrize(
    ("mode", "way_out"), [("transaction", "set ROTA_LISTEN_DATABASE_URL"), ("statement", "session")]
)
def test_every_role_the_doctor_and_a_migration_name_the_way_out_of_a_pooler_without_sessions(
    mode: str, way_out: str, poolers: dict[str, str], database: TestDatabase, redis_url: str, tmp_path: Path
):
    url = through(poolers[mode], database.url)
    env = {**os.environ, "ROTA_DATABASE_URL": url, "ROTA_REDIS_URL": redis_url, "ROTA_PORT": "0"}
    env["ROTA_OWNER_DATABASE_URL"] = through(poolers[mode], database.owner_url)
    for command, (output, status) in outputs_of((*ROLES, "doctor", "migrate"), env, tmp_path).items():
        told = [line for line in output.splitlines() if f"leads through a pooler in {mode} mode" in line]
        assert len(told) == 1, (command, output)
        assert ("pool_mode = session" if command == "migrate" else way_out) in told[0]
        assert "Traceback" not in output, command
        assert status == (1 if command == "doctor" else 2), (command, output)


async def test_through_session_mode_everything_works_with_one_address(poolers: dict[str, str], database: TestDatabase):
    url = through(poolers["session"], database.url)
    await works(Database(url, application="rota-test"))
    assert (await migrate(through(poolers["session"], database.owner_url), APP_PASSWORD)).startswith("postgresql://")


async def test_through_transaction_mode_everything_works_with_a_direct_address_beside(
    poolers: dict[str, str], database: TestDatabase
):
    url = through(poolers["transaction"], database.url)
    await works(Database(url, application="rota-test", direct_url=database.url))
    # Nothing of ours stays behind in the sessions that others get.
    other = await asyncpg.connect(url, statement_cache_size=0)
    try:
        await other.execute("begin")
        assert await other.fetchval("select current_setting('statement_timeout')") == "0"
        assert await other.fetchval("select count(*) from pg_prepared_statements where name <> ''") == 0
        locks = """
            select count(*) from pg_locks
            where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
        """
        assert await other.fetchval(locks) == 0
    finally:
        await other.close()


async def works(database: Database) -> None:
    """Append, be told of it, lead, and stand among the members; on sessions with our settings."""
    log = PostgresEventLog(database)
    coordination = PostgresCoordination(database)
    hot = database.hot()
    try:
        for _ in range(3):
            ((limit,),) = await hot.fetch("select current_setting('statement_timeout')")
            async with database.begin() as connection:
                asked = await connection.exec_driver_sql("select current_setting('statement_timeout')")
                assert asked.scalar() == limit == "30s"
        with pytest.raises(asyncpg.UndefinedTableError):
            await hot.fetch("select * from nowhere")
        last = await log.last_position()
        waiting = asyncio.create_task(log.wait_for_append(last, 20))
        async with coordination.elect("node", {}) as leading:
            unit, _ = submission()
            await log.append([unit], fence=leading.term)
            await waiting
            assert [event.stream_id for event in await log.read(last, 10)] == [unit.writes[0].stream_id]
            assert leading.held
            assert [member.id for member in await coordination.members("scheduler")] == ["node"]
    finally:
        await hot.close()
        await log.close()
        await database.close()


@pytest.mark.parametrize("wrong", ["another database", "a pooler itself"])
async def test_a_direct_address_that_does_not_fit_is_refused(
    wrong: str, poolers: dict[str, str], database: TestDatabase
):
    url = through(poolers["transaction"], database.url)
    other = url if wrong == "a pooler itself" else database.url.rpartition("/")[0] + "/rota"
    found = Database(url, application="rota-test", direct_url=other)
    try:
        with pytest.raises(WrongSetting, match=r"ROTA_LISTEN_DATABASE_URL leads (to another|through a pooler)"):
            await found.prove_access()
        with pytest.raises(WrongSetting):
            await found.connect_raw()
    finally:
        await found.close()


def test_a_whole_system_works_through_transaction_mode(
    poolers: dict[str, str], database: TestDatabase, redis_url: str, tmp_path: Path
):
    port = usable_port(0)
    env = {
        **os.environ,
        "ROTA_DATABASE_URL": through(poolers["transaction"], database.url),
        "ROTA_LISTEN_DATABASE_URL": database.url,
        "ROTA_REDIS_URL": redis_url,
        "ROTA_PORT": str(port),
        "ROTA_ALLOW_SHELL": "true",
        "ROTA_DRAIN_SECONDS": "5",
    }
    with running((*ROLES, "executor"), env, tmp_path), Client(f"http://127.0.0.1:{port}", timeout=10) as client:
        until_sync(lambda: executors(client) == 2, timeout_seconds=60, what="two executors")
        jobs = [client.submit("shell.run", command=["true"], delay=0.2 * (n % 3)) for n in range(60)]
        states = [job.wait(60).state for job in jobs]
        assert states == ["succeeded"] * 60
        starts = sum(event["type"] == "AttemptStarted" for job in jobs for event in client.events(job.id))
        assert starts == 60
        told = outputs_of(("doctor",), env, tmp_path)["doctor"][0]
        (line,) = [line for line in told.splitlines() if " postgres: " in line]
        # The tests' server need not survive a crash; of the pooler there is nothing to say.
        assert line.startswith("ok") or line.endswith(
            " postgres: fsync or synchronous_commit is off: accepted jobs could be lost"
        )


def executors(client: Client) -> int:
    try:
        return len(client.call("GET", "/v1/executors")["items"])
    except RotaError:
        return 0


@contextmanager
def running(roles: Sequence[str], env: dict[str, str], place: Path) -> Iterator[None]:
    """These roles as processes; they end on SIGTERM with status 0, and have said nothing of an error."""
    with ExitStack() as stack:
        processes = []
        for number, role in enumerate(roles):
            out = stack.enter_context((place / f"{role}-{number}.log").open("wb"))
            processes.append(
                spawn(
                    [sys.executable, "-P", "-m", "rota_server.apps.cli.main", role],
                    log=out,
                    env=env,
                    death_signal=signal.SIGKILL,
                )
            )
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
            statuses = [process.wait(60) for process in processes]
    said = "".join(path.read_text() for path in place.glob("*.log"))
    assert "Traceback" not in said, said[-3000:]
    assert statuses == [0] * len(processes), said[-3000:]
