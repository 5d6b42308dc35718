"""The tables as SQLAlchemy Core knows them, for queries that are put together at run time."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Float, Integer, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()
INSTANT = DateTime(timezone=True)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("version", Integer),
    Column("position", BigInteger),
    Column("first_position", BigInteger),
    Column("state", Text),
    Column("attempt", Integer),
    Column("queue", Text),
    Column("priority", Text),
    Column("task", Text),
    Column("tags", JSONB),
    Column("submitted_at", INSTANT),
    Column("changed_at", INSTANT),
    Column("due_at", INSTANT),
    Column("key", Text),
    Column("lane", Text),
    Column("waits_since", BigInteger),
    Column("origin_id", Uuid),
)

resources = Table(
    "resources",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("version", Integer),
    Column("position", BigInteger),
    Column("first_position", BigInteger),
    Column("kind", Text),
    Column("name", Text),
    Column("doc", JSONB),
    Column("active", Boolean),
    Column("due_at", INSTANT),
    Column("created_at", INSTANT),
    Column("changed_at", INSTANT),
)

dependencies = Table(
    "dependencies",
    metadata,
    Column("predecessor", Uuid, primary_key=True),
    Column("dependent", Uuid, primary_key=True),
)

checkpoints = Table(
    "checkpoints", metadata, Column("name", Text, primary_key=True), Column("position", BigInteger, nullable=False)
)

running_attempts = Table(
    "running_attempts",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("attempt", Integer),
    Column("version", Integer),
    Column("executor", Text),
    Column("started_at", INSTANT),
    Column("timeout_seconds", Float),
    Column("queue", Text),
    Column("priority", Text),
    Column("key", Text),
    Column("origin", Text),
)

admissions = Table(
    "admissions",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("queue", Text),
    Column("priority", Text),
    Column("key", Text),
    Column("position", BigInteger),
)

queue_flow = Table(
    "queue_flow",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("started_per_minute", Integer),
    Column("ended_per_minute", Integer),
    Column("oldest_position", BigInteger),
)

limit_states = Table(
    "limit_states",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("state", JSONB),
)

queue_counts = Table(
    "queue_counts",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("priority", Text, primary_key=True),
    Column("queued", BigInteger),
)

members = Table(
    "members",
    metadata,
    Column("role", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("info", JSONB),
    Column("since", INSTANT),
    Column("beat_at", INSTANT),
)

job_logs = Table(
    "job_logs",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("stream", Text),
    Column("content", Text),
    Column("written_at", INSTANT),
)

task_catalog = Table(
    "task_catalog",
    metadata,
    Column("name", Text, primary_key=True),
    Column("options", JSONB),
    Column("announced_at", INSTANT),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("secret", Text),
    Column("created_at", INSTANT),
)

delivery_cursors = Table(
    "delivery_cursors",
    metadata,
    Column("subscription_id", Uuid, primary_key=True),
    Column("position", BigInteger),
    Column("term", BigInteger),
    Column("changed_at", INSTANT),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("subscription_id", Uuid, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("stream_id", Uuid),
    Column("state", Text),
    Column("attempts", Integer),
    Column("next_at", INSTANT),
    Column("error", Text),
    Column("changed_at", INSTANT),
)

leadership = Table("leadership", metadata, Column("term", BigInteger), Column("node", Text), Column("since", INSTANT))
