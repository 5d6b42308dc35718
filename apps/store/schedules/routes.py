"""The HTTP routes about schedules."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.fields import check_key
from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.requests import (
    LIST_LIMIT,
    at_of,
    cursor_for,
    cursor_of,
    meta_of,
    number,
    read_json,
    read_options,
    traceparent_of,
)
from rota_server.apps.store.http.responses import json_response, page, written
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.resources import Changed
from rota_server.apps.store.schedules import openapi as schemas
from rota_server.apps.store.schedules.backfills import Backfills
from rota_server.apps.store.schedules.handlers import Act, Schedules, schedule_of
from rota_server.apps.store.schedules.previews import Previews
from rota_server.apps.store.schedules.tick_lists import TickLists
from rota_server.apps.store.schedules.views import next_of, schedule_view, tick_view
from rota_server.domain.errors import Rejected
from rota_server.domain.log import Recorded
from rota_server.domain.schedules import changes
from rota_server.domain.schedules.events import SKIP_REASONS
from rota_server.domain.schedules.schedule import STATES
from rota_server.observability import tracing

REASON = frozenset({"reason"})
OUTCOMES = ("ticked", "skipped", "queued")


class ScheduleRoutes:
    """The handlers."""

    def __init__(
        self,
        schedules: Schedules,
        backfills: Backfills,
        previews: Previews,
        lists: TickLists,
        positions: Positions,
    ) -> None:
        self._schedules = schedules
        self._lists = lists
        self._backfills = backfills
        self._previews = previews
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "schedules")
        routes.add("POST", "/v1/schedules", self.create_schedule, **schemas.CREATE)
        routes.add("GET", "/v1/schedules", self.list_schedules, **schemas.LIST)
        routes.add("POST", "/v1/schedules/preview", self.preview_schedule, **schemas.PREVIEW)
        routes.add("GET", "/v1/schedules/{id}", self.get_schedule, **schemas.GET)
        routes.add("PATCH", "/v1/schedules/{id}", self.change_schedule, **schemas.CHANGE)
        routes.add("POST", "/v1/schedules/{id}/pause", self.pause_schedule, **schemas.ACT)
        routes.add("POST", "/v1/schedules/{id}/resume", self.resume_schedule, **schemas.ACT)
        routes.add("POST", "/v1/schedules/{id}/archive", self.archive_schedule, **schemas.ACT)
        routes.add("POST", "/v1/schedules/{id}/run", self.run_schedule, **schemas.RUN)
        routes.add("POST", "/v1/schedules/{id}/backfill", self.backfill_schedule, **schemas.BACKFILL)
        routes.add("GET", "/v1/schedules/{id}/ticks", self.list_ticks, **schemas.TICKS)

    async def create_schedule(self, request: Request) -> Response:
        """Create a schedule. `409` when there is one with this name that is not archived."""
        with tracing.span("POST /v1/schedules", parent=traceparent_of(request), kind="server") as span:
            changed = await self._schedules.create(await read_json(request), meta_of(request, span.traceparent))
        return _answer(changed, 201, location=f"/v1/schedules/{changed.row.id}")

    async def list_schedules(self, request: Request) -> Response:
        """Schedules, newest first, those that have ended or are archived included."""
        doc = _filters(request)
        await self._positions.at_least(request)
        position = await self._positions.last()
        rows, following = await self._schedules.page(request, doc)
        items = []
        for row in rows:
            schedule = schedule_of(row)
            items.append(schedule_view(schedule, row.position, next_of(schedule)))
        return json_response(page(items, position, following))

    async def get_schedule(self, request: Request) -> Response:
        """The schedule; `?at=<position or instant>`: as it was then."""
        reference, at = str(request.path_params["id"]), at_of(request)
        await self._positions.at_least(request)
        if at is None:
            schedule, row = await self._schedules.load(reference)
            return json_response(schedule_view(schedule, row.position, next_of(schedule)))
        schedule, position = await self._schedules.at(reference, at)
        return json_response(schedule_view(schedule, position, next_of(schedule)))

    async def change_schedule(self, request: Request) -> Response:
        """Change a schedule: what is not named stays, null brings a default back. A new version of it."""
        reference = str(request.path_params["id"])
        with tracing.span("PATCH /v1/schedules/{id}", parent=traceparent_of(request), kind="server") as span:
            changed = await self._schedules.change(
                reference, await read_json(request), meta_of(request, span.traceparent)
            )
        return _answer(changed)

    async def pause_schedule(self, request: Request) -> Response:
        """No ticks from now on: nominal times are skipped with the reason `paused`."""
        return await self._act(request, "pause", changes.pause)

    async def resume_schedule(self, request: Request) -> Response:
        """Ticks again from now on."""
        return await self._act(request, "resume", changes.resume)

    async def archive_schedule(self, request: Request) -> Response:
        """The end of a schedule. Its history stays, and its name may be used again."""
        return await self._act(request, "archive", changes.archive)

    async def _act(self, request: Request, name: str, act: Act) -> Response:
        reference = str(request.path_params["id"])
        reason = (await read_options(request, REASON)).get("reason")
        with tracing.span(f"POST /v1/schedules/{{id}}/{name}", parent=traceparent_of(request), kind="server") as span:
            changed = await self._schedules.act(reference, act, reason, meta_of(request, span.traceparent))
        return _answer(changed)

    async def run_schedule(self, request: Request) -> Response:
        """Make a job now, whatever the rule says. `200` with the first job when the `Idempotency-Key` was used."""
        reference = str(request.path_params["id"])
        key = check_key(request.headers.get("idempotency-key"))
        reason = (await read_options(request, REASON)).get("reason")
        with tracing.span("POST /v1/schedules/{id}/run", parent=traceparent_of(request), kind="server") as span:
            result = await self._schedules.run(reference, key, reason, meta_of(request, span.traceparent))
        answer = {"job_id": result.job_id, "position": result.position}
        return written(answer, result.position, 201 if result.created else 200, location=f"/v1/jobs/{result.job_id}")

    async def backfill_schedule(self, request: Request) -> Response:
        """Make up for the nominal times of a past range, by what was in force then. Only with `dry_run: false`."""
        reference = str(request.path_params["id"])
        options = await read_options(request, frozenset({"from", "to", "dry_run", "limit", "rate", "reason"}))
        with tracing.span("POST /v1/schedules/{id}/backfill", parent=traceparent_of(request), kind="server") as span:
            answer, position = await self._backfills.run(reference, options, meta_of(request, span.traceparent))
        return written(answer, position) if position else json_response(answer)

    async def list_ticks(self, request: Request) -> Response:
        """What became of nominal times, newest first. A stretch that was skipped as one is one item unless `expand`."""
        wanted = _wanted(request)
        limit = number(request, "limit", 50, low=1, high=LIST_LIMIT)
        before = cursor_of(request)
        await self._positions.at_least(request)
        position = await self._positions.last()
        reference, expand = str(request.path_params["id"]), _flag(request, "expand")
        items, following = await self._lists.page(reference, before, limit, wanted, expand=expand)
        return json_response(page(items, position, None if following is None else cursor_for(following)))

    async def preview_schedule(self, request: Request) -> Response:
        """The next times of a rule that need not be saved, or of a schedule (`schedule`)."""
        return json_response(await self._previews.preview(await read_json(request)))


def _answer(changed: Changed, status: int = 200, **headers: str) -> Response:
    schedule = schedule_of(changed.row)
    view = schedule_view(schedule, changed.row.position, next_of(schedule))
    return written(view, changed.position, status, **headers)


def _filters(request: Request) -> dict[str, Any]:
    """What the rows' documents must contain. Raises Rejected."""
    values = request.query_params
    unknown = set(values) - {"state", "tag", "owner", "task", "queue", "limit", "cursor", "at_least"}
    if unknown:
        name = min(unknown)
        raise Rejected(f"{name}: there is no such filter", field=name, code="unknown-field")
    doc: dict[str, Any] = {}
    state = values.get("state")
    if state is not None:
        if state not in STATES:
            raise Rejected(f"state: must be one of {', '.join(STATES)}", field="state", code="invalid-argument")
        doc["state"] = state
    definition: dict[str, Any] = {}
    for tag in values.getlist("tag"):
        name, separator, value = tag.partition(":")
        if not separator or not name:
            raise Rejected("tag: must be name:value", field="tag", code="invalid-argument")
        definition.setdefault("tags", {})[name] = value
    if "owner" in values:
        definition["owner"] = values["owner"]
    for name in ("task", "queue"):
        if name in values:
            definition.setdefault("job", {})[name] = values[name]
    if definition:
        doc["definition"] = definition
    return doc


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false"):
        raise Rejected(f"{name}: must be true or false", field=name, code="invalid-argument")
    return text == "true"


def _wanted(request: Request) -> Any:
    outcome, reason = request.query_params.get("outcome"), request.query_params.get("reason")
    if outcome is not None and outcome not in OUTCOMES:
        raise Rejected(f"outcome: must be one of {', '.join(OUTCOMES)}", field="outcome", code="invalid-argument")
    if reason is not None and reason not in SKIP_REASONS:
        raise Rejected(f"reason: must be one of {', '.join(SKIP_REASONS)}", field="reason", code="invalid-argument")

    def wanted(recorded: Recorded) -> bool:
        view = tick_view(recorded)
        if view is None or (outcome is not None and view["outcome"] != outcome):
            return False
        return reason is None or (view["outcome"] == "skipped" and view["reason"] == reason)

    return wanted
