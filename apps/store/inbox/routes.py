"""The HTTP routes about the inbox: how full it is, and what was refused."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.requests import LIST_LIMIT, cursor_for, cursor_of, job_id_of, number
from rota_server.apps.store.http.responses import json_response, page, written
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.jobs import openapi
from rota_server.apps.store.parts import Parts
from rota_server.domain.errors import NotFound
from rota_server.domain.inbox import RejectedItem


class InboxRoutes:
    """The handlers."""

    def __init__(self, parts: Parts, positions: Positions) -> None:
        self._inbox = parts.inbox
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "inbox")
        routes.add("GET", "/v1/inbox", self.get_inbox, **openapi.GET_INBOX)
        routes.add("POST", "/v1/inbox/{id}/retry", self.retry_rejected, **openapi.ACT_ON_REJECTED)
        routes.add("DELETE", "/v1/inbox/{id}", self.drop_rejected, **openapi.ACT_ON_REJECTED)

    async def get_inbox(self, request: Request) -> Response:
        """How many jobs of users' transactions wait, since when, and those that were refused, in order."""
        limit = number(request, "limit", 50, low=1, high=LIST_LIMIT)
        after = cursor_of(request) or 0
        position = await self._positions.last()
        state = await self._inbox.state()
        found = await self._inbox.rejected(after, limit + 1)
        following = cursor_for(found[limit - 1].item.place) if len(found) > limit else None
        items = page([_rejected_view(rejected) for rejected in found[:limit]], position, following)
        return json_response({"waiting": state.waiting, "oldest": state.oldest, "rejected": state.rejected, **items})

    async def retry_rejected(self, request: Request) -> Response:
        """Put a refused job in again, at the end."""
        job_id = job_id_of(request)
        return await self._answer(job_id, "waiting", found=await self._inbox.retry(job_id))

    async def drop_rejected(self, request: Request) -> Response:
        """Remove a refused job for good."""
        job_id = job_id_of(request)
        return await self._answer(job_id, "dropped", found=await self._inbox.drop(job_id))

    async def _answer(self, job_id: UUID, state: str, *, found: bool) -> Response:
        if not found:
            raise NotFound(f"no job {job_id} of the inbox was refused", field="id")
        return written({"id": job_id, "state": state}, await self._positions.last())


def _rejected_view(rejected: RejectedItem) -> dict[str, Any]:
    item = rejected.item
    return {
        "id": item.id,
        "task": item.task,
        "args": orjson.Fragment(item.args),
        "options": orjson.Fragment(item.options),
        "enqueued_by": item.by,
        "enqueued_at": item.enqueued_at,
        "rejected_at": rejected.rejected_at,
        "problem": orjson.Fragment(rejected.problem),
    }
