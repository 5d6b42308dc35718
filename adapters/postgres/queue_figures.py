"""What is known of queues: the leader writes what it sees every few seconds, the store reads it and counts lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Integer, Text, bindparam, func, select, text

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.tables import jobs, queue_counts, queue_flow, running_attempts
from rota_server.domain.ids import Position
from rota_server.domain.jobs.spec import LANE_SEPARATOR
from rota_server.domain.ports.indexes import QueueFigures

# Queues that have nothing any more leave the table.
_REPLACE = text(
    """
    with new as (
        select * from unnest(:queues, :started, :ended, :oldest) as n (queue, started, ended, oldest_position)
    ), gone as (
        delete from queue_flow where queue not in (select queue from new)
    )
    insert into queue_flow (queue, started_per_minute, ended_per_minute, oldest_position)
    select queue, started, ended, oldest_position from new
    on conflict (queue) do update set started_per_minute = excluded.started_per_minute,
        ended_per_minute = excluded.ended_per_minute, oldest_position = excluded.oldest_position
    """
).bindparams(
    bindparam("queues", type_=ARRAY(Text)),
    bindparam("started", type_=ARRAY(Integer)),
    bindparam("ended", type_=ARRAY(Integer)),
    bindparam("oldest", type_=ARRAY(BigInteger)),
)
_RECORDED = text("select position, recorded_at from events where position = any(:positions)").bindparams(
    bindparam("positions", type_=ARRAY(BigInteger))
)


class PostgresQueueCounts:
    """The port QueueCounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save_flow(self, flow: Mapping[str, tuple[int, int]], oldest: Mapping[str, Position]) -> None:
        """Replace what is said of all queues: starts and ends in the last minute, the oldest dispatch not taken."""
        queues = sorted({*flow, *oldest})
        values = {
            "queues": queues,
            "started": [flow.get(queue, (0, 0))[0] for queue in queues],
            "ended": [flow.get(queue, (0, 0))[1] for queue in queues],
            "oldest": [oldest.get(queue) for queue in queues],
        }
        async with self._database.begin() as connection:
            await connection.execute(_REPLACE, values)

    async def figures(self, names: Sequence[str] | None) -> dict[str, QueueFigures]:
        """See the port. Reads the index of all waiting jobs of these queues."""
        async with self._database.begin() as connection:
            queued = await _counts(connection, queue_counts.c.queue, func.sum(queue_counts.c.queued), names)
            running = await _counts(connection, running_attempts.c.queue, func.count(), names)
            flow = {row["queue"]: row for row in (await connection.execute(select(queue_flow))).mappings()}
            waiting, oldest = await _lines(connection, names)
            for queue, row in flow.items():
                position = row["oldest_position"]
                if position is not None:
                    oldest[queue] = min(position, oldest.get(queue, position))
            recorded: dict[int, datetime] = {}
            if oldest:
                rows = (await connection.execute(_RECORDED, {"positions": list(oldest.values())})).all()
                recorded = {position: at for position, at in rows}  # noqa: C416
        found = {*queued, *running, *flow, *waiting} if names is None else set(names)
        return {
            name: QueueFigures(
                waiting=waiting.get(name, 0),
                queued=queued.get(name, 0),
                running=running.get(name, 0),
                oldest_at=recorded.get(oldest.get(name, 0)),
                started_per_minute=flow[name]["started_per_minute"] if name in flow else 0,
                ended_per_minute=flow[name]["ended_per_minute"] if name in flow else 0,
            )
            for name in found
        }


async def _counts(connection: Any, queue: Any, number: Any, names: Sequence[str] | None) -> dict[str, int]:
    query = select(queue, number).where(queue.is_not(None)).group_by(queue)
    if names is not None:
        query = query.where(queue.in_(names))
    return {name: int(count) for name, count in (await connection.execute(query)).all() if count}


async def _lines(connection: Any, names: Sequence[str] | None) -> tuple[dict[str, int], dict[str, int]]:
    """How many jobs wait in line for each queue, and since which position the first of them does."""
    waiting: Counter[str] = Counter()
    oldest: dict[str, int] = {}
    ranges = (
        [None] if names is None else [(name + LANE_SEPARATOR, name + chr(ord(LANE_SEPARATOR) + 1)) for name in names]
    )
    for wanted in ranges:
        query = select(jobs.c.lane, func.count(), func.min(jobs.c.waits_since)).where(jobs.c.lane.is_not(None))
        if wanted is not None:
            query = query.where(jobs.c.lane >= wanted[0], jobs.c.lane < wanted[1])
        for lane, count, since in (await connection.execute(query.group_by(jobs.c.lane))).all():
            queue = lane.split(LANE_SEPARATOR)[0]
            waiting[queue] += count
            oldest[queue] = min(since, oldest.get(queue, since))
    return dict(waiting), oldest
