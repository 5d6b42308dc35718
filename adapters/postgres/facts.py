"""What `rota doctor` and `rota bench` want to know of a PostgreSQL server."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from adapters.postgres.connection import Database
from adapters.postgres.migrate import current_revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The server as it is. `clock` in seconds since the epoch."""

    version: str
    major: int
    revision: str | None
    clock: float
    fsync: str
    synchronous_commit: str
    last_position: int


async def database_facts(database: Database) -> Facts:
    """Ask. Raises Unavailable."""
    revision = await current_revision(database)
    async with database.begin() as connection:
        version = (await connection.execute(text("show server_version"))).scalar_one()
        fsync = (await connection.execute(text("show fsync"))).scalar_one()
        commit = (await connection.execute(text("show synchronous_commit"))).scalar_one()
        last = 0
        if revision is not None:
            last = (await connection.execute(text("select coalesce(max(position), 0) from events"))).scalar_one()
        clock = (await connection.execute(text("select extract(epoch from clock_timestamp())"))).scalar_one()
    return Facts(
        version=version,
        major=int(version.split(".")[0].split(" ")[0]),
        revision=revision,
        clock=float(clock),
        fsync=fsync,
        synchronous_commit=commit,
        last_position=int(last),
    )
