"""Two services that make the same partition do not hinder each other."""

from __future__ import annotations

from alembic import op

from rota_server.adapters.postgres.sql import run_script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Change the lock of the function that makes partitions."""
    run_script(op.get_bind(), "0008_partition_lock.sql")
