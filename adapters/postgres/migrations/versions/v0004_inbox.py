"""The inbox, its function, and the forgetting of unique keys."""

from __future__ import annotations

from alembic import op

from rota_server.adapters.postgres.sql import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the tables and functions."""
    run_script(op.get_bind(), "0004_inbox.sql")
