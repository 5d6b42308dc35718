"""What is recorded about subscriptions. No secret is ever part of it. Registered by `domain.event_types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from rota_server.domain.events import Event, event, made


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionCreated(Event):
    """Matching events after position `after` (None: behind this one) are delivered to `url`.

    `secret_id` names the secret that signs them; the secret itself is kept elsewhere.
    """

    name: str
    url: str
    match: Mapping[str, Any]
    mode: str
    retry: Mapping[str, Any]
    timeout: float
    after: int | None
    secret_id: UUID
    description: str | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SubscriptionCreated:
        """Build nested values from their JSON objects."""
        return made(cls, data, secret_id=UUID(data["secret_id"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionChanged(Event):
    """From here on, this is what is delivered and how; all of it, also what stays as it was."""

    url: str
    match: Mapping[str, Any]
    mode: str
    retry: Mapping[str, Any]
    timeout: float
    description: str | None
    reason: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionPaused(Event):
    """Nothing is delivered until it is resumed; nothing is left out then."""

    reason: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionResumed(Event):
    """Deliveries go on where they had come to."""

    reason: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionArchived(Event):
    """It is over for good."""

    reason: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSecretChanged(Event):
    """Another secret signs from now on; the one before signs as well until `old_until`."""

    secret_id: UUID
    old_until: datetime
    reason: str | None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SubscriptionSecretChanged:
        """Build nested values from their JSON objects."""
        until = datetime.fromisoformat(data["old_until"])
        return made(cls, data, secret_id=UUID(data["secret_id"]), old_until=until)


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class RedeliveryRequested(Event):
    """Dead letters at these positions (None: all) are delivered again; `count`: how many there were."""

    positions: tuple[int, ...] | None
    count: int
    reason: str | None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RedeliveryRequested:
        """Build nested values from their JSON objects."""
        positions = data["positions"]
        return made(cls, data, positions=None if positions is None else tuple(positions))
