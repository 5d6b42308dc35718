"""The log, its heads, the append, and the first projections."""

from __future__ import annotations

from alembic import op

from rota_server.adapters.postgres.sql import run_script

revision = "0001"
down_revision = None

PARTITION_SIZE = 5_000_000
"""Events in one partition: about 2 GB with indexes."""


def upgrade() -> None:
    """Create everything and the first partitions."""
    run_script(op.get_bind(), "0001_log.sql")
    op.execute(f"insert into log_settings (partition_size) values ({PARTITION_SIZE})")
    op.execute("select rota_ensure_partitions(1, 1)")
