"""TLS spoken by PostgreSQL itself: Debian's has it, the embedded one has not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import asyncpg
import pytest

from rota_server.adapters.embedded.directory import DataDirectory
from rota_server.adapters.embedded.postgres import SETTINGS, EmbeddedPostgres
from rota_server.adapters.embedded.process import unprivileged_account
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.migrate import migrate
from rota_server.domain.errors import Refused
from tests.debian_packages import program
from tests.servers import APP_PASSWORD
from tests.tls import Certificates

RULES = """
hostssl all rota_app all scram-sha-256 clientcert=verify-full
host all rota all scram-sha-256
"""


@dataclass(frozen=True)
class Server:
    """A server with TLS; `url` by its name, as the application's role."""

    url: str
    postgres: EmbeddedPostgres
    certificates: Certificates


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("tls")
    certificates = Certificates.made(place)
    own = certificates.authority.issue_cert("localhost")
    own.cert_chain_pems[0].write_to_path(place / "server.pem")
    own.private_key_pem.write_to_path(place / "server.key")
    (place / "server.key").chmod(0o600)
    account = unprivileged_account()
    files = {"ssl_cert_file": "server.pem", "ssl_key_file": "server.key", "ssl_ca_file": "root.pem"}
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        binaries = program("postgresql", "usr/lib/postgresql/*/bin/postgres").parent
        directory = stack.enter_context(DataDirectory(place / "data"))
        postgres = EmbeddedPostgres(directory, binaries=binaries)
        postgres._make_reachable()
        home = postgres._data.with_name(f"{postgres._data.name}-tls-{os.getpid()}")
        home.mkdir(mode=0o755)
        patch.setitem(SETTINGS, "ssl", "on")
        for setting, name in files.items():
            (home / name).write_bytes((place / name).read_bytes())
            (home / name).chmod(0o600)
            if account is not None:
                os.chown(home / name, account.pw_uid, account.pw_gid)
            patch.setitem(SETTINGS, setting, str(home / name))
        stack.enter_context(postgres)
        url = asyncio.run(migrate(postgres.url, APP_PASSWORD))
        yield Server(url.replace("127.0.0.1", "localhost"), postgres, certificates)


async def session(url: str) -> tuple[bool, str | None]:
    """Whether the session is one of TLS, and the client that its certificate names."""
    database = Database(url, application="rota-test")
    try:
        async with database.begin() as connection:
            asked = await connection.exec_driver_sql(
                "select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()"
            )
            tls, client = asked.one()
            return bool(tls), client
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("query", "tls"),
    [
        ("", True),
        ("sslmode=prefer", True),
        ("sslmode=disable", False),
        ("sslmode=require", True),
        ("sslmode=verify-ca&sslrootcert={root}", True),
        ("sslmode=verify-full&sslrootcert={root}", True),
    ],
)
async def test_postgresql_is_spoken_to_as_the_address_says(query: str, server: Server, *, tls: bool):
    assert await session(f"{server.url}?{query.format(root=server.certificates.root)}") == (tls, None)


async def test_a_certificate_for_another_name_or_of_a_foreign_authority_is_refused(server: Server):
    known, foreign = server.certificates.root, server.certificates.foreign_root
    by_number = server.url.replace("localhost", "127.0.0.1")
    assert await session(f"{by_number}?sslmode=verify-ca&sslrootcert={known}") == (True, None)
    for url in (
        f"{by_number}?sslmode=verify-full&sslrootcert={known}",
        f"{server.url}?sslmode=verify-full&sslrootcert={foreign}",
        f"{server.url}?sslmode=verify-ca&sslrootcert={foreign}",
    ):
        with pytest.raises(Refused, match="CERTIFICATE_VERIFY_FAILED"):
            await session(url)


async def test_a_client_certificate_is_shown_where_the_server_asks_for_one(server: Server):
    rules = server.postgres._data / "pg_hba.conf"
    before = rules.read_text()
    own = f"sslcert={server.certificates.client}&sslkey={server.certificates.key}"
    strict = f"sslmode=verify-full&sslrootcert={server.certificates.root}"
    try:
        await ruled(server, RULES)
        tls, client = await session(f"{server.url}?{strict}&{own}")
        assert tls
        assert str(client).endswith("CN=rota_app")
        with pytest.raises(Refused, match="requires a valid client certificate"):
            await session(f"{server.url}?{strict}")
        with pytest.raises(Refused, match=r"no pg_hba\.conf entry"):
            await session(f"{server.url}?sslmode=disable")
    finally:
        await ruled(server, before)


async def ruled(server: Server, rules: str) -> None:
    """Have the server keep to these rules of access."""
    (server.postgres._data / "pg_hba.conf").write_text(rules)
    owner = await asyncpg.connect(server.postgres.url)
    try:
        loaded = await owner.fetchval("select pg_conf_load_time()")
        await owner.execute("select pg_reload_conf()")
        while await owner.fetchval("select pg_conf_load_time()") == loaded:
            await asyncio.sleep(0.02)
    finally:
        await owner.close()
