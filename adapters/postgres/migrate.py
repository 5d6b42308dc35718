"""Brings a database to the schema that this version needs, and makes the application's role.

Run as the owner. Never run by a role's process on its own: `rota migrate` and `rota up` do it.
"""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from adapters.postgres.address import PostgresAddress
from adapters.postgres.connecting import Connector
from adapters.postgres.connection import Database
from adapters.postgres.errors import translated
from adapters.postgres.pooling import pooling_of, refuse

APP_ROLE = "rota_app"
ENQUEUE_ROLE = "rota_enqueue"
"""May put jobs into the inbox and nothing else; to be granted to the roles of users' applications."""

MIGRATION_LOCK = 7010200

_GRANTS = f"""
grant usage on schema public to {APP_ROLE};
grant select on all tables in schema public to {APP_ROLE};
alter default privileges in schema public grant select on tables to {APP_ROLE};
grant insert, update, delete
    on checkpoints, running_attempts, queue_counts, members, job_logs, task_catalog, admissions, limit_states,
       queue_flow
    to {APP_ROLE};
grant insert, update, delete on webhook_secrets, delivery_cursors, deliveries to {APP_ROLE};
grant delete on dependencies to {APP_ROLE};
grant insert, delete on inbox, inbox_rejected to {APP_ROLE};
do $$
declare
    own regprocedure;
begin
    -- Only Rota's: whoever shares the database has functions of their own here.
    for own in select oid from pg_proc where pronamespace = 'public'::regnamespace and proname ~ '^rota_' loop
        execute format('revoke execute on function %s from public', own);
        execute format('grant execute on function %s to {APP_ROLE}', own);
    end loop;
end $$;
grant usage on schema public to {ENQUEUE_ROLE};
grant execute on function rota_enqueue(text, json, json) to {ENQUEUE_ROLE};
"""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("adapters.postgres.migrations")))
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


async def migrate(owner_url: str, app_password: str | None) -> str:
    """Apply all migrations and give the application's role its password and grants. Safe to repeat.

    Without a password the role is left alone. Returns the URL that services use.
    Raises Unavailable when the server can not be reached, WrongSetting when the address can not be honoured.
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
                async with engine.connect() as connection:
                    await connection.run_sync(_upgrade)
                if app_password is not None:
                    await _make_role(address, app_password)
    finally:
        await engine.dispose()
    return address.as_user(APP_ROLE, app_password).url()


def owner_address(text: str) -> PostgresAddress:
    """The address of the role that may migrate."""
    return PostgresAddress.parse(text, setting="ROTA_OWNER_DATABASE_URL")


def _engine(address: PostgresAddress) -> AsyncEngine:
    # A migration may take its time: no deadline for a statement.
    connector = Connector(address, application="rota-migrate", command_seconds=None)
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


async def _make_role(address: PostgresAddress, app_password: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_\-]{8,200}", app_password):
        raise ValueError("the application role's password must be 8 to 200 letters, digits, - and _")
    connection = await Connector(address, application="rota-migrate").connect()
    try:
        await _ensure_role(connection, APP_ROLE, f"login password '{app_password}'")
        await _ensure_role(connection, ENQUEUE_ROLE, "nologin")
        await connection.execute(_GRANTS)
    finally:
        await connection.close()


async def _ensure_role(connection: asyncpg.Connection[Any], role: str, options: str) -> None:
    # Roles belong to the server, not to the database: others may be making this one at the same moment.
    for attempt in range(20):
        try:
            exists = await connection.fetchval("select 1 from pg_roles where rolname = $1", role)
            await connection.execute(f"{'alter' if exists else 'create'} role {role} {options}")
        except (asyncpg.InternalServerError, asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            await asyncio.sleep(0.05 * (attempt + 1))
        else:
            return
