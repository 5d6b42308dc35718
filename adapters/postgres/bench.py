"""What `rota bench` needs of PostgreSQL itself: a database to spoil, and the rate of a bare COPY."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from rota_server.adapters.postgres.connecting import Connector
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.migrate import migrate, owner_address

ROWS_A_COPY = 500
DATA = (
    (
        '{"spec":{"task":"bench.noop","args":{},"queue":"bench","priority":"normal","run_at":null,"timeout_seconds":3600.0,'
        '"expires_at":null,"tags":{},"retry":{"max_attempts":5,"backoff":"exponential","initial_seconds":1.0,"factor":2.0,'
        '"maximum_seconds":3600.0,"jitter":0.1}},"idempotency_key":null,"request_digest":null}'
    ),
    '{"attempt":1,"executor":"bench","queue":"bench","priority":"normal","timeout_seconds":3600.0}',
    '{"attempt":1,"result":null}',
)
TYPES = ("JobSubmitted", "AttemptStarted", "AttemptSucceeded")
META = '{"actor":"bench","unit":"00000000000000000000000000000000"}'


@asynccontextmanager
async def scratch_database(owner_url: str) -> AsyncIterator[Database]:
    """A migrated database of its own, opened as its owner, dropped afterwards."""
    name = f"rota_bench_{secrets.token_hex(4)}"
    owner = owner_address(owner_url)
    scratch_url = owner.to_database(name).url()
    connection = await Connector(owner, application="rota-bench").connect()
    try:
        await connection.execute(f"create database {name}")
        # The application's role belongs to the server: its password must stay what it is, so it is not touched.
        await migrate(scratch_url, None)
        database = Database(scratch_url, application="rota-bench")
        try:
            yield database
        finally:
            await database.close()
            await connection.execute(f"drop database {name} with (force)")
    finally:
        await connection.close()


async def copy_rate(database: Database, *, seconds: float) -> float:
    """Rows per second of COPY alone into a table shaped and indexed like `events`, 500 rows a transaction."""
    connection = await database.connect_raw()
    try:
        await connection.execute(
            "create table copied (position bigint primary key, stream_id uuid not null, version integer not null,"
            " type text not null, data json not null, meta json not null, recorded_at timestamptz not null);"
            " create index on copied (stream_id, version)"
        )
        began = time.perf_counter()
        position = 0
        while time.perf_counter() - began < seconds:
            now = datetime.now(UTC)
            rows = [(position + n + 1, uuid7(), 1, TYPES[n % 3], DATA[n % 3], META, now) for n in range(ROWS_A_COPY)]
            await connection.copy_records_to_table("copied", records=rows)
            position += ROWS_A_COPY
        took = time.perf_counter() - began
        await connection.execute("drop table copied")
    finally:
        await connection.close()
    return position / took
