"""The HTTP routes about workflows and batches."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.json_body import decode_json, shown
from rota_server.apps.store.http.large_bodies import LargeBodies
from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.requests import media_type, meta_of, read_options, traceparent_of, warn_of_secrets
from rota_server.apps.store.http.responses import json_response, page, written
from rota_server.apps.store.http.routing import Handler, Routes
from rota_server.apps.store.resources import Changed
from rota_server.apps.store.workflows import openapi as schemas
from rota_server.apps.store.workflows.handlers import Workflows, WorkflowView
from rota_server.domain.errors import NotFound, Rejected
from rota_server.domain.workflows.workflow import Kind
from rota_server.observability import tracing

BODY_LIMIT_BYTES = 16 * 1024 * 1024
DECODED_WEIGHT = 4
"""It is decoded as a whole, which takes several times its size."""

REASON = frozenset({"reason"})
LIST_PARAMETERS = frozenset({"limit", "cursor", "at_least", "name", "state"})
STATES = ("running", "cancelling", "succeeded", "failed", "cancelled")


class WorkflowRoutes:
    """The handlers of one kind."""

    def __init__(self, workflows: Workflows, positions: Positions, bodies: LargeBodies) -> None:
        self._bodies = bodies
        self._kind: Kind = workflows.kind
        self._place = "/v1/workflows" if self._kind == "workflow" else "/v1/batches"
        self._workflows = workflows
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "workflows" if self._kind == "workflow" else "batches")
        described = schemas.of(self._kind)
        for method, path, name, handler in (
            ("POST", "", "submit", self._submit),
            ("GET", "", "list", self._list),
            ("GET", "/{id}", "get", self._get),
            ("POST", "/{id}/cancel", "cancel", self._cancel),
            ("POST", "/{id}/retry", "retry", self._retry),
        ):
            routes.add(method, self._place + path, _named(handler, f"{name}_{self._kind}"), **described[name])

    async def _submit(self, request: Request) -> Response:
        """Submit all of its jobs, or none. `200` with the first one when the `Idempotency-Key` was used before."""
        with tracing.span(f"POST {self._place}", parent=traceparent_of(request), kind="server") as span:
            meta = meta_of(request, span.traceparent)
            media_type(request, "application/json")
            async with self._bodies.read(request, BODY_LIMIT_BYTES, weight=DECODED_WEIGHT) as body:
                value = await decode_json(body)
                warn_of_secrets(request, value)
                changed = await self._workflows.submit(value, request.headers.get("idempotency-key"), meta)
        status = 201 if changed.new else 200
        view = await self._view(changed)
        return written(view, changed.position, status, location=f"{self._place}/{changed.row.id}")

    async def _list(self, request: Request) -> Response:
        """Newest first; `name` and `state` choose."""
        doc = _filter(request)
        await self._positions.at_least(request)
        position = await self._positions.last()
        found, following = await self._workflows.page(request, doc)
        return json_response(page([workflow_view(one) for one in found], position, following))

    async def _get(self, request: Request) -> Response:
        """The status of the whole, how many jobs are in each state, and of a workflow each job."""
        reference = reference_of(request, self._kind)
        await self._positions.at_least(request)
        row = await self._workflows.load(reference)
        found = await self._workflows.view(row)
        view = workflow_view(found)
        if self._kind == "workflow":
            nodes = await self._workflows.nodes(row)
            view["jobs"] = {
                node: {"id": job_id, "state": None if head is None else head.state, "after": after}
                for node, (after, job_id, head) in nodes.items()
            }
        elif found.workflow.then is not None:
            head = await self._workflows.job(UUID(found.workflow.then))
            view["then"] = {"id": found.workflow.then, "state": None if head is None else head.state}
        return json_response(view)

    async def _cancel(self, request: Request) -> Response:
        """Ask for the end of all jobs that have not ended."""
        reference = reference_of(request, self._kind)
        with tracing.span(f"POST {self._place}/cancel", parent=traceparent_of(request), kind="server") as span:
            options = await read_options(request, REASON)
            changed = await self._workflows.cancel(reference, options.get("reason"), meta_of(request, span.traceparent))
        return written(await self._view(changed), changed.position)

    async def _retry(self, request: Request) -> Response:
        """Let those jobs run again that did not succeed; those that were left out wait again."""
        reference = reference_of(request, self._kind)
        with tracing.span(f"POST {self._place}/retry", parent=traceparent_of(request), kind="server") as span:
            options = await read_options(request, REASON)
            changed = await self._workflows.retry(reference, options.get("reason"), meta_of(request, span.traceparent))
        return written(await self._view(changed), changed.position)

    async def _view(self, changed: Changed) -> dict[str, Any]:
        return workflow_view(await self._workflows.view(changed.row))


def _named(handler: Handler, name: str) -> Handler:
    """The handler under a name of its own, which OpenAPI needs: both kinds have the same handlers."""

    async def route(request: Request) -> Response:
        return await handler(request)

    route.__name__ = name
    route.__doc__ = handler.__doc__  # what OpenAPI says of it
    return route


def workflow_view(found: WorkflowView) -> dict[str, Any]:
    """The workflow or batch as JSON (instants are left to the encoder)."""
    row, workflow = found.row, found.workflow
    view: dict[str, Any] = {
        "id": row.id,
        "name": workflow.name,
        "state": workflow.state,
        "total": workflow.total,
        "counts": dict(found.counts),
        "reason": workflow.reason,
        "submitted_at": row.created_at,
        "ended_at": None if workflow.active else row.changed_at,
        "version": row.version,
        "position": row.position,
        "idempotency_key": workflow.idempotency_key,
    }
    if workflow.kind == "batch":
        view["then"] = None if workflow.then is None else {"id": workflow.then}
    return view


def reference_of(request: Request, kind: Kind) -> str:
    """Return the id in the request's path. Raises NotFound when it is none."""
    text = str(request.path_params["id"])
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFound(f"{text[:100]!r} is not the id of a {kind}", field="id") from None


def _filter(request: Request) -> dict[str, Any]:
    values = request.query_params
    for unknown in set(values) - LIST_PARAMETERS:
        raise Rejected(f"{shown(unknown)}: there is no such filter", field=unknown, code="unknown-field")
    state, name = values.get("state"), values.get("name")
    if state is not None and state not in STATES:
        raise Rejected(f"state: must be one of {', '.join(STATES)}", field="state", code="invalid-argument")
    if name is not None and "\x00" in name:
        raise Rejected("name: must be a text", field="name", code="invalid-argument")
    return {key: value for key, value in (("state", state), ("name", name)) if value is not None}
