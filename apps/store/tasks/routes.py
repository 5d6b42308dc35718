"""The HTTP routes about tasks: which there are, what they take, and what their jobs get by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.positions import Positions
from rota_server.apps.store.http.responses import json_response, page
from rota_server.apps.store.http.routing import Routes
from rota_server.apps.store.jobs.openapi import TEXT, Schema, _json, _list, _object, _parameter, _route
from rota_server.apps.store.tasks.names import TaskNames
from rota_server.apps.store.tasks.suggestions import did_you_mean
from rota_server.domain.builtin.tasks import BUILTIN_TASKS
from rota_server.domain.errors import NotFound

PARAMETER = _object(name=TEXT, required={"type": "boolean"}, types={"type": "array", "items": TEXT})
TASK = _object(
    name=TEXT,
    builtin={"type": "boolean"},
    parameters={"type": ["array", "null"], "items": PARAMETER},
    any_argument={"type": "boolean"},
    defaults={"type": "object"},
)
NAME: Schema = _parameter("name", TEXT, "The task's name.", "path")
LIST_TASKS = _route(_list(TASK))
GET_TASK = _route(_json(TASK), parameters=(NAME,))
OPTIONS = ("queue", "priority", "timeout", "retry", "tags", "unique", "idempotent", "alert")


class TaskRoutes:
    """The handlers."""

    def __init__(self, tasks: TaskNames, positions: Positions) -> None:
        self._tasks = tasks
        self._positions = positions

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        routes = Routes(app, "tasks")
        routes.add("GET", "/v1/tasks", self.list_tasks, **LIST_TASKS)
        routes.add("GET", "/v1/tasks/{name}", self.get_task, **GET_TASK)

    async def list_tasks(self, _: Request) -> Response:
        """All tasks that executors have ever announced, and the built-in ones, by name."""
        known = await self._tasks.announced()
        position = await self._positions.last()
        names = sorted(known.keys() | BUILTIN_TASKS)
        return json_response(page([_view(name, known.get(name)) for name in names], position, None))

    async def get_task(self, request: Request) -> Response:
        """One task."""
        name = request.path_params["name"]
        known = await self._tasks.announced(name)
        if name not in BUILTIN_TASKS and name not in known:
            hint = did_you_mean(name, known.keys() | BUILTIN_TASKS)
            raise NotFound(f"no executor has announced this task{hint}", field="name")
        return json_response(_view(name, known.get(name)))


def _view(name: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """A task as read; `parameters` is null where nothing is known of them."""
    builtin = name in BUILTIN_TASKS
    options = {} if builtin or options is None else options
    types = options.get("types") or {}
    parameters = options.get("parameters")
    return {
        "name": name,
        "builtin": builtin,
        "parameters": [{"name": n, "required": needed, "types": types.get(n, [])} for n, needed in parameters.items()]
        if isinstance(parameters, dict)
        else None,
        "any_argument": bool(options.get("any_keyword")),
        "defaults": {option: options[option] for option in OPTIONS if option in options},
    }
