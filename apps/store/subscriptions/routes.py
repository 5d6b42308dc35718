"""The HTTP routes of subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.requests import (
    LIST_LIMIT,
    cursor_for,
    cursor_of,
    meta_of,
    number,
    read_options,
    traceparent_of,
)
from rota_server.apps.store.http.responses import json_response, page, written
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.resources import Changed, Resources
from rota_server.apps.store.subscriptions import openapi as schemas
from rota_server.apps.store.subscriptions.handlers import DEFINITION, Made, Subscriptions, subscription_view
from rota_server.apps.store.triggers.handlers import check_name
from rota_server.apps.store.triggers.routes import state_of
from rota_server.domain.ids import Position
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.domain.subscriptions.subscription import KIND, Action

REASON = frozenset({"reason"})
FIELDS = frozenset(DEFINITION)


class SubscriptionRoutes:
    """The handlers."""

    def __init__(self, parts: Parts, resources: Resources, positions: Positions) -> None:
        self._resources = resources
        self._subscriptions = Subscriptions(parts, resources)
        self._deliveries = parts.deliveries
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "subscriptions")
        one = "/v1/subscriptions/{id}"
        routes.add("POST", "/v1/subscriptions", self.create_subscription, **schemas.CREATE)
        routes.add("GET", "/v1/subscriptions", self.list_subscriptions, **schemas.LIST)
        routes.add("GET", one, self.get_subscription, **schemas.GET)
        routes.add("PATCH", one, self.change_subscription, **schemas.CHANGE)
        routes.add("GET", f"{one}/dead", self.list_dead_letters, **schemas.LIST_DEAD)
        routes.add("POST", f"{one}/redeliver", self.redeliver, **schemas.REDELIVERY)
        routes.add("POST", f"{one}/secret", self.change_secret, **schemas.CHANGE_SECRET)
        actions: tuple[Action, ...] = ("pause", "resume", "archive")
        for action in actions:
            routes.add("POST", f"{one}/{action}", self._acting(action), **schemas.ACT)

    async def create_subscription(self, request: Request) -> Response:
        """Create a subscription: from now on (or from behind `after`), matching events are delivered.

        The answer holds the secret that signs them, this once.
        """
        meta = meta_of(request, traceparent_of(request))
        value = await read_options(request, FIELDS | {"name", "after", "secret"})
        made = await self._subscriptions.create(check_name(value.get("name")), value, meta)
        return await self._answer(made.changed, 201 if made.changed.new else 200, made)

    async def list_subscriptions(self, request: Request) -> Response:
        """Subscriptions, newest first."""
        state = state_of(request)
        await self._positions.at_least(request)
        position = await self._positions.last()
        rows, following = await self._resources.page(request, KIND, doc=None if state is None else {"state": state})
        return json_response(page(await self._views(rows, position), position, following))

    async def get_subscription(self, request: Request) -> Response:
        """The subscription, how far it has come, what waits for another attempt, and how many dead letters it has."""
        await self._positions.at_least(request)
        row = await self._resources.load(KIND, request.path_params["id"])
        (view,) = await self._views([row], await self._positions.last())
        return json_response(view)

    async def change_subscription(self, request: Request) -> Response:
        """Change what is delivered where and how. What was read already is not matched again."""
        meta = meta_of(request, traceparent_of(request))
        value = await read_options(request, FIELDS | REASON)
        row = await self._resources.load(KIND, request.path_params["id"])
        return await self._answer(await self._subscriptions.change(row, value, meta))

    async def list_dead_letters(self, request: Request) -> Response:
        """Events that were given up, in the order of the log."""
        limit, after = number(request, "limit", 50, low=1, high=LIST_LIMIT), cursor_of(request) or Position(0)
        row = await self._resources.load(KIND, request.path_params["id"])
        found = await self._deliveries.dead(row.id, after, limit + 1)
        following = cursor_for(found[limit - 1].position) if len(found) > limit else None
        items = [
            {
                "position": one.position,
                "stream_id": one.stream_id,
                "attempts": one.attempts,
                "error": one.error,
                "at": one.changed_at,
            }
            for one in found[:limit]
        ]
        return json_response(page(items, await self._positions.last(), following))

    async def redeliver(self, request: Request) -> Response:
        """Deliver dead letters again: those at `positions`, or all; and at once what waits for its next attempt."""
        meta = meta_of(request, traceparent_of(request))
        value = await read_options(request, frozenset({"positions", "reason"}))
        row = await self._resources.load(KIND, request.path_params["id"])
        changed, count = await self._subscriptions.redeliver(row, value, meta)
        return written({"redelivered": count}, changed.position)

    async def change_secret(self, request: Request) -> Response:
        """Sign with another secret, which the answer holds this once. The present one signs as well for a day."""
        meta = meta_of(request, traceparent_of(request))
        value = await read_options(request, frozenset({"secret", "reason"}))
        row = await self._resources.load(KIND, request.path_params["id"])
        made = await self._subscriptions.change_secret(row, value, meta)
        return await self._answer(made.changed, 200, made)

    def _acting(self, action: Action) -> Callable[[Request], Awaitable[Response]]:
        async def act(request: Request) -> Response:
            meta = meta_of(request, traceparent_of(request))
            value = await read_options(request, REASON)
            row = await self._resources.load(KIND, request.path_params["id"])
            return await self._answer(await self._subscriptions.act(row, action, value.get("reason"), meta))

        act.__name__ = f"{action}_subscription"
        act.__doc__ = ACTIONS[action]
        return act

    async def _views(self, rows: list[ResourceRow], last: Position) -> list[dict[str, Any]]:
        counts = await self._deliveries.counts([row.id for row in rows])
        return [subscription_view(row, counts[row.id], last) for row in rows]

    async def _answer(self, changed: Changed, status: int = 200, made: Made | None = None) -> Response:
        (view,) = await self._views([changed.row], changed.position)
        if made is not None and made.secret is not None:
            view["secret"] = made.secret
        return written(view, changed.position, status, location=f"/v1/subscriptions/{changed.row.id}")


ACTIONS: dict[Action, str] = {
    "pause": "Deliver nothing until it is resumed.",
    "resume": "Deliver again, from where it had come to: nothing is left out.",
    "archive": "Deliver nothing ever again. Its history stays; its name stays taken.",
}
