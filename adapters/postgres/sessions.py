"""What Rota asks of every session in PostgreSQL, so that a process that is frozen or gone holds nothing for long.

A client that is stopped in the middle of a transaction keeps its locks until the server ends its session; one whose
machine is gone keeps them until the server's TCP gives up. Both are bounded here, for each kind of process
as it bears: nothing of Rota's own waits for a client within a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping

COMMAND_SECONDS = 30.0
"""How long a statement may take, by the server's clock; by the client's see `connecting.py`."""

LOCK_SECONDS = 10.0
"""How long a statement waits for a lock. Who waits for a role's lock (`exclusive.py`) asks again and again instead."""

IDLE_IN_TRANSACTION_SECONDS = 6.0
"""How long a transaction waits for its client's next statement: as long as a frozen leader's session lasts."""

SILENT_SECONDS = 30.0
"""How long a client's machine may leave what the server sends it unacknowledged."""


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))


def _session(statement: float, lock: float, idle: float) -> dict[str, str]:
    return {
        "statement_timeout": _ms(statement),
        "lock_timeout": _ms(lock),
        "idle_in_transaction_session_timeout": _ms(idle),
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": _ms(SILENT_SECONDS),
    }


SESSION = _session(COMMAND_SECONDS, LOCK_SECONDS, IDLE_IN_TRANSACTION_SECONDS)
"""The settings of a service's session, unless its kind has its own."""

SESSIONS: Mapping[str, Mapping[str, str]] = {
    # A leader that waits is one that does not lead: its successor is to find nothing that it holds.
    "scheduler": _session(30.0, 5.0, 4.0),
    "relay": _session(20.0, 5.0, 4.0),
    # A request has its own deadline, and may read long: filters that find little, numbers of all states.
    "store": _session(30.0, 5.0, IDLE_IN_TRANSACTION_SECONDS),
    "executor": _session(20.0, LOCK_SECONDS, IDLE_IN_TRANSACTION_SECONDS),
}
"""The settings of the sessions of each kind of process."""

MIGRATION = {
    "lock_timeout": _ms(2.0),
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": _ms(60.0),
}
"""A migration's session. Whoever waits for a table's lock has everybody queue up behind: so it waits briefly, lets go
of all that it has, and comes again (`migrate.py`). A statement may take its time."""
