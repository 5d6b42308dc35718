"""The HTTP routes about calendars of exclusions."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.fields import Name, rejected
from rota_server.apps.store.http.json_body import decode_json
from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.requests import at_of, media_type, meta_of, read_body, read_options, traceparent_of
from rota_server.apps.store.http.responses import json_response, page, written
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.resources import Changed, Resources
from rota_server.apps.store.schedules import openapi as schemas
from rota_server.apps.store.schedules.calendars import Calendars, calendar_of
from rota_server.apps.store.schedules.views import calendar_view
from rota_server.domain.errors import Rejected
from rota_server.domain.schedules.calendars import KIND
from rota_server.observability import tracing

BODY_LIMIT_BYTES = 4 * 1024 * 1024
"""An iCalendar file of a million characters, as JSON."""


class _Named(BaseModel):
    model_config = ConfigDict(strict=True)

    name: Name
    reason: str | None = Field(None, max_length=1000)


class CalendarRoutes:
    """The handlers."""

    def __init__(self, calendars: Calendars, resources: Resources, positions: Positions) -> None:
        self._calendars = calendars
        self._resources = resources
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "calendars")
        routes.add("POST", "/v1/calendars", self.create_calendar, **schemas.CREATE_CALENDAR)
        routes.add("GET", "/v1/calendars", self.list_calendars, **schemas.LIST_CALENDARS)
        routes.add("GET", "/v1/calendars/{id}", self.get_calendar, **schemas.GET_CALENDAR)
        routes.add("PATCH", "/v1/calendars/{id}", self.change_calendar, **schemas.CHANGE_CALENDAR)
        routes.add("POST", "/v1/calendars/{id}/archive", self.archive_calendar, **schemas.ARCHIVE_CALENDAR)

    async def create_calendar(self, request: Request) -> Response:
        """Create a calendar: `dates`, `weekly` windows, `intervals`, or the text of an iCalendar file."""
        value = await _body(request)
        try:
            named = _Named.model_validate(value)
        except ValidationError as error:
            raise rejected(error) from None
        definition = {name: found for name, found in value.items() if name not in ("name", "reason")}
        with tracing.span("POST /v1/calendars", parent=traceparent_of(request), kind="server") as span:
            meta = meta_of(request, span.traceparent)
            changed = await self._calendars.create(named.name, definition, named.reason, meta)
        return _answer(changed, 201, location=f"/v1/calendars/{changed.row.id}")

    async def list_calendars(self, request: Request) -> Response:
        """Calendars, newest first."""
        await self._positions.at_least(request)
        position = await self._positions.last()
        rows, following = await self._resources.page(request, KIND)
        items = [calendar_view(calendar_of(row), row.position) for row in rows]
        return json_response(page(items, position, following))

    async def get_calendar(self, request: Request) -> Response:
        """The calendar; `?at=<position or instant>`: as it was then."""
        at = at_of(request)
        await self._positions.at_least(request)
        return json_response(calendar_view(*await self._calendars.get(str(request.path_params["id"]), at)))

    async def change_calendar(self, request: Request) -> Response:
        """Change a calendar, for nominal times from now on. What is not named stays, null takes it away."""
        value = await _body(request)
        reason = value.pop("reason", None)
        if reason is not None and (not isinstance(reason, str) or len(reason) > 1000):
            raise Rejected("reason: must be a text of up to 1000 characters", field="reason", code="invalid-argument")
        if not value:
            raise Rejected("the body names nothing to change", code="missing")
        with tracing.span("PATCH /v1/calendars/{id}", parent=traceparent_of(request), kind="server") as span:
            meta = meta_of(request, span.traceparent)
            changed = await self._calendars.change(str(request.path_params["id"]), value, reason, meta)
        return _answer(changed)

    async def archive_calendar(self, request: Request) -> Response:
        """No schedule may begin to use the calendar any more; those that do keep it."""
        reason = (await read_options(request, frozenset({"reason"}))).get("reason")
        with tracing.span("POST /v1/calendars/{id}/archive", parent=traceparent_of(request), kind="server") as span:
            meta = meta_of(request, span.traceparent)
            changed = await self._calendars.archive(str(request.path_params["id"]), reason, meta)
        return _answer(changed)


async def _body(request: Request) -> dict[str, Any]:
    media_type(request, "application/json")
    value = await decode_json(await read_body(request, BODY_LIMIT_BYTES))
    if not isinstance(value, dict):
        raise Rejected("a calendar is a JSON object", code="wrong-type")
    return value


def _answer(changed: Changed, status: int = 200, **headers: str) -> Response:
    view = calendar_view(calendar_of(changed.row), changed.row.position)
    return written(view, changed.position, status, **headers)
