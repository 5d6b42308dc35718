"""Migrating beside services and readers that go on, and what `rota migrate` does for the roles."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from rota_server.adapters.postgres import migrate as migrating
from rota_server.adapters.postgres.roles import KINDS, role_of
from rota_server.domain.errors import Unavailable
from tests.conftest import TestDatabase
from tests.waiting import until

WAITING = """
select count(*) from pg_locks l join pg_class c on c.oid = l.relation
where c.relname = 'members' and not l.granted
  and l.database = (select oid from pg_database where datname = current_database())
"""


async def test_a_migration_behind_a_long_reader_lets_others_go_first(database: TestDatabase) -> None:
    owner, reader, service = [
        await asyncpg.connect(url) for url in (database.owner_url, database.owner_url, database.url)
    ]
    try:
        await owner.execute("alter table members disable row level security")  # as before the roles
        await reader.execute("begin; select * from members")
        migration = asyncio.create_task(migrating.migrate(database.owner_url, None, {}))

        async def waits() -> bool:
            return bool(await owner.fetchval(WAITING))

        await until(waits, what="the migration to want the table")
        async with asyncio.timeout(8):
            await service.execute("insert into members (role, id, info) values ('store', 's', '{}')")
        assert not migration.done()
        await reader.execute("rollback")
        await migration
        assert await owner.fetchval("select relrowsecurity from pg_class where oid = 'members'::regclass")
    finally:
        for connection in (owner, reader, service):
            await connection.close()


async def test_a_migration_gives_up_with_a_sentence(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "LOCK_PATIENCE_SECONDS", 0.0)
    owner, reader = [await asyncpg.connect(database.owner_url) for _ in range(2)]
    try:
        await owner.execute("alter table members disable row level security")
        await reader.execute("begin; select * from members")
        with pytest.raises(Unavailable, match="migrate again once it has ended"):
            await migrating.migrate(database.owner_url, None, {})
    finally:
        await owner.close()
        await reader.close()


async def test_migrate_makes_an_address_for_each_kind_and_keeps_it(database: TestDatabase, tmp_path: Path) -> None:
    folder = tmp_path / "roles"
    for kind in KINDS:  # the roles belong to the server, which other tests use as well: keep their password
        file = folder / kind / "database_url"
        file.parent.mkdir(parents=True)
        file.write_text(database.url_of(kind) + "\n")
    (folder / "relay" / "database_url").write_text(database.url_of("store"))
    wrong = rota_migrate(database, folder)
    assert wrong.returncode == 2
    assert "not an address of the role rota_relay" in wrong.stderr
    (folder / "relay" / "database_url").write_text(database.url_of("relay"))
    done = rota_migrate(database, folder)
    assert done.returncode == 0, done.stderr
    assert f"executor: {folder / 'executor' / 'database_url'}" in done.stdout.replace("\n", "")
    for kind in KINDS:
        connection = await asyncpg.connect((folder / kind / "database_url").read_text().strip())
        assert await connection.fetchval("select current_user::text") == role_of(kind)
        await connection.close()


def test_addresses_that_are_made_are_for_their_owner_alone(tmp_path: Path) -> None:
    from rota_server.adapters.postgres.address import PostgresAddress
    from rota_server.apps.cli.servers import keep_addresses

    address = PostgresAddress.parse("postgresql://owner:secret@db1,db2:5433/rota?sslmode=require")
    passwords = keep_addresses(tmp_path, address)
    assert set(passwords) == set(KINDS)
    assert len(set(passwords.values())) == len(KINDS)
    file = tmp_path / "executor" / "database_url"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    text = file.read_text()
    assert f"rota_executor:{passwords['executor']}@" in text
    assert "sslmode=require" in text
    assert "secret" not in text
    assert keep_addresses(tmp_path, address) == passwords, "what is there stays"


def rota_migrate(database: TestDatabase, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ROTA_")}
    env["ROTA_OWNER_DATABASE_URL"] = database.owner_url
    return subprocess.run(
        [sys.executable, "-m", "rota_server.apps.cli.main", "migrate", "--roles", str(folder)],
        env=env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
