"""Brings a database to the schema that this version needs, and makes the application's role.

Run as the owner. Never run by a role's process on its own: `rota migrate` and `rota up` do it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from rota_server.adapters.postgres.address import PostgresAddress
from rota_server.adapters.postgres.connecting import Connector
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.errors import state_of, translated
from rota_server.adapters.postgres.pooling import pooling_of, refuse
from rota_server.adapters.postgres.roles import APP_ROLE, make_roles
from rota_server.adapters.postgres.sessions import MIGRATION
from rota_server.domain.errors import Unavailable

log = logging.getLogger("rota.migrate")

MIGRATION_LOCK = 7010200
LOCK_NOT_AVAILABLE = "55P03"
LOCK_PATIENCE_SECONDS = 60.0
"""How long a migration comes again while somebody holds a lock that it needs: a backup, a long report."""

LOCK_PAUSE_SECONDS = 0.5


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("rota_server.adapters.postgres.migrations")))
    return config


def expected_revision() -> str:
    """The newest revision that this version of Rota brings."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def older_than(revision: str | None, needed: str) -> bool:
    """Whether a schema at this revision lacks something. A newer one does not: migrations take nothing away."""
    if revision is None:
        return True
    if revision.isdecimal() and needed.isdecimal():
        return int(revision) < int(needed)
    return revision != needed


async def current_revision(database: Database) -> str | None:
    """The revision that the database is at, None when Rota has never been set up there."""
    async with database.begin() as connection:
        if (await connection.execute(text("select to_regclass('alembic_version')"))).scalar() is None:
            return None
        return (await connection.execute(text("select version_num from alembic_version"))).scalar()


async def migrate(owner_url: str, app_password: str | None, role_passwords: Mapping[str, str] | None = None) -> str:
    """Apply all migrations and give the roles of services their passwords and rights. Safe to repeat.

    `role_passwords` are by kind of process. Without any password the roles are left alone. Returns the URL of the role
    that may do what any process does.
    Raises Unavailable when the server cannot be reached, WrongSetting when the address cannot be honoured.
    """
    address = owner_address(owner_url)
    engine = _engine(address)
    try:
        with translated():
            # A lock that such a pooler keeps would stop every later migration.
            bare = Connector(address, application="rota-migrate").connect_bare
            refuse(await pooling_of(bare), "ROTA_OWNER_DATABASE_URL", direct=True)
            async with engine.connect() as guard:
                # Migrating twice at once (two stores that start together) must be harmless.
                await guard.execute(text(f"select pg_advisory_lock({MIGRATION_LOCK})"))
                await _patiently(lambda: _upgrade_all(address))
                if app_password is not None or role_passwords is not None:
                    await _patiently(lambda: _make_roles(address, app_password, role_passwords or {}))
    finally:
        await engine.dispose()
    return address.as_user(APP_ROLE, app_password).url()


async def _patiently(step: Callable[[], Awaitable[None]]) -> None:
    """Take a step that can be repeated; while a lock is not to be had, let go of everything and come again."""
    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            with translated():
                return await step()
        except Unavailable as error:
            if state_of(error) != LOCK_NOT_AVAILABLE:
                raise
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"a table's lock was not to be had for {LOCK_PATIENCE_SECONDS:.0f} s; nothing of this step is "
                    "changed. Another session reads for long (a backup?): migrate again once it has ended",
                    server="postgres",
                ) from error
            log.warning("the migration waits for a lock, and lets others go first")
            await asyncio.sleep(LOCK_PAUSE_SECONDS)


async def _upgrade_all(address: PostgresAddress) -> None:
    engine = _engine(address, MIGRATION)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def owner_address(text: str) -> PostgresAddress:
    """The address of the role that may migrate."""
    return PostgresAddress.parse(text, setting="ROTA_OWNER_DATABASE_URL")


def _engine(address: PostgresAddress, session: Mapping[str, str] | None = None) -> AsyncEngine:
    # A migration may take its time: no deadline for a statement.
    connector = Connector(address, application="rota-migrate", session=session, command_seconds=None)
    return create_async_engine("postgresql+asyncpg://", async_creator=connector.connect, poolclass=NullPool)


async def forget_term(owner_url: str) -> None:
    """Put no term in force, so that ZooKeeper's transactions may count from the beginning. As the owner only."""
    engine = _engine(owner_address(owner_url))
    try:
        with translated():
            async with engine.begin() as connection:
                await connection.execute(text("delete from leadership"))
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()


async def _make_roles(address: PostgresAddress, app_password: str | None, passwords: Mapping[str, str]) -> None:
    connection = await Connector(address, application="rota-migrate", session=MIGRATION).connect()
    try:
        await make_roles(connection, app_password, passwords)
    finally:
        await connection.close()
