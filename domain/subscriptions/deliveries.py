"""What is delivered to webhooks, and the role that remembers how far that has come. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from rota_server.domain.ids import Position, Term

DeliveryState = Literal["pending", "dead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event that could not be delivered at once. `attempts` were made; `next_at`: not before this instant."""

    position: Position
    stream_id: UUID
    state: DeliveryState
    attempts: int
    next_at: datetime
    error: str | None = None
    changed_at: datetime | None = None


class DeliveryCounts(NamedTuple):
    """How far a subscription is. `position` None: it has not begun."""

    position: Position | None
    pending: int
    dead: int


class Deliveries(Protocol):
    """Cursors, events to be delivered again, dead letters, secrets. Every method may raise Unavailable."""

    async def begin(self, subscription: UUID, position: Position, term: Term) -> Position:
        """Take the subscription over for this term; its cursor, which is set to `position` when there is none.

        Raises NotLeader when a newer term has it.
        """

    async def pending(self, subscription: UUID, limit: int) -> Sequence[Delivery]:
        """What is to be delivered again, first come first."""

    async def save(
        self,
        subscription: UUID,
        position: Position,
        term: Term,
        *,
        kept: Iterable[Delivery] = (),
        done: Iterable[Position] = (),
    ) -> None:
        """Move the cursor and keep what is to be delivered again or was given up, all of it or nothing.

        Raises NotLeader when a newer term has the subscription.
        """

    async def counts(self, subscriptions: Sequence[UUID]) -> Mapping[UUID, DeliveryCounts]:
        """How far these subscriptions are; all of them are in the answer."""

    async def dead(self, subscription: UUID, after: Position, limit: int) -> Sequence[Delivery]:
        """Dead letters after a position, in order."""

    async def retry(self, subscription: UUID, positions: Sequence[Position] | None, now: datetime) -> int:
        """Have dead letters (None: all) delivered again, and what waits for its next attempt at once; how many."""

    async def add_secret(self, secret_id: UUID, secret: str) -> None:
        """Keep a secret."""

    async def secrets(self, secret_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """The secrets with these ids."""
