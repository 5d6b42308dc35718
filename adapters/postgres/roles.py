"""The roles of the database that Rota's processes connect as, and what each of them may do there.

`rota_app` may do all that any process does. The others are for one kind of process each and get only what that kind
calls. Grants are made again by every migration; nothing here takes a right from `rota_app`, so that running services
go on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any

import asyncpg

APP_ROLE = "rota_app"
ENQUEUE_ROLE = "rota_enqueue"
"""May put jobs into the inbox and nothing else; to be granted to the roles of users' applications."""

KINDS = ("store", "relay", "scheduler", "executor")
"""The kinds of processes; the role of each is `rota_` and its kind."""

READ, ADD, CHANGE, REMOVE = "select", "insert", "update", "delete"
_ALL = (READ, ADD, CHANGE, REMOVE)

TABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "alembic_version": {"store": (READ,), "relay": (READ,), "scheduler": (READ,), "executor": (READ,)},
    "events": {"store": (READ,), "relay": (READ,), "scheduler": (READ,), "executor": (READ,)},
    "jobs": {"store": (READ,), "relay": (READ,), "scheduler": (READ,), "executor": (READ,)},
    "streams": {},
    "log_settings": {},
    "append_lock": {},
    "leadership": {"store": (READ,), "scheduler": (READ,)},
    "resources": {"store": (READ,), "scheduler": (READ,), "executor": (READ,)},
    "dependencies": {"store": (READ,), "scheduler": (READ,)},
    "checkpoints": {"store": (READ,), "scheduler": (READ, ADD, CHANGE)},
    "running_attempts": {"store": (READ,), "scheduler": _ALL, "executor": (READ,)},
    "queue_counts": {"store": (READ,), "scheduler": _ALL},
    "queue_flow": {"store": (READ,), "scheduler": _ALL},
    "admissions": {"store": (READ,), "scheduler": _ALL},
    "limit_states": {"store": (READ,), "scheduler": _ALL},
    # Rows of its own kind only: see the policies below.
    "members": {"store": _ALL, "relay": _ALL, "scheduler": _ALL, "executor": _ALL},
    "job_logs": {"store": (READ,), "executor": (ADD,)},
    "task_catalog": {"store": (READ,), "scheduler": (READ,), "executor": (READ, ADD, CHANGE)},
    "inbox": {"store": (READ, ADD, REMOVE)},
    "inbox_rejected": {"store": (READ, ADD, REMOVE)},
    "inbox_rules": {"store": (READ,)},
    # Who takes a secret in need not read it again.
    "webhook_secrets": {"store": (READ, ADD), "scheduler": (READ,)},
    "delivery_cursors": {"store": (READ,), "scheduler": (READ, ADD, CHANGE)},
    "deliveries": {"store": (READ, CHANGE), "scheduler": _ALL},
}
"""What each kind of process may do with each table of ours."""

FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "rota_append": (),
    "rota_append_as_store": ("store",),
    "rota_append_as_leader": ("scheduler",),
    "rota_append_as_executor": ("executor",),
    "rota_refuse_append": (),
    "rota_enter_term": ("scheduler",),
    "rota_ensure_partitions": ("relay", "scheduler"),
    "rota_forget_dependencies": ("scheduler",),
    "rota_forget_unique": ("store",),
    "rota_enqueue": (),
}
"""Which kinds of processes may call each function of ours."""

PASSWORD = re.compile(r"[A-Za-z0-9_\-]{8,200}")

_APP_GRANTS = f"""
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

# A process says that it lives, and never that another kind does or does not. Policies come before they are in force,
# and all of it in one transaction: nobody's heartbeat is refused in between.
_POLICY = """
do $$ begin
    if not exists (select from pg_policies where tablename = 'members' and policyname = '{name}') then
        create policy {name} on members {rule};
    end if;
end $$;
"""
_IN_FORCE = """
do $$ begin
    if not (select relrowsecurity from pg_class where oid = 'members'::regclass) then
        alter table members enable row level security;
    end if;
end $$;
"""


def role_of(kind: str) -> str:
    """The name of a kind's role."""
    return f"rota_{kind}"


async def make_roles(
    connection: asyncpg.Connection[Any], app_password: str | None, passwords: Mapping[str, str]
) -> None:
    """Make the roles that are missing, give each its password, if there is one here, and all their rights.

    A role without a password cannot log in: rights are for those to whom it is granted.
    """
    given = {APP_ROLE: app_password, ENQUEUE_ROLE: None, **{role_of(kind): passwords.get(kind) for kind in KINDS}}
    for role, password in given.items():
        if password is not None and not PASSWORD.fullmatch(password):
            raise ValueError(f"the password of {role} must be 8 to 200 letters, digits, - and _")
        await _ensure_role(connection, role, password)
    await connection.execute("".join(_grants()))


def _grants() -> Iterator[str]:
    yield _APP_GRANTS
    for kind in KINDS:
        yield f"grant usage on schema public to {role_of(kind)};\n"
    for table, kinds in TABLES.items():
        for kind, rights in kinds.items():
            yield f"grant {', '.join(rights)} on {table} to {role_of(kind)};\n"
    for function, allowed in FUNCTIONS.items():
        for kind in allowed:
            yield f"grant execute on function {function} to {role_of(kind)};\n"
    yield _POLICY.format(name="anybody_reads", rule="for select using (true)")
    yield _POLICY.format(name="the_application", rule=f"to {APP_ROLE} using (true) with check (true)")
    for kind in KINDS:
        own = f"to {role_of(kind)} using (role = '{kind}') with check (role = '{kind}')"
        yield _POLICY.format(name=f"the_{kind}", rule=own)
    yield _IN_FORCE


async def _ensure_role(connection: asyncpg.Connection[Any], role: str, password: str | None) -> None:
    # Roles belong to the server, not to the database: others may be making this one at the same moment.
    options = "nologin" if password is None else f"login password '{password}'"
    for attempt in range(20):
        try:
            exists = await connection.fetchval("select 1 from pg_roles where rolname = $1", role)
            if not exists or password is not None:
                await connection.execute(f"{'alter' if exists else 'create'} role {role} {options}")
        except (asyncpg.InternalServerError, asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            await asyncio.sleep(0.05 * (attempt + 1))
        else:
            return
