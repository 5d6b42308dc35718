"""Knows an event that comes from one of Rota's own subscriptions, so that it does not go round and round.

A delivery carries the header `rota-trail`, signed with the subscription's secret: nobody else can pass an event off as
a delivery, and hide it from that subscription.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from starlette.requests import Request

from rota_server.adapters.http.webhooks import is_trail_of, parse_trail
from rota_server.domain.log import Meta
from rota_server.domain.ports.indexes import ResourceIndex
from rota_server.domain.subscriptions.deliveries import Deliveries
from rota_server.domain.subscriptions.subscription import KIND, delivered_by

HEADER = "rota-trail"


class Trails:
    """Reads the trails of requests."""

    def __init__(self, resources: ResourceIndex, deliveries: Deliveries) -> None:
        self._resources = resources
        self._deliveries = deliveries

    async def follow(self, request: Request, meta: Meta) -> Meta:
        """What is to be recorded about the request, with what its trail says, if it has one that is ours."""
        text = request.headers.get(HEADER, "")
        found = parse_trail(text)
        if found is None:
            return meta
        subscription, depth = found
        if not is_trail_of(await self._secrets(subscription), text, subscription, depth):
            return meta
        return replace(meta, causation_id=delivered_by(subscription), depth=depth)

    async def _secrets(self, subscription: UUID) -> list[str]:
        row = (await self._resources.get([subscription])).get(subscription)
        if row is None or row.kind != KIND:
            return []
        ids = [UUID(row.doc[name]) for name in ("secret_id", "old_secret_id") if row.doc[name] is not None]
        return list((await self._deliveries.secrets(ids)).values())
