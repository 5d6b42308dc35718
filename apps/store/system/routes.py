"""The HTTP routes about the system itself."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.problems import problem, problem_response
from rota_server.apps.store.http.responses import json_response, page
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.jobs import openapi
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.system.metrics import StoreMetrics
from rota_server.domain.errors import Unavailable
from rota_server.domain.ports.coordination import Member
from rota_server.observability import unreadable

READY_SECONDS = 3.0
ROLES = ("store", "relay", "scheduler", "executor")


class SystemRoutes:
    """The handlers."""

    def __init__(self, parts: Parts, positions: Positions, metrics: StoreMetrics) -> None:
        self._parts = parts
        self._coordination = parts.coordination
        self._positions = positions
        self._metrics = metrics

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "system")
        routes.add("GET", "/v1/executors", self.list_executors, **openapi.LIST_EXECUTORS)
        routes.add("GET", "/v1/cluster", self.get_cluster, **openapi.GET_CLUSTER)
        routes.add("GET", "/healthz", self.healthz)
        routes.add("GET", "/readyz", self.readyz)
        routes.add("GET", "/metrics", self.get_metrics, **openapi.GET_METRICS)
        routes.add("GET", "/asyncapi", self.get_asyncapi)

    async def list_executors(self, request: Request) -> Response:
        """The executors that are alive."""
        await self._positions.at_least(request)
        position = await self._positions.last()
        found = await self._coordination.members("executor")
        return json_response(page([_member(m) for m in found], position))

    async def get_cluster(self, request: Request) -> Response:
        """Who leads, in which term, and who is alive."""
        await self._positions.at_least(request)
        leader = await self._coordination.leader()
        members = {role: await self._coordination.members(role) for role in ROLES}
        return json_response(
            {
                "leader": None if leader is None else _member(leader),
                "term": None if leader is None else leader.info.get("term"),
                "members": {role: [_member(m) for m in found] for role, found in members.items()},
                "position": await self._positions.last(),
            }
        )

    async def healthz(self, _request: Request) -> Response:
        """The process is alive."""
        return json_response({"status": "alive"})

    async def readyz(self, _request: Request) -> Response:
        """The store is able to serve: PostgreSQL answers, with the right schema or a newer one.

        `unreadable` counts the streams that this process has met and cannot read; they make it no less ready.
        """
        try:
            async with asyncio.timeout(READY_SECONDS):
                revision = await self._parts.ready()
        except Unavailable as error:
            return problem_response(problem(503, str(error), code="not-ready"))
        except TimeoutError:
            detail = f"PostgreSQL does not answer within {READY_SECONDS} s"
            return problem_response(problem(503, detail, code="not-ready"))
        return json_response({"status": "ready", "revision": revision, "unreadable": len(unreadable.told())})

    async def get_metrics(self, _request: Request) -> Response:
        """Metrics as Prometheus text."""
        return Response(await self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def get_asyncapi(self, _request: Request) -> Response:
        """The channels in Redis, as AsyncAPI."""
        return json_response(self._parts.asyncapi())


def _member(member: Member) -> dict[str, Any]:
    return {**member.info, "id": member.id, "since": member.since}
