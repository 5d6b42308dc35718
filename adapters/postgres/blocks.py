"""Finds who keeps Rota from working: a session whose locks our sessions wait for, or that holds a lock of Rota's roles.

Anybody who may connect to the database may take any advisory lock, so this cannot be prevented; it can be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.exclusive import INBOX_LOCK, LEADER_LOCK, RELAY_LOCK

WAITED_SECONDS = 3.0
"""Appends wait for each other all the time, a few milliseconds each."""

_LOCKS = {LEADER_LOCK: "leadership", RELAY_LOCK: "publishing", INBOX_LOCK: "the inbox"}

_HOLDERS = {LEADER_LOCK: "rota_scheduler", RELAY_LOCK: "rota_relay", INBOX_LOCK: "rota_store"}
"""Beside the application's role, the one whose processes hold each lock."""

_WAITED_FOR = f"""
with recursive waiting as (
    select l.pid, min(l.waitstart) as since
    from pg_locks l join pg_stat_activity a using (pid)
    where not l.granted and a.datname = current_database()
      and (a.usename = current_user or a.application_name like 'rota-%')
      and l.waitstart < clock_timestamp() - interval '{WAITED_SECONDS} s'
    group by l.pid
), chain (pid, since, depth) as (
    select unnest(pg_blocking_pids(pid)), since, 1 from waiting
    union
    select unnest(pg_blocking_pids(pid)), since, depth + 1 from chain where depth < 8
)
select 'writing' as what, a.pid, a.usename::text as usename, a.application_name, min(chain.since) as since
from chain join pg_stat_activity a using (pid)
where cardinality(pg_blocking_pids(a.pid)) = 0
group by a.pid, a.usename, a.application_name order by min(chain.since) limit 1
"""

_CASES = " ".join(f"when {key} then '{role}'" for key, role in _HOLDERS.items())

# A session of ours says so in its name and has the rights of the role that holds this lock; superusers have those of
# every role.
_HELD = f"""
select l.objid::bigint as key, a.pid, a.usename::text as usename, a.application_name, a.backend_start as since
from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.classid = 0
  and l.database = (select oid from pg_database where datname = current_database())
  and l.objid::bigint in ({", ".join(str(key) for key in _LOCKS)}) and a.usename <> current_user
  and not exists (
      select from pg_roles r where r.rolname in ('rota_app', case l.objid::bigint {_CASES} end)
      and pg_has_role(a.usesysid, r.oid, 'member') and a.application_name not in ('', 'psql')
  )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A session that is in Rota's way. `what`: `writing`, `leadership`, `publishing` or `the inbox`."""

    what: str
    pid: int
    user: str | None
    application: str | None
    since: datetime | None

    def __str__(self) -> str:
        """One sentence for people."""
        who = f"session {self.pid} of user {self.user or 'unknown'} ({self.application or 'no application name'})"
        since = "" if self.since is None else f" since {self.since:%Y-%m-%d %H:%M:%S}Z"
        held = "a lock that everybody waits for" if self.what == "writing" else "Rota's lock for it"
        return f"{self.what} is blocked: {who} holds {held}{since}; pg_terminate_backend({self.pid}) ends it"


async def blocks(database: Database) -> list[Block]:
    """Who is in the way now, writing first. Raises Unavailable."""
    async with database.begin() as connection:
        waited = (await connection.exec_driver_sql(_WAITED_FOR)).mappings().all()
        held = (await connection.exec_driver_sql(_HELD)).mappings().all()
    return [*(_block(row["what"], row) for row in waited), *(_block(_LOCKS[row["key"]], row) for row in held)]


def _block(what: str, row: Any) -> Block:
    since = row["since"]
    return Block(what=what, pid=row["pid"], user=row["usename"], application=row["application_name"], since=since)
