"""The HTTP routes that change jobs: one by its id, or all that match a filter."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.fields import parse_instant
from rota_server.apps.store.http.requests import job_id_of, meta_of, read_options, traceparent_of
from rota_server.apps.store.http.responses import json_response, written
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.jobs import openapi
from rota_server.apps.store.jobs.filters import filter_of_json
from rota_server.apps.store.jobs.handlers import Jobs
from rota_server.apps.store.jobs.views import job_view
from rota_server.apps.store.parts import Parts
from rota_server.domain.errors import Rejected, Unavailable
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.job import Job
from rota_server.domain.log import Meta
from rota_server.domain.ports.indexes import JobFilter
from rota_server.observability import tracing

PAGE = 200
"""Jobs that are loaded and changed together."""

ACTION_LIMIT = 100_000
"""Jobs that one request may change; the answer says whether there may be more."""

REASON = frozenset({"reason"})
MANY = frozenset({"action", "filter", "dry_run", "reason", "run_at"})


class JobActions:
    """The handlers."""

    def __init__(self, parts: Parts, jobs: Jobs) -> None:
        self._index = parts.index
        self._jobs = jobs

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "jobs")
        routes.add("POST", "/v1/jobs/actions", self.change_jobs, **openapi.CHANGE_JOBS)
        routes.add("POST", "/v1/jobs/{id}/cancel", self.cancel_job, **openapi.CHANGE_JOB)
        routes.add("POST", "/v1/jobs/{id}/retry", self.retry_job, **openapi.CHANGE_JOB)
        routes.add("POST", "/v1/jobs/{id}/release", self.release_job, **openapi.CHANGE_JOB)
        routes.add("POST", "/v1/jobs/{id}/reschedule", self.reschedule_job, **openapi.RESCHEDULE_JOB)

    async def cancel_job(self, request: Request) -> Response:
        """Ask for the job's end, whatever it does now."""
        return await self._change(request, "cancel", REASON)

    async def retry_job(self, request: Request) -> Response:
        """Run an ended job again with a fresh retry budget, or a retrying one at once."""
        return await self._change(request, "retry", REASON)

    async def release_job(self, request: Request) -> Response:
        """Let a job run that waits for others, as if what it waits for had come true."""
        return await self._change(request, "release", REASON)

    async def reschedule_job(self, request: Request) -> Response:
        """Do not start the job before `run_at`."""
        return await self._change(request, "reschedule", REASON | {"run_at"})

    async def _change(self, request: Request, action: str, allowed: frozenset[str]) -> Response:
        job_id = job_id_of(request)
        with tracing.span(f"POST /v1/jobs/{{id}}/{action}", parent=traceparent_of(request), kind="server") as span:
            command = _command(action, await read_options(request, allowed))
            job = await self._jobs.act(job_id, command, meta_of(request, span.traceparent))
        return written(job_view(job), job.position)

    async def change_jobs(self, request: Request) -> Response:
        """Cancel, retry, release or reschedule all jobs that match a filter; `dry_run` counts them."""
        options = await read_options(request, MANY)
        action, dry_run = options.get("action"), options.get("dry_run")
        if "run_at" in options and action != "reschedule":
            raise Rejected("run_at: only goes with reschedule", field="run_at", code="invalid-argument")
        command = _command(action, options)
        where = filter_of_json(options.get("filter"))
        if not isinstance(dry_run, bool | None):
            raise Rejected("dry_run: must be true or false", field="dry_run", code="invalid-argument")
        if dry_run:
            matched = await self._index.count(where)
            return json_response({"dry_run": True, "matched": matched, "done": 0, "refused": 0, "complete": True})
        with tracing.span("POST /v1/jobs/actions", parent=traceparent_of(request), kind="server") as span:
            answer, last = await self._change_all(where, command, meta_of(request, span.traceparent))
        return written(answer, last)

    async def _change_all(self, where: JobFilter, command: c.Command, meta: Meta) -> tuple[dict[str, Any], int]:
        """What became of the jobs, and the greatest position written."""
        matched = done = refused = last = 0
        before = None
        complete = False
        while not complete and matched < ACTION_LIMIT:
            rows = await self._index.find(where, before=before, limit=PAGE)
            complete = len(rows) < PAGE
            if not rows:
                break
            before = rows[-1].first_position
            matched += len(rows)
            for result in await self._jobs.act_on_all([row.id for row in rows], command, meta):
                if isinstance(result, Job):
                    done += 1
                    last = max(last, result.position)
                elif isinstance(result, Unavailable):
                    raise result
                else:
                    refused += 1
        counts = {"matched": matched, "done": done, "refused": refused, "complete": complete}
        return {"dry_run": False, **counts}, last


def _command(action: Any, options: dict[str, Any]) -> c.Command:
    reason = options.get("reason")
    match action:
        case "cancel":
            return c.RequestCancel(reason=reason)
        case "retry":
            return c.RetryJob(reason=reason)
        case "release":
            return c.MeetDependencies(by_hand=True, reason=reason)
        case "reschedule":
            return c.RescheduleJob(run_at=_run_at(options.get("run_at")), reason=reason)
    message = "action: must be one of cancel, retry, release, reschedule"
    raise Rejected(message, field="action", code="missing" if action is None else "invalid-argument")


def _run_at(value: Any) -> Any:
    if value is None:
        raise Rejected("run_at: when should it run?", field="run_at", code="missing")
    try:
        return parse_instant(value)
    except ValueError as error:
        raise Rejected(f"run_at: {error}", field="run_at", code="invalid-argument") from None
