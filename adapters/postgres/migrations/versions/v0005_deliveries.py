"""Cursors, retries, dead letters and secrets of webhooks."""

from __future__ import annotations

from alembic import op

from rota_server.adapters.postgres.sql import run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the tables."""
    run_script(op.get_bind(), "0005_deliveries.sql")
