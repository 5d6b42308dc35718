"""What roles may put into the inbox."""

from __future__ import annotations

from alembic import op

from rota_server.adapters.postgres.sql import run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table."""
    run_script(op.get_bind(), "0007_inbox_rules.sql")
