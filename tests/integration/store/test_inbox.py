"""Jobs put in by users' own transactions: all or nothing with them, in order, each once, by any driver."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import psycopg
import psycopg2
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import rota
from rota_server.adapters.group_commit import GroupCommit
from rota_server.adapters.postgres import inbox_rules
from rota_server.adapters.postgres.exclusive import INBOX_LOCK, ExclusiveLock, run_while_held
from rota_server.adapters.postgres.inbox import PostgresInbox
from rota_server.adapters.postgres.inbox_bell import SLEEP_LOCK, InboxBell
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.apps.cli.main import main
from rota_server.apps.store.inbox.mover import BATCH, InboxMover
from rota_server.apps.store.jobs.handlers import Jobs
from rota_server.domain.errors import Rejected
from rota_server.domain.ids import Position
from rota_server.domain.jobs.events import JobSubmitted
from tests.conftest import TestDatabase
from tests.integration.store.conftest import Stores
from tests.waiting import until

ROOT = Path(__file__).parents[3]
PASSWORD = "for-tests-only"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Connection = asyncpg.Connection


@pytest.fixture
async def shop(database: TestDatabase) -> AsyncIterator[str]:
    """The URL of a user whose own table is in another schema, and who may enqueue and nothing else."""
    owner = await asyncpg.connect(database.owner_url)
    name = "shop_" + database.owner_url.rpartition("/")[2]
    await owner.execute(
        f"create role {name} login password '{PASSWORD}';"
        f"create schema {name} authorization {name}; grant rota_enqueue to {name}"
    )
    url = re.sub(r"//[^@]*@", f"//{name}:{PASSWORD}@", database.owner_url)
    connection = await asyncpg.connect(url)
    await connection.execute(f"create table {name}.orders (id int primary key)")
    await connection.close()
    yield url
    await owner.execute(f"drop owned by {name}; drop role {name}")
    await owner.close()


@pytest.fixture
async def user(shop: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(shop)
    yield connection
    await connection.close()


Make = Callable[[], InboxMover]


@pytest.fixture
def make_mover(stores: Stores) -> Make:
    """Movers as stores have them, each with appends of its own."""

    def make() -> InboxMover:
        parts = replace(stores.parts, commit=GroupCommit(stores.parts.log))
        inbox = PostgresInbox(stores.database)
        bell = InboxBell(stores.database, inbox)
        stores.stack.push_async_callback(bell.close)
        return InboxMover(Jobs(parts), inbox, bell)

    return make


async def put(connection: Connection, task: str = "noop", args: Any = None, **options: Any) -> UUID:
    values = (task, json.dumps(args or {}), json.dumps(options))
    found = await connection.fetchval("select rota_enqueue($1, $2, $3)", *values)
    return UUID(int=found.int)


async def submitted(stores: Stores) -> list[UUID]:
    events = await stores.parts.log.read(Position(0), 100_000)
    return [recorded.stream_id for recorded in events if isinstance(recorded.event, JobSubmitted)]


async def test_a_rollback_leaves_nothing_and_a_commit_exactly_one_job(
    user: Connection, stores: Stores, make_mover: Make
) -> None:
    mover = make_mover()
    abandoned = user.transaction()
    await abandoned.start()
    await put(user)
    await abandoned.rollback()
    assert await mover.drain() == 0
    async with user.transaction():
        job_id = await put(user, args={"order": 7})
        assert await mover.drain() == 0
    assert await mover.drain() == 1
    assert await mover.drain() == 0
    assert await submitted(stores) == [job_id]
    assert job_id.version == 7


async def test_the_job_reads_as_one_submitted_over_http(
    user: Connection, stores: Stores, make_mover: Make, client: httpx.AsyncClient
) -> None:
    options = {"queue": "mail", "priority": "high", "tags": {"a": "b"}, "delay": 3600, "retry": {"max_attempts": 2}}
    job_id = await put(user, args={"ü": [1, None]}, traceparent=TRACE, correlation_id="order-7", **options)
    await make_mover().drain()
    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert (job["task"], job["args"], job["state"]) == ("noop", {"ü": [1, None]}, "scheduled")
    assert {name: job[name] for name in ("queue", "priority", "tags")} == {
        name: options[name] for name in ("queue", "priority", "tags")
    }
    assert job["retry"]["max_attempts"] == 2
    assert job["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    (event,) = (await client.get(f"/v1/jobs/{job_id}/events")).json()["items"]
    name = await user.fetchval("select session_user")
    assert (event["meta"]["actor"], event["meta"]["correlation_id"]) == (f"sql:{name}", "order-7")


async def test_a_mover_that_dies_between_append_and_delete_leaves_one_job_each(
    user: Connection, stores: Stores, make_mover: Make
) -> None:
    ids = [await put(user, args={"n": n}) for n in range(5)] + [await put(user, unique={"key": "k"})]
    dying = make_mover()

    class Dies(PostgresInbox):
        async def done(self, ids: Any) -> None:
            raise KeyboardInterrupt

    dying._inbox = Dies(stores.database)
    with pytest.raises(KeyboardInterrupt):
        await dying.drain()
    assert await submitted(stores) == ids
    assert (await stores.parts.inbox.state()).waiting == 6
    assert await make_mover().drain() == 6
    assert await submitted(stores) == ids
    state = await stores.parts.inbox.state()
    assert (state.waiting, state.rejected) == (0, 0)


async def test_two_movers_at_once_make_one_job_of_each_row(user: Connection, stores: Stores, make_mover: Make) -> None:
    await user.execute("select rota_enqueue('noop', json_build_object('n', n)) from generate_series(1, 1200) n")
    movers = [make_mover(), make_mover()]
    await asyncio.gather(*(mover.drain() for mover in movers for _ in range(2)))
    found = await submitted(stores)
    assert len(found) == len(set(found)) == 1200
    state = await stores.parts.inbox.state()
    assert (state.waiting, state.rejected) == (0, 0)


async def test_rows_come_into_the_log_in_the_order_in_which_they_were_put_in(
    user: Connection, stores: Stores, make_mover: Make
) -> None:
    rows = await user.fetch("select rota_enqueue('noop') as id from generate_series(1, $1::int)", BATCH + 20)
    await make_mover().drain()
    assert [str(job_id) for job_id in await submitted(stores)] == [str(row["id"]) for row in rows]


async def test_a_long_transaction_holds_up_nobody_and_comes_when_it_ends(
    user: Connection, shop: str, stores: Stores, make_mover: Make, client: httpx.AsyncClient
) -> None:
    slow = await asyncpg.connect(shop)
    long = slow.transaction()
    await long.start()
    first = await put(slow)
    second = await put(user)
    mover = make_mover()
    assert await mover.drain() == 1
    assert (await client.post("/v1/jobs", json={"task": "noop"})).status_code == 201
    await long.commit()
    assert await mover.drain() == 1
    found = await submitted(stores)
    assert (found[0], found[2]) == (second, first)
    await slow.close()


async def test_a_refused_row_is_put_aside_with_its_problem_and_can_be_put_in_again(
    user: Connection, stores: Stores, make_mover: Make, client: httpx.AsyncClient
) -> None:
    unknown = await put(user, "not.announced", args={"a": 1}, queue="q")
    wrong = await put(user, delay=-1)
    good = await put(user)
    mover = make_mover()
    assert await mover.drain() == 3
    inbox = (await client.get("/v1/inbox")).json()
    assert (inbox["waiting"], inbox["oldest"], inbox["rejected"]) == (0, None, 2)
    first, second = inbox["items"]
    assert (first["id"], first["problem"]["field"], first["args"]) == (str(unknown), "task", {"a": 1})
    assert (second["id"], second["problem"]["field"], second["options"]) == (str(wrong), "delay", {"delay": -1})
    assert second["problem"]["status"] == 422
    assert await submitted(stores) == [good]
    page = (await client.get("/v1/inbox", params={"limit": 1})).json()
    following = (await client.get("/v1/inbox", params={"limit": 1, "cursor": page["next_cursor"]})).json()
    assert [page["items"], following["items"], following["next_cursor"]] == [[first], [second], None]

    await PostgresTaskCatalog(stores.database).announce({"not.announced": {}})
    assert (await client.post(f"/v1/inbox/{unknown}/retry")).json() == {"id": str(unknown), "state": "waiting"}
    assert (await client.get("/v1/inbox")).json()["waiting"] == 1
    assert (await client.delete(f"/v1/inbox/{wrong}")).json() == {"id": str(wrong), "state": "dropped"}
    assert await mover.drain() == 1
    assert await submitted(stores) == [good, unknown]
    assert (await client.get("/v1/inbox")).json()["rejected"] == 0
    for method, path in (
        ("POST", f"/v1/inbox/{wrong}/retry"),
        ("DELETE", f"/v1/inbox/{good}"),
        ("DELETE", "/v1/inbox/x"),
    ):
        assert (await client.request(method, path)).status_code == 404


async def test_metrics_say_how_full_the_inbox_is(user: Connection, client: httpx.AsyncClient) -> None:
    await put(user)
    await put(user)
    text = (await client.get("/metrics")).text
    assert "rota_inbox_waiting 2.0" in text
    assert "rota_inbox_rejected 0.0" in text
    assert re.search(r"^rota_inbox_lag_seconds [0-9.e-]+$", text, re.MULTILINE)


async def test_unique_rows_follow_their_rule(user: Connection, stores: Stores, make_mover: Make) -> None:
    rules = [{"key": "k", "on_conflict": policy} for policy in ("return", "return", "reject")]
    first, _second, third = [await put(user, unique=rule) for rule in rules]
    await make_mover().drain()
    assert await submitted(stores) == [first]
    (rejected,) = await stores.parts.inbox.rejected(0, 10)
    assert rejected.item.id == third
    assert json.loads(rejected.problem)["job"] == str(first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "{}", "{}"), "task: must have"),
        (("x" * 201, "{}", "{}"), "task: must have"),
        (("noop", "[]", "{}"), "args: must be a JSON object"),
        (("noop", "{}", "null"), "options: must be a JSON object"),
        (("noop", json.dumps({"a": "x" * 262_144}), "{}"), "args: 262153 bytes"),
        (("noop", "{}", json.dumps({"a": "x" * 65_536})), "options: 65545 bytes"),
        (("noop", "{}", '{"idempotency_key": "k"}'), "options: must not have"),
        (("noop", "{}", '{"task": "other"}'), "options: must not have"),
    ],
)
async def test_what_is_wrong_at_once_is_refused_at_once(
    user: Connection, stores: Stores, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=message):
        await user.fetchval("select rota_enqueue($1, $2, $3)", *arguments)
    assert (await stores.parts.inbox.state()).waiting == 0


async def test_args_at_the_limit_are_taken(user: Connection, stores: Stores, make_mover: Make) -> None:
    text = json.dumps({"a": "x" * (262_144 - 9)})
    assert len(text) == 262_144
    await user.fetchval("select rota_enqueue('noop', $1)", text)
    await make_mover().drain()
    assert len(await submitted(stores)) == 1


@pytest.mark.parametrize(
    "args",
    ['{"a": "\\u0000"}', '{"a": 1e999}', '{"a": 123456789012345678901234567890}', '{"a": ' + "[" * 90 + "]" * 90 + "}"],
)
async def test_what_no_job_can_hold_is_put_aside_and_keeps_nobody_in_the_inbox(
    user: Connection, stores: Stores, make_mover: Make, args: str
) -> None:
    await user.fetchval("select rota_enqueue('noop', $1)", args)
    good = await put(user)
    await make_mover().drain()
    assert await submitted(stores) == [good]
    state = await stores.parts.inbox.state()
    assert (state.waiting, state.rejected) == (0, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "select * from public.inbox",
        "insert into public.inbox overriding system value select gen_random_uuid(), 1, 'noop', '{}', '{}', 'x', now()",
        "delete from public.inbox",
        "select * from public.jobs",
        "select public.rota_forget_unique('0 s', 1)",
    ],
)
async def test_who_may_enqueue_may_nothing_else(user: Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await user.execute(statement)


async def test_who_was_not_granted_the_role_may_not_enqueue(user: Connection, database: TestDatabase) -> None:
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(f"revoke rota_enqueue from {await user.fetchval('select session_user')}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await put(user)
    await owner.close()


async def test_the_functions_tables_can_not_be_replaced_by_the_callers(user: Connection, stores: Stores) -> None:
    await user.execute("create temporary table inbox (id uuid, task text)")
    await put(user)
    assert (await stores.parts.inbox.state()).waiting == 1


async def test_functions_of_others_in_the_database_stay_theirs(database: TestDatabase, postgres_server: str) -> None:
    from rota_server.adapters.postgres.migrate import migrate
    from tests.servers import APP_PASSWORD

    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("create function public.theirs() returns int language sql as 'select 1'")
    await migrate(database.owner_url, APP_PASSWORD)
    assert await owner.fetchval("select has_function_privilege('rota_enqueue', 'public.theirs()', 'execute')")
    allowed = "select has_function_privilege('rota_enqueue', oid, 'execute') from pg_proc where proname = $1"
    assert await owner.fetchval(allowed, "rota_enqueue")
    assert not await owner.fetchval(allowed, "rota_append")
    await owner.close()


@pytest.fixture
async def running(stores: Stores, make_mover: Make) -> AsyncIterator[InboxMover]:
    """A mover that runs as in a store."""
    mover = make_mover()
    lock = ExclusiveLock(stores.database, INBOX_LOCK)
    task = asyncio.create_task(run_while_held(lock, mover.run))
    yield mover
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def asleep(stores: Stores) -> bool:
    async with stores.database.begin() as connection:
        held = (
            "select exists (select from pg_locks where locktype = 'advisory' and objid = $1 and mode = 'ExclusiveLock')"
        )
        return bool((await connection.exec_driver_sql(held, (SLEEP_LOCK,))).scalar_one())


async def test_a_sleeping_mover_is_woken_by_the_commit(
    user: Connection, stores: Stores, running: InboxMover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota_server.adapters.postgres.inbox_bell.SLEEP_SECONDS", 1000.0)
    for round_number in range(1, 4):
        await until(lambda: asleep(stores), what="the mover's sleep")
        await put(user)

        async def moved(wanted: int = round_number) -> bool:
            return len(await submitted(stores)) == wanted

        await until(moved, timeout_seconds=30, what="the row's way into the log")


async def test_a_mover_does_not_fall_asleep_over_a_transaction_that_has_seen_it_awake(
    user: Connection, stores: Stores, make_mover: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota_server.adapters.postgres.inbox_bell.SLEEP_SECONDS", 1000.0)
    transaction = user.transaction()
    await transaction.start()
    await put(user)  # nobody sleeps, so nobody is notified
    bell, looks = make_mover()._bell, 0

    class Counting(PostgresInbox):
        async def is_empty(self) -> bool:
            nonlocal looks
            looks += 1
            return await super().is_empty()

    bell._inbox = Counting(stores.database)
    resting = asyncio.create_task(bell.rest())
    await until(lambda: looks >= 3, what="looks of a mover that may not sleep")
    assert not resting.done()
    assert not await asleep(stores)
    await transaction.commit()
    await asyncio.wait_for(resting, 30)


async def test_five_producers_and_a_mover_coming_and_going_lose_and_repeat_nothing(
    shop: str, stores: Stores, make_mover: Make
) -> None:
    kept: list[UUID] = []

    async def produce(number: int) -> None:
        connection = await asyncpg.connect(shop)
        for n in range(40):
            transaction = connection.transaction()
            await transaction.start()
            ids = [await put(connection, args={"producer": number, "n": n}) for _ in range(3)]
            if n % 4 == 3:
                await transaction.rollback()
            else:
                await transaction.commit()
                kept.extend(ids)
        await connection.close()

    producing = asyncio.gather(*(produce(number) for number in range(5)))
    while not producing.done():
        seen = len(kept)
        mover = asyncio.create_task(make_mover().run())
        await until(lambda seen=seen: producing.done() or len(kept) > seen + 6, what="some work")
        mover.cancel()
        await asyncio.gather(mover, return_exceptions=True)
    await producing
    while await make_mover().drain():
        pass
    found = await submitted(stores)
    assert len(found) == len(set(found)) == 450
    assert set(found) == set(kept)


# -- the SDK and the command line -------------------------------------------------------------------------------------


@rota.task(name="noop", queue="declared")
def noop(n: int = 0) -> None: ...


def with_psycopg(shop: str) -> Iterator[tuple[Any, Callable[[], None], Callable[[], None]]]:
    with psycopg.connect(shop) as connection:
        yield connection, connection.commit, connection.rollback


def with_psycopg_dicts(shop: str) -> Iterator[tuple[Any, Callable[[], None], Callable[[], None]]]:
    with psycopg.connect(shop, row_factory=psycopg.rows.dict_row) as connection:
        yield connection, connection.commit, connection.rollback


def with_psycopg2(shop: str) -> Iterator[tuple[Any, Callable[[], None], Callable[[], None]]]:
    connection = psycopg2.connect(shop)
    yield connection, connection.commit, connection.rollback
    connection.close()


def with_sqlalchemy(shop: str) -> Iterator[tuple[Any, Callable[[], None], Callable[[], None]]]:
    engine = sqlalchemy.create_engine(shop.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    engine.dispose()


def with_session(shop: str) -> Iterator[tuple[Any, Callable[[], None], Callable[[], None]]]:
    engine = sqlalchemy.create_engine(shop.replace("postgresql://", "postgresql+psycopg2://"))
    with Session(engine) as session:
        yield session, session.commit, session.rollback
    engine.dispose()


@pytest.mark.parametrize("connect", [with_psycopg, with_psycopg_dicts, with_psycopg2, with_sqlalchemy, with_session])
async def test_enqueue_goes_with_the_transaction_of_any_plain_connection(
    connect: Callable[[str], Iterator[Any]], shop: str, stores: Stores, make_mover: Make, client: httpx.AsyncClient
) -> None:
    def use() -> str:
        for connection, commit, rollback in connect(shop):
            rota.enqueue(connection, noop, n=1)
            rollback()
            kept = rota.enqueue(connection, noop, n=2, priority="low")
            commit()
        return kept

    kept = await asyncio.to_thread(use)
    await make_mover().drain()
    assert [str(job_id) for job_id in await submitted(stores)] == [kept]
    job = (await client.get(f"/v1/jobs/{kept}")).json()
    assert (job["task"], job["args"], job["queue"], job["priority"]) == ("noop", {"n": 2}, "declared", "low")


async def test_aenqueue_goes_with_the_transaction_of_any_asyncio_connection(
    shop: str, stores: Stores, make_mover: Make
) -> None:
    kept = []
    plain = await asyncpg.connect(shop)
    await plain.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    abandoned = plain.transaction()
    await abandoned.start()
    await rota.aenqueue(plain, "noop")
    await abandoned.rollback()
    kept.append(await rota.aenqueue(plain, "noop", n=1))
    await plain.close()
    async with await psycopg.AsyncConnection.connect(shop) as connection:
        await rota.aenqueue(connection, "noop")
        await connection.rollback()
        kept.append(await rota.aenqueue(connection, "noop", n=2))
    engine = create_async_engine(shop.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as begun:
        kept.append(await rota.aenqueue(begun, "noop", n=3))
    async with AsyncSession(engine) as session:
        await rota.aenqueue(session, "noop")
        await session.rollback()
        kept.append(await rota.aenqueue(session, "noop", n=4))
        await session.commit()
    await engine.dispose()
    await make_mover().drain()
    assert [str(job_id) for job_id in await submitted(stores)] == kept


def test_a_job_of_a_transaction_takes_no_idempotency_key() -> None:
    with pytest.raises(TypeError, match="idempotency_key"):
        rota.enqueue(None, "noop", idempotency_key="k")


async def test_the_command_line_lists_retries_and_drops(
    user: Connection, stores: Stores, make_mover: Make, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    one, two = await put(user, "a.task"), await put(user, "b.task")
    await make_mover().drain()
    server = await stores.serve()
    monkeypatch.setenv("ROTA_URL", server.url)

    async def run(*command: str) -> tuple[Any, str]:
        def call() -> Any:
            with pytest.raises(SystemExit) as ended:
                main(["inbox", *command])
            return ended.value.code

        status = await asyncio.to_thread(call)
        return status, capsys.readouterr().out

    async with rota.AsyncClient(server.url) as there:
        assert [item["id"] for item in (await there.inbox())["items"]] == [str(one), str(two)]
        with pytest.raises(rota.NotFound):
            await there.retry_from_inbox("01a20f98-ec92-7c59-a913-50cb83626093")
        await there.retry_from_inbox(str(two))
        await make_mover().drain()
    status, text = await run("list")
    assert status == 0
    assert text.startswith("0 waiting; 2 refused\n")
    assert f"{one}\ta.task" in text
    assert [item["id"] for item in json.loads((await run("list", "--json"))[1])["items"]] == [str(one), str(two)]
    assert (await run("retry"))[0] == 2
    assert (await run("retry", str(one)))[0] == 0
    assert (await run("drop", "--all"))[1] == f"{two} is dropped\n"
    assert (await run("drop", str(two)))[0] == 1
    assert (await run("list"))[1].startswith("1 waiting, the first one since ")


async def test_the_documented_examples_run(database: TestDatabase, stores: Stores, make_mover: Make) -> None:
    text = (ROOT / "docs/enqueue.md").read_text()
    transaction, grant = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    (program,) = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    role = "docs_" + database.owner_url.rpartition("/")[2]
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(f"create role {role}; create schema shop; create table shop.orders (id int primary key)")
    await owner.execute(grant.replace("your_app", role))
    await owner.execute(transaction)
    names: dict[str, Any] = {"psycopg": psycopg, "rota": rota, "url": database.owner_url}
    await asyncio.to_thread(exec, program, names)
    await PostgresTaskCatalog(stores.database).announce({"order.confirm": {}})
    await make_mover().drain()
    found = await submitted(stores)
    assert str(found[1]) == names["job_id"]
    jobs = await Jobs(stores.parts).get_all(found)
    assert [(job.spec.args, job.state) for job in jobs] == [({"order": 7}, "scheduled"), ({"order": 8}, "scheduled")]
    assert await owner.fetchval("select count(*) from shop.orders") == 2
    await owner.execute(f"drop role {role}")
    await owner.close()


async def test_why_tells_of_a_row_that_waits_and_of_one_that_was_refused(
    user: Connection, make_mover: Make, client: httpx.AsyncClient
) -> None:
    job_id = await put(user, "no.such.task")
    waiting = (await client.get(f"/v1/inbox/{job_id}/why")).json()
    assert (waiting["state"], waiting["reasons"][0]["code"]) == ("waiting", "inbox")
    await make_mover().drain()
    refused = (await client.get(f"/v1/inbox/{job_id}/why")).json()
    assert (refused["state"], refused["reasons"][0]["code"]) == ("refused", "refused")
    assert "no.such.task" in refused["summary"]
    assert (await client.get(f"/v1/inbox/{UUID(int=1)}/why")).status_code == 404


async def test_a_role_puts_in_only_what_it_is_allowed_to(
    user: Connection, database: TestDatabase, stores: Stores, make_mover: Make
) -> None:
    mover, inbox = make_mover(), PostgresInbox(stores.database)
    role = await user.fetchval("select session_user")

    async def outcomes(*wanted: tuple[str, dict[str, Any], str]) -> list[bool]:
        ids = [await put(user, task, args, queue=queue) for task, args, queue in wanted]
        await mover.drain()
        taken = await submitted(stores)
        return [job_id in taken for job_id in ids]

    shell, plain, mail = ("shell.run", {"command": ["id"]}, "default"), ("noop", {}, "default"), ("noop", {}, "mail.a")
    assert await outcomes(shell, plain, mail) == [False, True, True], "without rules all but shell.run"
    (refused,) = await inbox.rejected(0, 10)
    problem = json.loads(refused.problem)
    assert (problem["code"], refused.item.by) == ("not-allowed", role)
    assert "may not put in shell.run for queue default" in problem["detail"]

    await inbox_rules.allow(database.owner_url, role, ["noop"], ["mail.*"])
    assert await outcomes(shell, plain, mail) == [False, False, True], "with rules only what they say"
    await inbox_rules.allow(database.owner_url, role, ["shell.run"], ["*"])
    assert await inbox.retry(refused.item.id)
    await mover.drain()
    assert refused.item.id in await submitted(stores)
    assert await inbox_rules.forget(database.owner_url, role) == 2
    assert await outcomes(plain) == [True]

    for statement in ("insert into inbox_rules values (current_user, '*')", "delete from inbox_rules"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await user.execute(statement)
    with pytest.raises(Rejected, match="has no role nobody-there"):
        await inbox_rules.allow(database.owner_url, "nobody-there", ["noop"], ["*"])
