"""The HTTP routes about the system itself."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from apps.store.answers import json_response, page
from apps.store.positions import Positions
from domain.errors import Unavailable
from domain.ports import Coordination, Member
from observability.metrics import StoreGauges

Check = Callable[[], Awaitable[str]]
GAUGES_SECONDS = 5.0


def system_routes(
    coordination: Coordination,
    positions: Positions,
    ready: Check,
    refresh: Callable[[StoreGauges], Awaitable[None]],
    asyncapi: Callable[[], dict[str, Any]],
) -> APIRouter:
    """The router. `ready` raises Unavailable while the store can not serve."""
    router = APIRouter(tags=["system"])
    gauges = StoreGauges()
    refreshed_at = -GAUGES_SECONDS

    @router.get("/v1/executors")
    async def executors(request: Request) -> Response:
        """The executors that are alive."""
        await positions.at_least(request)
        found = await coordination.members("executor")
        return json_response(page([_member(m) for m in found], await positions.last()))

    @router.get("/v1/cluster")
    async def cluster() -> Response:
        """Who leads, in which term, and who is alive."""
        leader = await coordination.leader()
        members = {role: await coordination.members(role) for role in ("store", "scheduler", "executor")}
        return json_response(
            {
                "leader": None if leader is None else _member(leader),
                "term": None if leader is None else leader.info.get("term"),
                "members": {role: [_member(m) for m in found] for role, found in members.items()},
                "position": await positions.last(),
            }
        )

    @router.get("/healthz")
    async def healthz() -> Response:
        """The process is alive."""
        return json_response({"status": "alive"})

    @router.get("/readyz")
    async def readyz() -> Response:
        """The store is able to serve: PostgreSQL answers, with the right schema."""
        return json_response({"status": "ready", "revision": await ready()})

    @router.get("/metrics")
    async def metrics() -> Response:
        """Metrics as Prometheus text."""
        nonlocal refreshed_at
        if time.monotonic() - refreshed_at > GAUGES_SECONDS:
            try:
                await refresh(gauges)
            except Unavailable:
                gauges.log_position.set(float("nan"))
            refreshed_at = time.monotonic()
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/asyncapi")
    async def asyncapi_document() -> Response:
        """The channels in Redis, as AsyncAPI."""
        return json_response(asyncapi())

    return router


def _member(member: Member) -> dict[str, Any]:
    fields = asdict(member)
    return {"id": fields["id"], "since": fields["since"], **member.info}
