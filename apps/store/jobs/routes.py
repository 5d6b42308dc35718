"""The HTTP routes that submit and read jobs."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.large_bodies import LargeBodies
from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.problems import problem_of
from rota_server.apps.store.http.requests import (
    BULK_LIMIT_BYTES,
    LIST_LIMIT,
    at_of,
    cursor_for,
    cursor_of,
    job_id_of,
    keywords_of,
    media_type,
    meta_of,
    number,
    read_json,
    traceparent_of,
    warn_of_secrets,
)
from rota_server.apps.store.http.responses import events_response, json_response, page, written
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.jobs import openapi
from rota_server.apps.store.jobs.bulk_body import array_body, lines_body
from rota_server.apps.store.jobs.filters import filter_of_query
from rota_server.apps.store.jobs.handlers import Jobs
from rota_server.apps.store.jobs.submissions import SubmitResult, Submitted
from rota_server.apps.store.jobs.views import job_view
from rota_server.apps.store.parts import Parts
from rota_server.domain.errors import NotFound, Rejected, Unavailable
from rota_server.domain.log import Meta
from rota_server.observability import tracing

BULK_LIMIT = 10_000
NDJSON = ("application/x-ndjson", "application/ndjson")
EVENTS_LIMIT = 1000
EVENTS_BYTES = 8 * 1024 * 1024
OUTPUT_LIMIT = 1000
PART_LIMIT = 2**31 - 1


class JobRoutes:
    """The handlers."""

    def __init__(self, parts: Parts, jobs: Jobs, positions: Positions, bodies: LargeBodies) -> None:
        self._bodies = bodies
        self._log = parts.log
        self._index = parts.index
        self._logs = parts.logs
        self._jobs = jobs
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "jobs")
        routes.add("POST", "/v1/jobs", self.submit_job, **openapi.SUBMIT)
        routes.add("POST", "/v1/jobs/bulk", self.submit_jobs, **openapi.SUBMIT_BULK)
        routes.add("GET", "/v1/jobs", self.list_jobs, **openapi.LIST_JOBS)
        routes.add("GET", "/v1/jobs/{id}", self.get_job, **openapi.GET_JOB)
        routes.add("GET", "/v1/jobs/{id}/events", self.get_job_events, **openapi.GET_JOB_EVENTS)
        routes.add("GET", "/v1/jobs/{id}/logs", self.get_job_logs, **openapi.GET_JOB_LOGS)

    async def submit_job(self, request: Request) -> Response:
        """Submit a job. `200` with the first job when the `Idempotency-Key` was used before."""
        parent = traceparent_of(request)
        if not tracing.enabled():
            return await self._submit(request, parent)
        with tracing.span("POST /v1/jobs", parent=parent, kind="server") as span:
            return await self._submit(request, span.traceparent)

    async def _submit(self, request: Request, traceparent: str | None) -> Response:
        meta = meta_of(request, traceparent)
        value = await read_json(request)
        answer = await self._jobs.submit(value, request.headers.get("idempotency-key"), meta, keywords_of(request))
        job = answer.job
        return written(job_view(job), job.position, 201 if answer.created else 200, location=f"/v1/jobs/{job.id}")

    async def submit_jobs(self, request: Request) -> Response:
        """Submit up to 10,000 jobs, as a JSON array or NDJSON; one result each, in order."""
        with tracing.span("POST /v1/jobs/bulk", parent=traceparent_of(request), kind="server") as span:
            meta = meta_of(request, span.traceparent)
            if "idempotency-key" in request.headers:
                message = "Idempotency-Key: give each job of a bulk request its own field idempotency_key"
                raise Rejected(message, field="Idempotency-Key", code="invalid-argument")
            kind = media_type(request, "application/json", *NDJSON)
            async with self._bodies.read(request, BULK_LIMIT_BYTES) as body:
                found = lines_body(body, BULK_LIMIT) if kind in NDJSON else await array_body(body, BULK_LIMIT)
                answers: list[SubmitResult] = []
                async for group in found.groups():
                    warn_of_secrets(request, group)
                    answers += await self._submit_group(group, meta, first=not answers)
        away = [answer for answer in answers if isinstance(answer, Unavailable)]
        if len(away) == len(answers):
            raise away[0]
        last = max((a.job.position for a in answers if isinstance(a, Submitted)), default=0)
        return written({"results": [_bulk_result(answer) for answer in answers]}, last)

    async def _submit_group(self, group: list[Any], meta: Meta, *, first: bool) -> list[SubmitResult]:
        """What became of each; once something of the request is in the log, nothing may refuse it as a whole."""
        try:
            return await self._jobs.submit_many(group, meta)
        except (Rejected, Unavailable) as error:
            if first:
                raise
            return [error] * len(group)

    async def list_jobs(self, request: Request) -> Response:
        """Jobs that match the filters, newest first."""
        where = filter_of_query(request)
        limit = number(request, "limit", 50, low=1, high=LIST_LIMIT)
        before = cursor_of(request)
        await self._positions.at_least(request)
        position = await self._positions.last()
        rows = await self._index.find(where, before=before, limit=limit + 1)
        found = await self._jobs.get_all([row.id for row in rows[:limit]])
        following = cursor_for(rows[limit - 1].first_position) if len(rows) > limit else None
        return json_response(page([job_view(job) for job in found], position, following))

    async def get_job(self, request: Request) -> Response:
        """The job as its own stream says; `?at=<position or instant>`: as it was then."""
        job_id, at = job_id_of(request), at_of(request)
        await self._positions.at_least(request)
        return json_response(job_view(await self._jobs.get(job_id, at=at)))

    async def get_job_events(self, request: Request) -> Response:
        """The job's history, up to 1,000 events a page."""
        job_id, after = job_id_of(request), cursor_of(request) or 0
        limit = min(EVENTS_LIMIT, number(request, "limit", EVENTS_LIMIT, low=1))
        await self._positions.at_least(request)
        position = await self._positions.last()
        first = await self._log.read_stream_page(job_id, 0, 1)
        if not first or (first[0].type != "JobSubmitted" and not await self._index.get([job_id])):
            raise NotFound(f"there is no job {job_id}", field="id")
        events = await self._log.read_stream_page(job_id, after, limit, EVENTS_BYTES)
        last = events[-1].version if events else 0
        more = await self._log.read_stream_page(job_id, last, 1) if events else []
        return events_response(events, position, cursor_for(last) if more else None)

    async def get_job_logs(self, request: Request) -> Response:
        """What the job's attempts printed, in pieces."""
        job_id, after = job_id_of(request), cursor_of(request) or 0
        limit = number(request, "limit", OUTPUT_LIMIT, low=1, high=OUTPUT_LIMIT)
        await self._positions.at_least(request)
        position = await self._positions.last()
        place = (after >> 32, min(after & 0xFFFFFFFF, PART_LIMIT))
        found = await self._logs.read(job_id, after=place, limit=limit + 1)
        if not found:
            await self._jobs.get(job_id)
        last = found[limit - 1] if len(found) > limit else None
        following = None if last is None else cursor_for(last.attempt << 32 | last.part)
        items = [
            {"attempt": p.attempt, "part": p.part, "stream": p.stream, "text": p.text, "at": p.at}
            for p in found[:limit]
        ]
        return json_response(page(items, position, following))


def _bulk_result(answer: SubmitResult) -> dict[str, Any]:
    if isinstance(answer, Submitted):
        return {"status": 201 if answer.created else 200, "id": answer.job.id, "position": answer.job.position}
    document = problem_of(answer)
    return {"status": document["status"], "problem": document}
