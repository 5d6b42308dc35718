"""Jobs put in by a transaction on your own database: it commits, and there is one; it does not, and there is none."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, Mapping, Tuple

from rota.jobs import TaskLike, job
from rota.keywords import Parameters, refuse_ambiguous
from rota.submitting import trace_headers
from rota.tasks import registered
from rota.values import plain

_CALL = "select public.rota_enqueue({}, {}, {}) as id"
# Through text, so that it does not matter how the connection treats JSON.
_FORMAT = _CALL.format("%s", "cast(cast(%s as text) as json)", "cast(cast(%s as text) as json)")
_DOLLAR = _CALL.format("$1::text", "$2::text::json", "$3::text::json")
_NAMED = _CALL.format(":task", "cast(cast(:args as text) as json)", "cast(cast(:options as text) as json)")


def enqueue(connection: Any, task: TaskLike, **options: Any) -> str:
    """Put a job in within the connection's transaction; the id that it will have.

    `connection` is a connection of a DB-API driver for PostgreSQL (psycopg, psycopg2 ...), or a Connection or Session
    of SQLAlchemy. Its user needs the role `rota_enqueue`. The options are those of `Client.submit`, without
    `idempotency_key`: the transaction itself makes it one job. Nothing is sent to the store, and what only the store
    can know to be wrong is found after the commit: `rota inbox list` shows it.

    Raises:
        ValueError: an instant without a time zone; NotJson, a TypeError: an argument that JSON does not have.
        The driver's own errors: too large, no permission, no such function.
    """
    values = _values(task, options)
    if _is_sqlalchemy(connection):
        return str(connection.execute(_text(), _named(values)).scalar_one())
    cursor = connection.cursor()
    try:
        cursor.execute(_FORMAT, values)
        return _id_of(cursor.fetchone())
    finally:
        cursor.close()


async def aenqueue(connection: Any, task: TaskLike, **options: Any) -> str:
    """As `enqueue`, on a connection of asyncpg or psycopg, or an AsyncConnection or AsyncSession of SQLAlchemy."""
    values = _values(task, options)
    if _is_sqlalchemy(connection):
        return str((await connection.execute(_text(), _named(values))).scalar_one())
    if hasattr(connection, "fetchval"):
        return str(await connection.fetchval(_DOLLAR, *values))
    cursor = connection.cursor()
    try:
        await cursor.execute(_FORMAT, values)
        return _id_of(await cursor.fetchone())
    finally:
        await cursor.close()


def _values(task: TaskLike, options: "Dict[str, Any]") -> "Tuple[str, str, str]":
    if "idempotency_key" in options:
        raise TypeError("a job of a transaction takes no idempotency_key: the transaction makes it one job")
    spec = job(task, **options)
    refuse_ambiguous([("", spec)], _parameters_here)
    name, args = spec.pop("task"), spec.pop("args")
    spec.update(trace_headers())
    return name, json.dumps(args), json.dumps(plain(spec))


def _parameters_here(name: str) -> Parameters:
    """What is known of a task without a store: whether it is one of this process."""
    found = registered().get(name)
    return None if found is None else found.parameters()


def _named(values: "Tuple[str, str, str]") -> "Dict[str, str]":
    task, args, options = values
    return {"task": task, "args": args, "options": options}


def _is_sqlalchemy(connection: Any) -> bool:
    return hasattr(connection, "exec_driver_sql") or hasattr(connection, "get_bind")


def _text() -> Any:
    # Its own package made the connection, so it is there.
    return sys.modules["sqlalchemy"].text(_NAMED)


def _id_of(row: Any) -> str:
    return str(row["id"] if isinstance(row, Mapping) else row[0])
