"""The append as each kind of process may call it."""

from __future__ import annotations

from alembic import op

from rota_server.adapters.postgres.sql import run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the functions."""
    run_script(op.get_bind(), "0009_appends_by_kind.sql")
