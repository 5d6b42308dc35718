"""What Rota asks of every session in PostgreSQL, so that a process that is frozen or gone holds nothing for long.

A client that is stopped in the middle of a transaction keeps its locks until the server ends its session; one whose
machine is gone keeps them until the server's TCP gives up. Both are bounded here, for every role alike: nothing of
Rota's own waits for a client within a transaction. Migrations (`migrate.py`) have sessions without these bounds.
"""

from __future__ import annotations

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


SESSION = {
    "statement_timeout": _ms(COMMAND_SECONDS),
    "lock_timeout": _ms(LOCK_SECONDS),
    "idle_in_transaction_session_timeout": _ms(IDLE_IN_TRANSACTION_SECONDS),
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": _ms(SILENT_SECONDS),
}
"""The settings of a service's session."""
