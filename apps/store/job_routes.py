"""The HTTP routes of jobs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapters.postgres.job_logs import PostgresJobLogs
from apps.store import schemas
from apps.store.answers import events_response, json_response, page, written
from apps.store.intake import JobRequest, load_json, parse_instant
from apps.store.jobs import Jobs, Submitted
from apps.store.positions import Positions
from apps.store.problems import problem_of
from apps.store.requests import (
    BULK_LIMIT_BYTES,
    LIST_LIMIT,
    at_of,
    cursor_for,
    cursor_of,
    filter_of,
    job_id_of,
    meta_of,
    number,
    read_body,
    read_json,
    read_options,
)
from apps.store.views import job_view
from domain import commands as c
from domain.errors import NotFound, Rejected, RotaError
from domain.ports import JobIndex
from observability import tracing

BULK_LIMIT = 10_000
ACTION_PAGE = 500
ACTION_LIMIT = 100_000


def job_routes(jobs: Jobs, index: JobIndex, log: Any, logs: PostgresJobLogs, positions: Positions) -> APIRouter:  # noqa: C901, PLR0915
    """The router, over the store's parts."""
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @router.post("", **schemas.body(JobRequest, 201, "The job was accepted."))
    async def submit(request: Request) -> Response:
        """Submit a job. `200` with the first job when the `Idempotency-Key` was used before."""
        parent = tracing.valid_traceparent(request.headers.get("traceparent"))
        if not tracing.enabled():
            return await _submit(request, parent)
        with tracing.span("POST /v1/jobs", parent=parent, kind="server") as span:
            return await _submit(request, span.traceparent)

    async def _submit(request: Request, traceparent: str | None) -> Response:
        value = await read_json(request)
        key = request.headers.get("idempotency-key")
        answer = await jobs.submit(value, key, meta_of(request, traceparent))
        job = answer.job
        status = 201 if answer.created else 200
        return written(job_view(job), job.position, status, location=f"/v1/jobs/{job.id}")

    @router.post("/bulk", **schemas.bulk(JobRequest))
    async def submit_bulk(request: Request) -> Response:
        """Submit up to 10,000 jobs, as a JSON array or NDJSON; one result each, in order."""
        parent = tracing.valid_traceparent(request.headers.get("traceparent"))
        with tracing.span("POST /v1/jobs/bulk", parent=parent, kind="server") as span:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            body = await read_body(request, BULK_LIMIT_BYTES)
            values = _ndjson(body) if kind in ("application/x-ndjson", "application/ndjson") else load_json(body)
            if not isinstance(values, list):
                raise Rejected("the body is a JSON array of jobs", code="wrong-type")
            if not 1 <= len(values) <= BULK_LIMIT:
                raise Rejected(f"1 to {BULK_LIMIT} jobs in one request, not {len(values)}", code="too-many")
            bad = {i: v for i, v in enumerate(values) if isinstance(v, Rejected)}
            meta = meta_of(request, span.traceparent)
            requests = [{} if i in bad else v for i, v in enumerate(values)]
            answers = await jobs.submit_all(requests, [None] * len(values), meta)
            results = [_bulk_result(bad.get(i) or answer) for i, answer in enumerate(answers)]
            last = max((a.job.position for a in answers if isinstance(a, Submitted)), default=0)
            return written({"results": results}, last)

    @router.post("/actions", **schemas.actions())
    async def act_on_many(request: Request) -> Response:
        """Cancel, retry or reschedule all jobs that match a filter; `dry_run` counts them."""
        fields = frozenset({"action", "filter", "dry_run", "reason", "run_at"})
        options = await read_options(request, fields)
        wanted = options.get("filter")
        if not isinstance(wanted, dict) or not wanted:
            raise Rejected("filter: a JSON object with at least one filter", field="filter", code="missing")
        tags = wanted.get("tag", [])
        where = filter_of(wanted, [tags] if isinstance(tags, str) else tags)
        command = _command(options.get("action"), options, field="action")
        if options.get("dry_run") not in (None, True, False):
            raise Rejected("dry_run: must be true or false", field="dry_run", code="invalid-argument")
        if options.get("dry_run"):
            return json_response({"matched": await index.count(where), "done": 0, "refused": 0, "dry_run": True})
        meta = meta_of(request, None)
        matched = done = refused = last = 0
        before = None
        while matched < ACTION_LIMIT and (rows := await index.find(where, before=before, limit=ACTION_PAGE)):
            before = rows[-1].first_position
            for row in rows:
                matched += 1
                try:
                    last = max(last, (await jobs.act(row.id, command, meta)).position)
                    done += 1
                except Rejected:
                    refused += 1
        return written({"matched": matched, "done": done, "refused": refused, "dry_run": False}, last)

    @router.get("", **schemas.job_list())
    async def list_jobs(request: Request) -> Response:
        """Jobs that match the filters, newest first."""
        await positions.at_least(request)
        limit = number(request, "limit", 50, low=1, high=LIST_LIMIT)
        where = filter_of(request.query_params, request.query_params.getlist("tag"))
        if "schedule" in request.query_params:
            return json_response(page([], await positions.last()))
        position = await positions.last()
        rows = await index.find(where, before=cursor_of(request), limit=limit + 1)
        found = await jobs.get_all([row.id for row in rows[:limit]])
        following = cursor_for(rows[limit - 1].first_position) if len(rows) > limit else None
        return json_response(page([job_view(job) for job in found], position, following))

    @router.get("/{id}")
    async def get(request: Request) -> Response:
        """The job as its own stream says; `?at=<position or instant>`: as it was then."""
        await positions.at_least(request)
        return json_response(job_view(await jobs.get(job_id_of(request), at=at_of(request))))

    @router.get("/{id}/events")
    async def history(request: Request) -> Response:
        """The job's history."""
        await positions.at_least(request)
        events = await log.read_stream_raw(job_id_of(request))
        if not events:
            raise NotFound(f"there is no job {job_id_of(request)}", field="id")
        return events_response(events, await positions.last())

    @router.get("/{id}/logs")
    async def output(request: Request) -> Response:
        """What the job's attempts printed, in pieces."""
        job_id = job_id_of(request)
        after = cursor_of(request) or 0
        place = (after >> 32, after & 0xFFFFFFFF)
        parts = await logs.read(job_id, after=place, limit=1001)
        if not parts:
            await jobs.get(job_id)
        following = cursor_for(parts[999].attempt << 32 | parts[999].part) if len(parts) > 1000 else None
        items = [
            {"attempt": p.attempt, "part": p.part, "stream": p.stream, "text": p.text, "at": p.at} for p in parts[:1000]
        ]
        return json_response(page(items, await positions.last(), following))

    def add_action(action: str, allowed: frozenset[str]) -> None:
        async def endpoint(request: Request) -> Response:
            options = await read_options(request, allowed)
            command = _command(action, options, field=None)
            parent = tracing.valid_traceparent(request.headers.get("traceparent"))
            job = await jobs.act(job_id_of(request), command, meta_of(request, parent))
            return written(job_view(job), job.position)

        endpoint.__doc__ = f"Ask for the job's {action}, with an optional `reason`."
        router.post(f"/{{id}}/{action}", name=action)(endpoint)

    add_action("cancel", frozenset({"reason"}))
    add_action("retry", frozenset({"reason"}))
    add_action("reschedule", frozenset({"reason", "run_at"}))
    return router


def _command(action: Any, options: dict[str, Any], *, field: str | None) -> c.Command:
    reason = options.get("reason")
    match action:
        case "cancel":
            return c.RequestCancel(reason=reason)
        case "retry":
            return c.RetryJob(reason=reason)
        case "reschedule":
            if "run_at" not in options:
                raise Rejected("run_at: when should it run?", field="run_at", code="missing")
            try:
                run_at = parse_instant(options["run_at"])
            except ValueError as error:
                raise Rejected(f"run_at: {error}", field="run_at", code="invalid-argument") from None
            return c.RescheduleJob(run_at=run_at, reason=reason)
    raise Rejected("action: one of cancel, retry, reschedule", field=field, code="invalid-argument")


def _ndjson(body: bytes) -> list[Any]:
    """One value a line; a line that is no JSON becomes its own refusal."""
    values: list[Any] = []
    for line in body.split(b"\n"):
        if not line.strip():
            continue
        if len(values) > BULK_LIMIT:
            break
        try:
            values.append(load_json(line))
        except Rejected as error:
            values.append(error)
    return values


def _bulk_result(answer: Submitted | Rejected | RotaError) -> dict[str, Any]:
    if isinstance(answer, Submitted):
        return {"status": 201 if answer.created else 200, "id": answer.job.id}
    assert isinstance(answer, Rejected)  # noqa: S101 - nothing else is put there
    document = problem_of(answer)
    return {"status": document["status"], "problem": document}
