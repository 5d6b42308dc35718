"""The HTTP routes that explain jobs, schedules, workflows, batches, and what waits in the inbox."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.requests import instant_of, job_id_of
from rota_server.apps.store.http.responses import json_response
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.jobs import openapi
from rota_server.apps.store.why.inbox import WhyInbox
from rota_server.apps.store.why.jobs import Why
from rota_server.apps.store.why.ticks import WhyTicks
from rota_server.apps.store.why.workflows import WhyWorkflows
from rota_server.apps.store.workflows.routes import reference_of


class WhyRoutes:
    """The handlers."""

    def __init__(
        self, why: Why, ticks: WhyTicks, workflows: WhyWorkflows, inbox: WhyInbox, positions: Positions
    ) -> None:
        self._why = why
        self._ticks = ticks
        self._workflows = workflows
        self._inbox = inbox
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        Routes(app, "jobs").add("GET", "/v1/jobs/{id}/why", self.explain_job, **openapi.EXPLAIN_JOB)
        Routes(app, "schedules").add("GET", "/v1/schedules/{id}/why", self.explain_tick, **openapi.EXPLAIN_TICK)
        Routes(app, "workflows").add("GET", "/v1/workflows/{id}/why", self.explain_workflow, **openapi.EXPLAIN_JOB)
        Routes(app, "batches").add("GET", "/v1/batches/{id}/why", self.explain_batch, **openapi.EXPLAIN_JOB)
        Routes(app, "inbox").add("GET", "/v1/inbox/{id}/why", self.explain_inbox, **openapi.EXPLAIN_JOB)

    async def explain_job(self, request: Request) -> Response:
        """Why the job is not running, or why it ended as it did."""
        job_id = job_id_of(request)
        await self._positions.at_least(request)
        return json_response(await self._why.explain(job_id))

    async def explain_tick(self, request: Request) -> Response:
        """What became of the nominal time `at`, and why; without `at`: what the schedule waits for now."""
        text = request.query_params.get("at")
        at = None if text is None else instant_of(text, "at")
        await self._positions.at_least(request)
        return json_response(await self._ticks.explain(str(request.path_params["id"]), at))

    async def explain_workflow(self, request: Request) -> Response:
        """Why the workflow goes on, or ended as it did."""
        await self._positions.at_least(request)
        return json_response(await self._workflows.explain("workflow", reference_of(request, "workflow")))

    async def explain_batch(self, request: Request) -> Response:
        """Why the batch goes on, or ended as it did."""
        await self._positions.at_least(request)
        return json_response(await self._workflows.explain("batch", reference_of(request, "batch")))

    async def explain_inbox(self, request: Request) -> Response:
        """Why a transaction's job is not in the log yet, or was refused."""
        return json_response(await self._inbox.explain(job_id_of(request)))
