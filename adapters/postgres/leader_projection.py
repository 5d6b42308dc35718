"""The leader's projection: the attempts that run, how many jobs are queued, and up to where it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Float,
    Integer,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.tables import admissions, checkpoints, limit_states, queue_counts, running_attempts
from rota_server.domain.admission.admission import AdmissionChange, AdmittedJob
from rota_server.domain.errors import NotLeader
from rota_server.domain.ids import Position, Version
from rota_server.domain.leader_state import RunningAttempt

CHECKPOINT = "scheduler"

# Arrays: one round trip however many attempts there are.
_END = text("delete from running_attempts where job_id = any(:ended)").bindparams(bindparam("ended", type_=ARRAY(Uuid)))
_START = text(
    """
    insert into running_attempts
        (job_id, attempt, version, executor, started_at, timeout_seconds, queue, priority, key, origin)
    select * from unnest(:job_ids, :attempts, :versions, :executors, :started, :timeouts, :queues, :priorities, :keys,
                         :origins)
    on conflict (job_id) do update set attempt = excluded.attempt, version = excluded.version,
        executor = excluded.executor, started_at = excluded.started_at, timeout_seconds = excluded.timeout_seconds,
        queue = excluded.queue, priority = excluded.priority, key = excluded.key, origin = excluded.origin
    """
).bindparams(
    bindparam("job_ids", type_=ARRAY(Uuid)),
    bindparam("attempts", type_=ARRAY(Integer)),
    bindparam("versions", type_=ARRAY(Integer)),
    bindparam("executors", type_=ARRAY(Text)),
    bindparam("started", type_=ARRAY(DateTime(timezone=True))),
    bindparam("timeouts", type_=ARRAY(Float)),
    bindparam("queues", type_=ARRAY(Text)),
    bindparam("priorities", type_=ARRAY(Text)),
    bindparam("keys", type_=ARRAY(Text)),
    bindparam("origins", type_=ARRAY(Text)),
)
_COUNT = text(
    """
    insert into queue_counts (queue, priority, queued)
    select * from unnest(:queues, :priorities, :queued)
    on conflict (queue, priority) do update set queued = excluded.queued
    """
).bindparams(
    bindparam("queues", type_=ARRAY(Text)),
    bindparam("priorities", type_=ARRAY(Text)),
    bindparam("queued", type_=ARRAY(BigInteger)),
)

_UNADMIT = text("delete from admissions where job_id = any(:gone)").bindparams(bindparam("gone", type_=ARRAY(Uuid)))
_ADMIT = text(
    """
    insert into admissions (job_id, queue, priority, key, position)
    select job_id, queue, priority, key, :position
    from unnest(:job_ids, :queues, :priorities, :keys) as new (job_id, queue, priority, key)
    on conflict (job_id) do update set position = excluded.position
    """
).bindparams(
    bindparam("job_ids", type_=ARRAY(Uuid)),
    bindparam("queues", type_=ARRAY(Text)),
    bindparam("priorities", type_=ARRAY(Text)),
    bindparam("keys", type_=ARRAY(Text)),
    bindparam("position", type_=BigInteger),
)
_METER = text(
    """
    insert into limit_states (queue, key, state)
    select queue, key, state::jsonb from unnest(:queues, :keys, :states) as new (queue, key, state)
    on conflict (queue, key) do update set state = excluded.state
    """
).bindparams(
    bindparam("queues", type_=ARRAY(Text)),
    bindparam("keys", type_=ARRAY(Text)),
    bindparam("states", type_=ARRAY(Text)),
)


async def _save_admission(connection: AsyncConnection, admission: AdmissionChange, position: Position) -> None:
    if admission.gone:
        await connection.execute(_UNADMIT, {"gone": [UUID(job_id) for job_id in admission.gone]})
    if admission.admitted:
        places = list(admission.admitted.values())
        values = {
            "job_ids": [UUID(job_id) for job_id in admission.admitted],
            "queues": [place.queue for place in places],
            "priorities": [place.priority for place in places],
            "keys": [place.key for place in places],
            "position": position,
        }
        await connection.execute(_ADMIT, values)
    if admission.limiters:
        forgotten = [place for place, state in admission.limiters.items() if state is None]
        kept = {place: state for place, state in admission.limiters.items() if state is not None}
        if forgotten:
            await connection.execute(
                delete(limit_states).where(tuple_(limit_states.c.queue, limit_states.c.key).in_(forgotten))
            )
        if kept:
            states = {
                "queues": [queue for queue, _ in kept],
                "keys": [key for _, key in kept],
                "states": [orjson.dumps(state).decode() for state in kept.values()],
            }
            await connection.execute(_METER, states)


def _columns(attempts: Sequence[RunningAttempt]) -> dict[str, list[Any]]:
    return {
        "job_ids": [a.job_id for a in attempts],
        "attempts": [a.attempt for a in attempts],
        "versions": [a.version for a in attempts],
        "executors": [a.executor for a in attempts],
        "started": [a.started_at for a in attempts],
        "timeouts": [a.timeout_seconds for a in attempts],
        "queues": [a.queue for a in attempts],
        "priorities": [a.priority for a in attempts],
        "keys": [a.key for a in attempts],
        "origins": [a.origin for a in attempts],
    }


class PostgresRunningAttempts:
    """Reads and writes the projection; rows and checkpoint change together or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[Position, list[RunningAttempt], dict[tuple[str, str], int]]:
        """The checkpoint and what is true there."""
        async with self._database.snapshot() as connection:
            position = (
                await connection.execute(select(checkpoints.c.position).where(checkpoints.c.name == CHECKPOINT))
            ).scalar()
            rows = (await connection.execute(select(running_attempts))).mappings().all()
            counts = (await connection.execute(select(queue_counts))).mappings().all()
        running = [RunningAttempt(**{**row, "version": Version(row["version"])}) for row in rows]
        queued = {(row["queue"], row["priority"]): row["queued"] for row in counts if row["queued"]}
        return Position(position or 0), running, queued

    async def load_admission(
        self, position: Position
    ) -> tuple[dict[str, AdmittedJob], dict[tuple[str, str], dict[str, Any]]]:
        """What was admitted and had not started at this checkpoint, and the states of the meters of rates.

        Raises NotLeader when the checkpoint is elsewhere by now.
        """
        async with self._database.snapshot() as connection:
            query = select(checkpoints.c.position).where(checkpoints.c.name == CHECKPOINT)
            if ((await connection.execute(query)).scalar() or 0) != position:
                raise NotLeader("another leader keeps the projection", own_term=0)
            rows = (await connection.execute(select(admissions))).mappings().all()
            states = (await connection.execute(select(limit_states))).mappings().all()
        admitted = {str(r["job_id"]): AdmittedJob(r["queue"], r["priority"], r["key"], started=False) for r in rows}
        return admitted, {(row["queue"], row["key"]): row["state"] for row in states}

    async def save(
        self,
        *,
        old: Position,
        new: Position,
        started: Sequence[RunningAttempt],
        ended: Sequence[UUID],
        counts: Mapping[tuple[str, str], int],
        admission: AdmissionChange | None = None,
    ) -> bool:
        """Move the checkpoint from `old` to `new` with what happened between; False: somebody else moved it."""
        async with self._database.begin() as connection:
            if old == 0:
                await connection.execute(
                    insert(checkpoints).values(name=CHECKPOINT, position=0).on_conflict_do_nothing()
                )
            moved = await connection.execute(
                update(checkpoints)
                .where(checkpoints.c.name == CHECKPOINT, checkpoints.c.position == old)
                .values(position=new)
            )
            if moved.rowcount != 1:
                return False
            if ended:
                await connection.execute(_END, {"ended": list(ended)})
            if started:
                await connection.execute(_START, _columns(started))
            if counts:
                queues, priorities = [queue for queue, _ in counts], [priority for _, priority in counts]
                numbers = {"queues": queues, "priorities": priorities, "queued": list(counts.values())}
                await connection.execute(_COUNT, numbers)
            if admission is not None:
                await _save_admission(connection, admission, new)
        return True

    async def checkpoint(self) -> Position:
        """The position up to which the projection is true."""
        async with self._database.begin() as connection:
            query = select(checkpoints.c.position).where(checkpoints.c.name == CHECKPOINT)
            return Position((await connection.execute(query)).scalar() or 0)

    async def of_executor(self, executor: str, *, older_than_seconds: float) -> list[RunningAttempt]:
        """What stands as running on this executor for longer than that."""
        query = select(running_attempts).where(
            running_attempts.c.executor == executor,
            running_attempts.c.started_at < func.clock_timestamp() - text(f"interval '{older_than_seconds} s'"),
        )
        async with self._database.begin() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [RunningAttempt(**{**row, "version": Version(row["version"])}) for row in rows]
