"""The HTTP routes about queues."""

from __future__ import annotations

import re

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.requests import meta_of, read_json, traceparent_of
from rota_server.apps.store.http.responses import json_response, page, written
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.jobs import openapi
from rota_server.apps.store.queues.handlers import Queues
from rota_server.domain.errors import NotFound
from rota_server.observability import tracing

NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


class QueueRoutes:
    """The handlers."""

    def __init__(self, queues: Queues, positions: Positions) -> None:
        self._queues = queues
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "queues")
        routes.add("GET", "/v1/queues", self.list_queues, **openapi.LIST_QUEUES)
        routes.add("GET", "/v1/queues/{name}", self.get_queue, **openapi.GET_QUEUE)
        routes.add("PATCH", "/v1/queues/{name}", self.change_queue, **openapi.CHANGE_QUEUE)

    async def list_queues(self, request: Request) -> Response:
        """Every queue that has jobs or settings: its depth, its oldest job, its limits."""
        await self._positions.at_least(request)
        position = await self._positions.last()
        return json_response(page(await self._queues.all(), position))

    async def get_queue(self, request: Request) -> Response:
        """One queue. A name that nobody has used is a queue without jobs."""
        name = _name_of(request)
        await self._positions.at_least(request)
        return json_response(await self._queues.get(name))

    async def change_queue(self, request: Request) -> Response:
        """Pause or resume a queue, or change its limits; what is not named stays, null takes a limit away."""
        name = _name_of(request)
        with tracing.span("PATCH /v1/queues/{name}", parent=traceparent_of(request), kind="server") as span:
            changed = await self._queues.change(name, await read_json(request), meta_of(request, span.traceparent))
        return written(await self._queues.get(name), changed.position)


def _name_of(request: Request) -> str:
    name = str(request.path_params["name"])
    if not NAME.fullmatch(name):
        raise NotFound(f"{name[:100]!r} cannot be the name of a queue", field="name")
    return name
