"""What `rota doctor` and `rota bench` want to know of a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.migrate import current_revision

RECENT_EVENTS = 100_000
"""So many of the last events are looked at for what this version cannot read."""

_RECENT = text(
    """select type, max(case when meta::text like '%"schema":%' then (meta->>'schema')::int else 1 end)
    from events where position > :after group by type"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The server as it is. `clock` in seconds since the epoch.

    `event_schemas`: the types of the last events, each with the greatest schema in which it is stored.
    """

    version: str
    major: int
    revision: str | None
    clock: float
    fsync: str
    synchronous_commit: str
    last_position: int
    event_schemas: Mapping[str, int]


async def database_facts(database: Database) -> Facts:
    """Ask. Raises Unavailable."""
    revision = await current_revision(database)
    async with database.begin() as connection:
        version = (await connection.execute(text("show server_version"))).scalar_one()
        fsync = (await connection.execute(text("show fsync"))).scalar_one()
        commit = (await connection.execute(text("show synchronous_commit"))).scalar_one()
        last = 0
        schemas: dict[str, int] = {}
        if revision is not None:
            last = (await connection.execute(text("select coalesce(max(position), 0) from events"))).scalar_one()
            if last:
                recent = (await connection.execute(_RECENT, {"after": last - RECENT_EVENTS})).all()
                schemas = {row[0]: row[1] for row in recent}
        clock = (await connection.execute(text("select extract(epoch from clock_timestamp())"))).scalar_one()
    return Facts(
        version=version,
        major=int(version.split(".")[0].split(" ")[0]),
        revision=revision,
        clock=float(clock),
        fsync=fsync,
        synchronous_commit=commit,
        last_position=int(last),
        event_schemas=schemas,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """For how many connections the server has room, and who has some now."""

    most: int
    """Without those that are reserved for superusers."""

    ours: int
    others: int


_ROOM = text(
    """select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0) as most,
    count(*) filter (where application_name like 'rota-%') as ours,
    count(*) filter (where application_name not like 'rota-%') as others
    from pg_stat_activity where datid is not null and usesysid is not null and pid <> pg_backend_pid()"""
)


async def connection_room(database: Database) -> Room:
    """Ask. Raises Unavailable."""
    async with database.begin() as connection:
        row = (await connection.execute(_ROOM)).mappings().one()
    return Room(**row)
