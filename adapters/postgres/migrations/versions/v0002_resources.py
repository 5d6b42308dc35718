"""Resources, lines, dependencies, and an append that knows them."""

from __future__ import annotations

from alembic import op

from rota_server.adapters.postgres.sql import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables and replace the append."""
    run_script(op.get_bind(), "0002_resources.sql")
