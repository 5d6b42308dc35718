"""Each kind of process has a role in the database that may do what the process does, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from rota_server.adapters.postgres.append import APPEND, AppendArrays
from rota_server.adapters.postgres.blocks import blocks
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.exclusive import LEADER_LOCK
from rota_server.adapters.postgres.roles import FUNCTIONS, KINDS, TABLES, role_of
from rota_server.domain.ids import Term, Version
from rota_server.domain.jobs.decisions import write_for
from rota_server.domain.jobs.events import (
    AttemptStarted,
    AttemptSucceeded,
    EventPublished,
    JobDispatched,
    JobSubmitted,
    LeaderElected,
)
from rota_server.domain.jobs.job import evolve
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Meta, StreamWrite, Unit
from tests.conftest import TestDatabase

NOW = datetime(2030, 1, 1, tzinfo=UTC)
META = Meta(actor="test")
ENTER = "select rota_enter_term(1000, 'me')"

REFUSED = {
    "relay": [
        ENTER,
        "select * from webhook_secrets",
        "select * from inbox",
        "select * from inbox_rules",
        "select * from job_logs",
        "select * from resources",
        "delete from running_attempts",
        "update checkpoints set position = 0",
        "insert into task_catalog values ('x', '{}')",
        "select rota_forget_unique('1 s', 1)",
        "select rota_enqueue('x')",
        "delete from events",
        "insert into members (role, id, info) values ('scheduler', 'me', '{}')",
    ],
    "executor": [
        ENTER,
        "select * from webhook_secrets",
        "insert into webhook_secrets values (gen_random_uuid(), 'x')",
        "select * from inbox",
        "select * from inbox_rejected",
        "select * from inbox_rules",
        "insert into inbox_rules values ('me', '*')",
        "select * from job_logs",
        "delete from running_attempts",
        "update checkpoints set position = 0",
        "select * from deliveries",
        "update jobs set state = 'queued'",
        "insert into events select * from events",
        "truncate events",
        "select rota_ensure_partitions(1, 100)",
        "select rota_forget_dependencies('{}')",
        "select rota_enqueue('shell.run')",
        "begin; lock table append_lock in exclusive mode",
        "create table public.mine ()",
        "create function public.rota_mine() returns int language sql as 'select 1'",
        "set role rota_app",
        "set role rota_scheduler",
        "alter function rota_enter_term(bigint, text) set search_path = evil",
        "alter table members disable row level security",
        "insert into members (role, id, info) values ('scheduler', 'me', '{}')",
    ],
    "store": [
        ENTER,
        "update webhook_secrets set secret = 'x'",
        "insert into inbox_rules values ('me', '*')",
        "insert into job_logs (job_id, attempt, part, stream, content) values (gen_random_uuid(), 1, 1, 'stdout', 'x')",
        "delete from running_attempts",
        "update checkpoints set position = 0",
        "insert into task_catalog values ('x', '{}')",
        "delete from deliveries",
        "insert into members (role, id, info) values ('executor', 'me', '{}')",
    ],
    "scheduler": [
        "select * from inbox",
        "select * from inbox_rules",
        "select * from job_logs",
        "insert into webhook_secrets values (gen_random_uuid(), 'x')",
        "insert into task_catalog values ('x', '{}')",
        "update jobs set state = 'queued'",
        "delete from events",
        "select rota_forget_unique('1 s', 1)",
        "insert into members (role, id, info) values ('executor', 'me', '{}')",
    ],
}
"""Statements that the role must not be able to run."""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_role_is_refused_what_its_processes_never_do(database: TestDatabase, kind: str) -> None:
    taken = []
    async with connected(database.url_of(kind)) as connection:
        for statement in REFUSED[kind]:
            try:
                await connection.execute(statement)
            except asyncpg.InsufficientPrivilegeError:
                await connection.execute("rollback")
                continue
            taken.append(statement)
        assert taken == []
        for function in ("rota_append", *(f"rota_append_as_{writer}" for writer in ("store", "leader", "executor"))):
            if kind not in FUNCTIONS[function]:
                statement = APPEND.replace(" rota_append(", f" {function}(")
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                    await connection.fetch(statement, 1, *AppendArrays([]).arguments)


async def test_every_table_and_function_of_ours_is_in_the_list_of_rights(database: TestDatabase) -> None:
    async with connected(database.owner_url) as owner:
        tables = await owner.fetch(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') "
            "and relname !~ '^events_p'"
        )
        functions = await owner.fetch(
            "select proname from pg_proc where pronamespace = 'public'::regnamespace and proname like 'rota%'"
        )
    assert {row[0] for row in tables} == set(TABLES)
    assert {row[0] for row in functions} == set(FUNCTIONS)


async def test_a_role_has_no_rights_but_those_of_the_list(database: TestDatabase) -> None:
    rights = ("select", "insert", "update", "delete", "truncate", "references", "trigger")
    async with connected(database.owner_url) as owner:
        for table, kinds in TABLES.items():
            for kind in KINDS:
                question = "select right_ from unnest($3::text[]) right_ where has_table_privilege($1, $2, right_)"
                rows = await owner.fetch(question, role_of(kind), table, rights)
                assert {row[0] for row in rows} == set(kinds.get(kind, ())), (table, kind)


async def test_what_an_owner_of_a_role_sets_for_it_does_not_change_what_functions_see(database: TestDatabase) -> None:
    name = database.url.rpartition("/")[2]
    async with connected(database.owner_url) as owner:
        await owner.execute("create schema evil; grant all on schema evil to rota_scheduler")
    async with connected(database.url_of("scheduler")) as scheduler:
        await scheduler.execute("create table evil.leadership (only_row boolean, term bigint, node text)")
        await scheduler.execute(f"alter role rota_scheduler in database {name} set search_path = evil, public")
    try:
        async with connected(database.url_of("scheduler")) as scheduler:
            assert await scheduler.fetchval("show search_path") == "evil, public"
            assert await scheduler.fetchval("select public.rota_enter_term(7, 'me')")
            assert await scheduler.fetchval("select count(*) from evil.leadership") == 0
            assert await scheduler.fetchval("select term from public.leadership") == 7
    finally:
        async with connected(database.owner_url) as owner:
            await owner.execute(f"alter role rota_scheduler in database {name} reset search_path")


async def test_a_process_stands_among_its_own_kind_only(database: TestDatabase) -> None:
    put = "insert into members (role, id, info) values ('executor', 'e1', '{}')"
    async with connected(database.url_of("executor")) as executor, connected(database.url_of("store")) as store:
        await executor.execute(put)
        assert await store.fetchval("select count(*) from members") == 1, "everybody sees everybody"
        assert await store.execute("delete from members") == "DELETE 0"
        assert await store.execute("update members set beat_at = now()") == "UPDATE 0"
        assert await executor.execute("delete from members") == "DELETE 1"
    async with connected(database.url) as app:
        await app.execute(put)
        assert await app.execute("delete from members") == "DELETE 1", "the application's role may what it might"


async def test_a_login_of_ones_own_gets_the_rights_of_a_kind_by_a_grant(database: TestDatabase) -> None:
    login = f"executor_of_{database.url.rpartition('/')[2]}"
    async with connected(database.owner_url) as owner:
        await owner.execute(f"create role {login} login password 'its-password'; grant rota_executor to {login}")
        try:
            place = database.url.rpartition("@")[2]
            async with connected(f"postgresql://{login}:its-password@{place}") as executor:
                await executor.execute("insert into members (role, id, info) values ('executor', 'mine', '{}')")
                for refused_ in ("insert into members (role, id, info) values ('store', 'mine', '{}')", ENTER):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await executor.execute(refused_)
        finally:
            await owner.execute(f"drop role {login}")


async def test_who_holds_the_lock_of_another_kind_is_named(database: TestDatabase) -> None:
    store = Database(database.url_of("store"), application="rota-store")
    executor = await asyncpg.connect(database.url_of("executor"), server_settings={"application_name": "rota-executor"})
    try:
        await executor.execute(f"select pg_advisory_lock({LEADER_LOCK})")
        (block,) = await blocks(store)
        assert (block.what, block.user) == ("leadership", "rota_executor")
    finally:
        await executor.close()
        await store.close()


def job_unit(*events: Any) -> Unit:
    write, _ = write_for(None, uuid4(), events, META, NOW)
    return Unit(id=uuid4(), writes=[write], meta=META)


def stream_unit(event: Any) -> Unit:
    write = StreamWrite(stream_id=uuid4(), expected_version=Version(0), events=[event], head=None)
    return Unit(id=uuid4(), writes=[write], meta=META)


SUBMITTED = JobSubmitted(spec=JobSpec(task="t"))
PUBLISHED = EventPublished(id="1", source="s", type="t")
STARTED = AttemptStarted(attempt=1, executor="e", timeout_seconds=1.0, queue="default", priority="normal")
ELECTED = LeaderElected(term=1, node="me")


async def test_a_store_neither_leads_nor_says_how_attempts_went(database: TestDatabase) -> None:
    async with appender(database, "store") as append:
        await append([job_unit(SUBMITTED), stream_unit(PUBLISHED)])
        for unit in (job_unit(SUBMITTED, STARTED), stream_unit(ELECTED)):
            await refused(append, unit)
        await refused(append, job_unit(SUBMITTED), fence=Term(5))


async def test_a_leader_writes_under_its_term_alone(database: TestDatabase) -> None:
    async with connected(database.url_of("scheduler")) as scheduler:
        await scheduler.fetchval("select rota_enter_term(3, 'me')")
    async with appender(database, "leader") as append:
        await append([stream_unit(ELECTED)], fence=Term(3))
        await refused(append, stream_unit(ELECTED))
        await refused(append, job_unit(SUBMITTED, STARTED), fence=Term(3))


async def test_an_executor_says_how_attempts_went_and_publishes_and_nothing_else(database: TestDatabase) -> None:
    submitted = job_unit(SUBMITTED)
    async with appender(database, "store") as append:
        await append([submitted])
    stream = submitted.writes[0].stream_id
    async with appender(database, "executor") as append:
        await append([stream_unit(PUBLISHED)])
        for unit in (job_unit(SUBMITTED), stream_unit(ELECTED), stream_unit(STARTED), job_unit(SUBMITTED, STARTED)):
            await refused(append, unit)
        log = PostgresEventLog(database_of := Database(database.url_of("executor")), writer="executor")
        try:
            (recorded,) = await log.read_stream(stream)
            job = evolve(None, recorded)
            started, after = write_for(job, stream, [STARTED], META, NOW)
            await append([Unit(id=uuid4(), writes=[started], meta=META)])
            dispatched, _ = write_for(
                after, stream, [JobDispatched(queue="default", priority="normal", reason="manual")], META, NOW
            )
            await refused(append, Unit(id=uuid4(), writes=[dispatched], meta=META))
            published, _ = write_for(after, stream, [AttemptSucceeded(attempt=1, result=1)], META, NOW)
            await refused(append, Unit(id=uuid4(), writes=[published], meta=META), fence=Term(2**62))
            await append([Unit(id=uuid4(), writes=[published], meta=META)])
        finally:
            await log.close()
            await database_of.close()


@asynccontextmanager
async def appender(database: TestDatabase, writer: str) -> AsyncIterator[Any]:
    kind = "scheduler" if writer == "leader" else writer
    found = Database(database.url_of(kind), application="test")
    log = PostgresEventLog(found, writer=writer)
    try:
        yield log.append
    finally:
        await log.close()
        await found.close()


async def refused(append: Any, unit: Unit, *, fence: Term | None = None) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append refused"):
        await append([unit], fence=fence)
