"""What the store does with subscriptions. A secret passes through here once, on its way to its table and its owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

from rota_server.adapters.http.webhooks import new_secret, usable_secret
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.resources import Changed, ResourceChange, Resources
from rota_server.apps.store.subscriptions.parsing import parse_after, parse_subscription
from rota_server.domain.errors import NotPossible, Rejected
from rota_server.domain.events import Event
from rota_server.domain.ids import Position, resource_id
from rota_server.domain.log import Meta
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.domain.subscriptions.deliveries import DeliveryCounts
from rota_server.domain.subscriptions.events import RedeliveryRequested, SubscriptionCreated, SubscriptionSecretChanged
from rota_server.domain.subscriptions.subscription import (
    KIND,
    Action,
    Definition,
    act_on_subscription,
    change_subscription,
    evolve_subscription,
    refuse_archived,
    subscription_head,
)

OLD_SECRET_SIGNS = timedelta(hours=24)
DEFINITION = ("url", "match", "mode", "retry", "timeout", "description")


class Made(NamedTuple):
    """A subscription and, when it is new, its secret: the only time that it is shown."""

    changed: Changed
    secret: str | None


class Subscriptions:
    """The handlers, without HTTP."""

    def __init__(self, parts: Parts, resources: Resources) -> None:
        self._resources = resources
        self._deliveries = parts.deliveries
        self._now = parts.now

    async def create(self, name: str, value: Mapping[str, Any], meta: Meta) -> Made:
        """Make a subscription; the answer is the one that is there already with this definition. Raises Rejected."""
        new, after = parse_subscription(value), parse_after(value.get("after"))
        secret, secret_id = _secret(value.get("secret")), uuid7()
        # Before the event that names it: a subscription without its secret could not deliver.
        await self._deliveries.add_secret(secret_id, secret)

        def decide(row: ResourceRow | None, _now: datetime) -> ResourceChange | None:
            if row is None:
                return _change(
                    None, SubscriptionCreated(name=name, **asdict(new), after=after, secret_id=UUID(int=secret_id.int))
                )
            if row.doc["state"] == "archived" or not _same(row, new):
                message = f"there is another subscription {name}, which is {row.doc['state']}"
                raise NotPossible(message, code="name-taken", field="name")
            return None

        changed = await self._resources.change(resource_id(KIND, name), decide, meta)
        return Made(changed, secret if changed.new else None)

    async def change(self, row: ResourceRow, value: Mapping[str, Any], meta: Meta) -> Changed:
        """Change what is delivered where and how. Raises Rejected, NotPossible, Unavailable."""

        def decide(current: ResourceRow | None, _now: datetime) -> ResourceChange | None:
            doc = (current or row).doc
            new = parse_subscription({name: value.get(name, doc[name]) for name in DEFINITION})
            event = change_subscription(doc, new, value.get("reason"))
            return None if event is None else _change(doc, event)

        return await self._resources.change(row.id, decide, meta)

    async def act(self, row: ResourceRow, action: Action, reason: str | None, meta: Meta) -> Changed:
        """Pause, resume or archive. Raises NotPossible, Unavailable."""

        def decide(current: ResourceRow | None, _now: datetime) -> ResourceChange | None:
            doc = (current or row).doc
            event = act_on_subscription(doc, action, reason)
            return None if event is None else _change(doc, event)

        return await self._resources.change(row.id, decide, meta)

    async def change_secret(self, row: ResourceRow, value: Mapping[str, Any], meta: Meta) -> Made:
        """Have another secret sign; the present one signs as well for a day. Raises Rejected, NotPossible."""
        secret, secret_id = _secret(value.get("secret")), UUID(int=uuid7().int)
        refuse_archived(row.doc)
        await self._deliveries.add_secret(secret_id, secret)

        def decide(current: ResourceRow | None, now: datetime) -> ResourceChange | None:
            doc = (current or row).doc
            refuse_archived(doc)
            until = now + OLD_SECRET_SIGNS
            event = SubscriptionSecretChanged(secret_id=secret_id, old_until=until, reason=value.get("reason"))
            return _change(doc, event)

        return Made(await self._resources.change(row.id, decide, meta), secret)

    async def redeliver(self, row: ResourceRow, value: Mapping[str, Any], meta: Meta) -> tuple[Changed, int]:
        """Have dead letters delivered again, and what waits for its next attempt at once; how many they are."""
        positions = _positions(value.get("positions"))
        refuse_archived(row.doc)
        count = await self._deliveries.retry(row.id, positions, self._now())

        def decide(current: ResourceRow | None, _now: datetime) -> ResourceChange | None:
            doc = (current or row).doc
            refuse_archived(doc)
            named = None if positions is None else tuple(positions)
            return _change(doc, RedeliveryRequested(positions=named, count=count, reason=value.get("reason")))

        return await self._resources.change(row.id, decide, meta), count


def subscription_view(row: ResourceRow, counts: DeliveryCounts, last: Position) -> dict[str, Any]:
    """The subscription as it reads from outside; nothing of a secret."""
    doc = row.doc
    position = counts.position
    if position is None:
        position = row.first_position if doc["after"] is None else Position(doc["after"])
    return {
        "id": row.id,
        "name": doc["name"],
        "state": doc["state"],
        **{name: doc[name] for name in DEFINITION},
        "delivered_to": position,
        "lag": max(0, last - position),
        "pending": counts.pending,
        "dead": counts.dead,
        "version": row.version,
        "position": row.position,
        "created_at": row.created_at,
        "changed_at": row.changed_at,
    }


def _change(doc: Mapping[str, Any] | None, event: Event) -> ResourceChange:
    return ResourceChange(events=[event], head=subscription_head(evolve_subscription(doc, event)))


def _same(row: ResourceRow, new: Definition) -> bool:
    return all(row.doc[name] == value for name, value in asdict(new).items())


def _secret(value: Any) -> str:
    if value is None:
        return new_secret()
    if not isinstance(value, str) or not usable_secret(value):
        message = "secret: must be whsec_ followed by 24 to 64 bytes in base64"
        raise Rejected(message, field="secret", code="invalid-argument")
    return value


def _positions(value: Any) -> Sequence[Position] | None:
    if value is None:
        return None
    good = isinstance(value, list) and 0 < len(value) <= 1000
    if not good or not all(isinstance(p, int) and not isinstance(p, bool) and 0 < p < 2**62 for p in value):
        message = "positions: must be a list of 1 to 1000 positions, or absent for all"
        raise Rejected(message, field="positions", code="invalid-argument")
    return [Position(position) for position in value]
