"""The HTTP route that explains a job."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from apps.store import schemas
from apps.store.answers import json_response
from apps.store.positions import Positions
from apps.store.requests import job_id_of
from apps.store.routing import Routes
from apps.store.why import Why


class WhyRoutes:
    """The handlers."""

    def __init__(self, why: Why, positions: Positions) -> None:
        self._why = why
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        Routes(app, "jobs").add("GET", "/v1/jobs/{id}/why", self.explain_job, **schemas.EXPLAIN_JOB)

    async def explain_job(self, request: Request) -> Response:
        """Why the job is not running, or why it ended as it did."""
        job_id = job_id_of(request)
        await self._positions.at_least(request)
        return json_response(await self._why.explain(job_id))
