"""Tells which of PostgreSQL's and its drivers' errors mean "not now", and raises those as Unavailable.

Everything else comes through as it is: a wrong statement or a value that PostgreSQL refuses is never repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from rota_server.domain.errors import Unavailable

READ_ONLY = "25006"
"""A standby, or a server that was the primary until a failover, or `default_transaction_read_only`."""

UNAVAILABLE_STATES = (
    "08",  # the connection
    READ_ONLY,
    "25P03",  # idle for too long within a transaction: the session is ended
    "25P04",  # a transaction that took too long: the same
    "40001",  # serialisation, also a standby's conflict with its recovery
    "40003",  # nobody knows whether the statement was completed
    "40P01",  # a deadlock's victim
    "53",  # disk full, out of memory, too many connections
    "55P03",  # a lock was not to be had in time
    "57",  # cancelled, timed out, shutting down, starting up
    "58",  # errors of the server's system: input and output, files
)

_GONE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,  # among others: no host of several is the one that may be written to
    asyncpg.InvalidCachedStatementError,  # a migration has changed what a prepared statement reads
)


def state_of(error: BaseException | None) -> str:
    """The SQLSTATE of the error or of what caused it, "" when there is none."""
    while error is not None:
        state = getattr(error, "sqlstate", None)
        if state:
            return str(state)
        error = getattr(error, "orig", None) or error.__cause__
    return ""


def means_unavailable(error: BaseException | None) -> bool:
    """Whether the error says that the server cannot answer now."""
    while error is not None:
        if isinstance(error, _GONE) or state_of(error).startswith(UNAVAILABLE_STATES):
            return True
        # A connection in a state that does not fit; what is a ValueError, too, is a wrong setting.
        if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
            return True
        error = error.__cause__
    return False


def means_read_only(error: BaseException | None) -> bool:
    """Whether the server is one that may not be written to (any more): another one is the primary, or soon will be."""
    return state_of(error) == READ_ONLY


@contextmanager
def translated() -> Iterator[None]:
    """Raise Unavailable for whatever says that the server cannot answer now; let the rest through."""
    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if means_unavailable(error):
            raise Unavailable(f"PostgreSQL does not answer ({_brief(error)})", server="postgres") from error
        raise
    except (DBAPIError, DisconnectionError, PoolTimeoutError) as error:
        orig = getattr(error, "orig", None)
        invalid = getattr(error, "connection_invalidated", False) or isinstance(error, PoolTimeoutError)
        if invalid or means_unavailable(orig):
            raise Unavailable(f"PostgreSQL does not answer ({_brief(orig or error)})", server="postgres") from error
        raise


def _brief(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
