"""The append's lock is a table's, which nobody else may take."""

from __future__ import annotations

from alembic import op

from rota_server.adapters.postgres.sql import run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Change the lock of the append."""
    run_script(op.get_bind(), "0006_append_lock.sql")
