"""The port Deliveries on PostgreSQL: rows and cursor change together, and only under a term that is not over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Integer, Text, Uuid, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.tables import deliveries, delivery_cursors, webhook_secrets
from rota_server.domain.errors import NotLeader
from rota_server.domain.ids import Position, Term
from rota_server.domain.subscriptions.deliveries import Delivery, DeliveryCounts

_KEEP = text(
    """
    insert into deliveries (subscription_id, position, stream_id, state, attempts, next_at, error)
    select :subscription, * from unnest(:positions, :streams, :states, :attempts, :next_at, :errors)
    on conflict (subscription_id, position) do update set state = excluded.state, attempts = excluded.attempts,
        next_at = excluded.next_at, error = excluded.error, changed_at = clock_timestamp()
    """
).bindparams(
    bindparam("subscription", type_=Uuid),
    bindparam("positions", type_=ARRAY(BigInteger)),
    bindparam("streams", type_=ARRAY(Uuid)),
    bindparam("states", type_=ARRAY(Text)),
    bindparam("attempts", type_=ARRAY(Integer)),
    bindparam("next_at", type_=ARRAY(DateTime(timezone=True))),
    bindparam("errors", type_=ARRAY(Text)),
)
_DONE = text("delete from deliveries where subscription_id = :subscription and position = any(:positions)").bindparams(
    bindparam("subscription", type_=Uuid), bindparam("positions", type_=ARRAY(BigInteger))
)


class PostgresDeliveries:
    """See the port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, subscription: UUID, position: Position, term: Term) -> Position:
        """See the port."""
        statement = insert(delivery_cursors).values(subscription_id=subscription, position=position, term=term)
        statement = statement.on_conflict_do_update(
            index_elements=["subscription_id"], set_={"term": term}, where=delivery_cursors.c.term <= term
        )
        async with self._database.begin() as connection:
            found = (await connection.execute(statement.returning(delivery_cursors.c.position))).scalar()
        if found is None:
            raise NotLeader("a newer leader delivers", own_term=term)
        return Position(found)

    async def pending(self, subscription: UUID, limit: int) -> Sequence[Delivery]:
        """See the port."""
        return await self._rows(subscription, "pending", Position(0), limit)

    async def dead(self, subscription: UUID, after: Position, limit: int) -> Sequence[Delivery]:
        """See the port."""
        return await self._rows(subscription, "dead", after, limit)

    async def save(
        self,
        subscription: UUID,
        position: Position,
        term: Term,
        *,
        kept: Iterable[Delivery] = (),
        done: Iterable[Position] = (),
    ) -> None:
        """See the port."""
        keep, gone = list(kept), list(done)
        move = (
            update(delivery_cursors)
            .where(delivery_cursors.c.subscription_id == subscription, delivery_cursors.c.term == term)
            .values(position=position, changed_at=func.clock_timestamp())
        )
        async with self._database.begin() as connection:
            if (await connection.execute(move)).rowcount != 1:
                raise NotLeader("a newer leader delivers", own_term=term)
            if keep:
                await connection.execute(_KEEP, {"subscription": subscription, **_columns(keep)})
            if gone:
                await connection.execute(_DONE, {"subscription": subscription, "positions": gone})

    async def counts(self, subscriptions: Sequence[UUID]) -> Mapping[UUID, DeliveryCounts]:
        """See the port."""
        at = select(delivery_cursors.c.subscription_id, delivery_cursors.c.position).where(
            delivery_cursors.c.subscription_id.in_(subscriptions)
        )
        kept = (
            select(deliveries.c.subscription_id, deliveries.c.state, func.count())
            .where(deliveries.c.subscription_id.in_(subscriptions))
            .group_by(deliveries.c.subscription_id, deliveries.c.state)
        )
        async with self._database.begin() as connection:
            positions = {row[0]: Position(row[1]) for row in (await connection.execute(at)).all()}
            numbers = {(row[0], row[1]): row[2] for row in (await connection.execute(kept)).all()}
        return {
            one: DeliveryCounts(positions.get(one), numbers.get((one, "pending"), 0), numbers.get((one, "dead"), 0))
            for one in subscriptions
        }

    async def retry(self, subscription: UUID, positions: Sequence[Position] | None, now: datetime) -> int:
        """See the port."""
        statement = update(deliveries).where(deliveries.c.subscription_id == subscription)
        if positions is not None:
            statement = statement.where(deliveries.c.position.in_(positions))
        async with self._database.begin() as connection:
            changed = await connection.execute(
                statement.values(state="pending", attempts=0, next_at=now, changed_at=func.clock_timestamp())
            )
            return changed.rowcount

    async def add_secret(self, secret_id: UUID, secret: str) -> None:
        """See the port."""
        async with self._database.begin() as connection:
            await connection.execute(insert(webhook_secrets).values(id=secret_id, secret=secret))

    async def secrets(self, secret_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """See the port."""
        query = select(webhook_secrets.c.id, webhook_secrets.c.secret).where(webhook_secrets.c.id.in_(secret_ids))
        async with self._database.begin() as connection:
            return {UUID(int=row[0].int): row[1] for row in (await connection.execute(query)).all()}

    async def _rows(self, subscription: UUID, state: str, after: Position, limit: int) -> list[Delivery]:
        query = (
            select(deliveries)
            .where(
                deliveries.c.subscription_id == subscription,
                deliveries.c.state == state,
                deliveries.c.position > after,
            )
            .order_by(deliveries.c.position)
            .limit(limit)
        )
        async with self._database.begin() as connection:
            return [_delivery(dict(row)) for row in (await connection.execute(query)).mappings()]


def _columns(kept: Sequence[Delivery]) -> dict[str, list[Any]]:
    return {
        "positions": [one.position for one in kept],
        "streams": [one.stream_id for one in kept],
        "states": [one.state for one in kept],
        "attempts": [one.attempts for one in kept],
        "next_at": [one.next_at for one in kept],
        "errors": [one.error for one in kept],
    }


def _delivery(row: dict[str, Any]) -> Delivery:
    del row["subscription_id"]
    return Delivery(**{**row, "position": Position(row["position"]), "stream_id": UUID(int=row["stream_id"].int)})
