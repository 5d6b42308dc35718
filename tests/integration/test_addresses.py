"""The addresses of PostgreSQL and Redis in the forms that people paste, against real servers, with and without TLS."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.migrate import migrate
from rota_server.adapters.redis.connection import connect, execute, prove_access
from rota_server.domain.errors import Refused, Unavailable, WrongSetting
from tests import role_processes
from tests.conftest import TestDatabase
from tests.servers import APP_PASSWORD
from tests.tls import Certificates, socket_before, tls_before

PLAIN = [
    "postgresql://rota_app:{password}@{host}:{port}/{name}?sslmode=disable",
    "postgresql://rota_app:{password}@{host}:{port}/{name}?sslmode=prefer&connect_timeout=5&application_name=shop",
    "postgres://rota_app:{password}@{host}:{port}/{name}?sslmode=allow&options=-c%20geqo%3Doff",
    "postgresql+asyncpg://rota_app:{password}@{host}:{port}/{name}?ssl=prefer",
    "host={host} port={port} dbname={name} user=rota_app password='{password}' connect_timeout=5",
    "postgresql:///{name}?host={host}&port={port}&user=rota_app&password={password}",
    "postgresql://rota_app:{password}@127.0.0.1:1,{host}:{port}/{name}?target_session_attrs=read-write",
    "postgresql://rota_app:{password}@/{name}?host=127.0.0.1:1&host={host}:{port}&target_session_attrs=primary",
]


def filled(form: str, database: TestDatabase, port: int | None = None) -> str:
    parts = urlsplit(database.url)
    return form.format(
        password=APP_PASSWORD, host=parts.hostname, port=port or parts.port, name=parts.path.removeprefix("/")
    )


async def asked(url: str, question: str) -> object:
    """The answer over the pool, once that of a lasting connection is the same."""
    database = Database(url, application="rota-test")
    hot = database.hot()
    try:
        ((answer,),) = await hot.fetch(question)
        async with database.begin() as connection:
            assert (await connection.exec_driver_sql(question)).scalar() == answer
        return answer
    finally:
        await hot.close()
        await database.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture
async def tls_port(database: TestDatabase, certificates: Certificates) -> AsyncIterator[int]:
    port = urlsplit(database.url).port or 0
    async with tls_before(port, certificates.server_context(), as_postgres=True) as found:
        yield found


@pytest.mark.parametrize("form", PLAIN)
async def test_a_form_of_address_reaches_postgresql(form: str, database: TestDatabase):
    assert await asked(filled(form, database), "select current_user::text") == "rota_app"


async def test_options_and_the_application_name_of_an_address_count(database: TestDatabase):
    form = f"{database.url}?options=-c%20geqo%3Doff%20-c%20statement_timeout%3D7s&application_name=shop"
    shown = "select concat_ws(' ', current_setting('geqo'), current_setting('statement_timeout'), {})"
    assert await asked(form, shown.format("current_setting('application_name')")) == "off 7s shop"
    with pytest.raises(Refused, match="unrecognized configuration parameter") as refused:
        await asked(f"{database.url}?options=-c%20no_such_setting%3D1", "select 1")
    assert APP_PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=require",
        "ssl=require",
        "sslmode=verify-ca&sslrootcert={root}",
        "sslmode=verify-full&sslrootcert={root}",
        "sslmode=prefer",
    ],
)
async def test_tls_reaches_postgresql(query: str, database: TestDatabase, tls_port: int, certificates: Certificates):
    form = "postgresql://rota_app:{password}@localhost:{port}/{name}?" + query.format(root=certificates.root)
    assert await asked(filled(form, database, tls_port), "select current_user::text") == "rota_app"


async def test_a_server_without_tls_or_with_a_foreign_certificate_is_not_talked_to(
    database: TestDatabase, tls_port: int, certificates: Certificates
):
    with pytest.raises(Unavailable, match="rejected SSL upgrade"):
        await asked(f"{database.url}?sslmode=require", "select 1")
    strict = f"?sslmode=verify-full&sslrootcert={certificates.foreign_root}"
    form = "postgresql://rota_app:{password}@localhost:{port}/{name}" + strict
    with pytest.raises(Refused, match="CERTIFICATE_VERIFY_FAILED"):
        await asked(filled(form, database, tls_port), "select 1")
    with pytest.raises(WrongSetting, match="sslrootcert=/nowhere: No such file"):
        Database(f"{database.url}?sslmode=verify-full&sslrootcert=/nowhere")


async def test_a_client_certificate_is_shown_to_postgresql(database: TestDatabase, certificates: Certificates):
    port = urlsplit(database.url).port or 0
    context = certificates.server_context(client_needed=True)
    async with tls_before(port, context, as_postgres=True) as tls:
        form = "postgresql://rota_app:{password}@localhost:{port}/{name}?sslmode=verify-full&sslrootcert="
        form = filled(f"{form}{certificates.root}", database, tls)
        own = f"&sslcert={certificates.client}&sslkey={certificates.key}"
        assert await asked(form + own, "select current_user::text") == "rota_app"
        with pytest.raises(Unavailable):
            await asked(form, "select 1")


async def test_migrations_go_the_same_way(database: TestDatabase, tls_port: int, certificates: Certificates):
    owner = urlsplit(database.owner_url)
    query = f"sslmode=verify-full&sslrootcert={certificates.root}"
    url = await migrate(f"postgresql://{owner.username}:{owner.password}@localhost:{tls_port}{owner.path}?{query}",
                        APP_PASSWORD)  # fmt: skip
    assert await asked(url, "select current_user::text") == "rota_app"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing, as a frozen server's does."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


async def test_a_frozen_first_host_costs_the_first_connection_only(database: TestDatabase, silent_port: int):
    form = "postgresql://rota_app:{password}@127.0.0.1:" + str(silent_port) + ",{host}:{port}/{name}"
    found = Database(filled(form, database))
    try:
        await found.prove_access()
        async with asyncio.timeout(1.4):
            await found.prove_access()
    finally:
        await found.close()


async def test_of_several_hosts_one_that_takes_no_writes_is_not_used(database: TestDatabase):
    form = "postgresql://rota_reader:{password}@{host}:{port},{host}:{port}/{name}"
    owner = await asyncpg.connect(database.owner_url)
    name = f"reader_{os.getpid()}"
    try:
        await owner.execute(f"create role {name} login password '{APP_PASSWORD}'")
        await owner.execute(f"alter role {name} set default_transaction_read_only = on")
        with pytest.raises(Unavailable, match=r"target_session_attrs|read"):
            await asked(filled(form.replace("rota_reader", name), database), "select 1")
    finally:
        await owner.execute(f"drop role if exists {name}")
        await owner.close()


async def pinged(url: str) -> bool:
    client = connect(url)
    try:
        await prove_access(client, url)
        return bool(await execute(client, "PING"))
    finally:
        await client.aclose()


async def test_tls_reaches_redis(redis_url: str, certificates: Certificates):
    parts = urlsplit(redis_url)
    context = certificates.server_context()
    async with tls_before(parts.port or 0, context, as_postgres=False) as port:
        address = f"rediss://:{parts.password}@localhost:{port}{parts.path}"
        assert await pinged(f"{address}?ssl_ca_certs={certificates.root}")
        assert await pinged(f"{address}?ssl_cert_reqs=none&ssl_check_hostname=false")
        with pytest.raises(Refused, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
            await pinged(f"{address}?ssl_ca_certs={certificates.foreign_root}")


async def test_what_redis_refuses_is_said_in_one_line_without_the_password(redis_url: str):
    parts = urlsplit(redis_url)
    for url, said in (
        (f"redis://:not-it@{parts.hostname}:{parts.port}/0", "WRONGPASS|invalid username-password"),
        (f"redis://:{parts.password}@{parts.hostname}:{parts.port}/999999", "DB index is out of range|out of range"),
    ):
        with pytest.raises(Refused, match=said) as refused:
            await pinged(url)
        assert "not-it" not in str(refused.value)
        assert str(parts.password) not in str(refused.value)
        assert "\n" not in str(refused.value)


async def test_a_socket_of_this_machine_reaches_redis(redis_url: str, tmp_path: Path):
    parts = urlsplit(redis_url)
    async with socket_before(parts.port or 0, tmp_path / "redis.sock"):
        assert await pinged(f"unix://:{parts.password}@{tmp_path}/redis.sock?db=1")


# What a role, the doctor and a migration say of a server that does not want them.

ROLES = ("store", "relay", "scheduler", "executor")
DENIED = {
    "a wrong password": ("postgresql://rota_app:not-it@{host}:{port}/{name}", "password authentication failed",
                         (*ROLES, "doctor", "migrate")),
    "an unknown database": ("postgresql://rota_app:{password}@{host}:{port}/nowhere", "does not exist",
                            ("relay", "doctor")),
    "an unknown parameter": ("postgresql://rota_app@{host}:{port}/{name}?pgbouncer=true&password=not-it",
                             "DATABASE_URL: pgbouncer is no parameter", ("store", "doctor", "migrate")),
}  # fmt: skip


@pytest.mark.parametrize("denied", DENIED)
def test_every_role_the_doctor_and_a_migration_say_in_one_line_what_is_wrong(
    denied: str, database: TestDatabase, redis_url: str, tmp_path: Path
):
    form, said, commands = DENIED[denied]
    url = filled(form, database)
    env = {**os.environ, "ROTA_DATABASE_URL": url, "ROTA_REDIS_URL": redis_url, "ROTA_PORT": "0"}
    env["ROTA_OWNER_DATABASE_URL"] = url.replace("rota_app", "rota")
    for command, (output, status) in outputs_of(commands, env, tmp_path).items():
        assert len([line for line in output.splitlines() if said in line]) == 1, (command, output)
        assert "Traceback" not in output, command
        assert "not-it" not in output, command
        if command != "doctor":  # it says all of its settings
            assert len(output.splitlines()) == 1, output
        assert status == (2 if command in ROLES or ("parameter" in said and command != "doctor") else 1), command


def test_every_role_that_needs_redis_says_in_one_line_that_its_password_is_wrong(
    database: TestDatabase, redis_url: str, tmp_path: Path
):
    wrong = redis_url.replace(str(urlsplit(redis_url).password), "not-it")
    env = {**os.environ, "ROTA_DATABASE_URL": database.url, "ROTA_REDIS_URL": wrong}
    for command, (output, status) in outputs_of(("relay", "scheduler", "executor"), env, tmp_path).items():
        assert "invalid username-password" in output, command
        assert (len(output.splitlines()), status) == (1, 2), output
        assert "not-it" not in output, command


def outputs_of(commands: Sequence[str], env: dict[str, str], place: Path) -> dict[str, tuple[str, int]]:
    """What each command says, and its exit status; all run at the same time."""
    running = [role_processes.start([command], env, place, command) for command in commands]
    with role_processes.killed_at_the_end(running):
        ended = role_processes.ends(running, 100)
        return {one.name: (one.said(), ended[one.name][0]) for one in running}
