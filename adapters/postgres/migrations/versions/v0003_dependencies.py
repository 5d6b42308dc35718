"""A function that forgets dependencies of jobs that do not wait any more."""

from __future__ import annotations

from alembic import op

from rota_server.adapters.postgres.sql import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the function."""
    run_script(op.get_bind(), "0003_dependencies.sql")
