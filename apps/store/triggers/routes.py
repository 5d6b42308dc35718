"""The HTTP routes of triggers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.json_body import shown
from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.requests import meta_of, read_options, traceparent_of
from rota_server.apps.store.http.responses import json_response, page, written
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.resources import Changed, Resources
from rota_server.apps.store.triggers import openapi as schemas
from rota_server.apps.store.triggers.handlers import Triggers, name_of, trigger_view
from rota_server.domain.errors import Rejected
from rota_server.domain.triggers.trigger import KIND, Action

STATES = ("active", "paused", "archived")
DEFINITION = frozenset({"match", "job", "description"})
REASON = frozenset({"reason"})


class TriggerRoutes:
    """The handlers."""

    def __init__(self, parts: Parts, resources: Resources, positions: Positions) -> None:
        self._resources = resources
        self._triggers = Triggers(parts, resources)
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "triggers")
        routes.add("POST", "/v1/triggers", self.create_trigger, **schemas.CREATE_TRIGGER)
        routes.add("GET", "/v1/triggers", self.list_triggers, **schemas.LIST_TRIGGERS)
        routes.add("GET", "/v1/triggers/{id}", self.get_trigger, **schemas.GET_TRIGGER)
        routes.add("PATCH", "/v1/triggers/{id}", self.change_trigger, **schemas.CHANGE_TRIGGER)
        actions: tuple[Action, ...] = ("pause", "resume", "archive")
        for action in actions:
            routes.add("POST", f"/v1/triggers/{{id}}/{action}", self._acting(action), **schemas.ACT_ON_TRIGGER)

    async def create_trigger(self, request: Request) -> Response:
        """Create a trigger: from now on, each event that matches makes a job. `200` when it is there already."""
        meta = meta_of(request, traceparent_of(request))
        value = await read_options(request, DEFINITION | {"name"})
        changed = await self._triggers.create(name_of(value), value, meta)
        return _answer(changed, 201 if changed.new else 200)

    async def list_triggers(self, request: Request) -> Response:
        """Triggers, newest first."""
        state = state_of(request)
        await self._positions.at_least(request)
        position = await self._positions.last()
        rows, following = await self._resources.page(request, KIND, doc=None if state is None else {"state": state})
        return json_response(page([trigger_view(row) for row in rows], position, following))

    async def get_trigger(self, request: Request) -> Response:
        """The trigger, and how many events made no job since it was created, the last of them with the reason."""
        await self._positions.at_least(request)
        return json_response(trigger_view(await self._resources.load(KIND, request.path_params["id"])))

    async def change_trigger(self, request: Request) -> Response:
        """Change what it matches or makes, for events that are published from now on."""
        meta = meta_of(request, traceparent_of(request))
        value = await read_options(request, DEFINITION | REASON)
        row = await self._resources.load(KIND, request.path_params["id"])
        return _answer(await self._triggers.change(row, value, meta))

    def _acting(self, action: Action) -> Callable[[Request], Awaitable[Response]]:
        async def act(request: Request) -> Response:
            meta = meta_of(request, traceparent_of(request))
            value = await read_options(request, REASON)
            row = await self._resources.load(KIND, request.path_params["id"])
            return _answer(await self._triggers.act(row, action, value.get("reason"), meta))

        act.__name__ = f"{action}_trigger"
        act.__doc__ = ACTIONS[action]
        return act


ACTIONS: dict[Action, str] = {
    "pause": "Take no events until it is resumed; what is published meanwhile is not taken later.",
    "resume": "Take events again, those that are published from now on.",
    "archive": "Take no events ever again. Its jobs and its history stay; its name stays taken.",
}


def state_of(request: Request) -> str | None:
    """The `state` parameter. Raises Rejected."""
    state = request.query_params.get("state")
    if state is not None and state not in STATES:
        message = f"state: must be one of {', '.join(STATES)}, not {shown(state)}"
        raise Rejected(message, field="state", code="invalid-argument")
    return state


def _answer(changed: Changed, status: int = 200) -> Response:
    view: dict[str, Any] = trigger_view(changed.row)
    return written(view, changed.position, status, location=f"/v1/triggers/{changed.row.id}")
