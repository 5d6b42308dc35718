"""From a request's bytes to the checked jobs of a workflow or batch. What is wrong is refused with its place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rota_server.apps.store.http.json_body import shown
from rota_server.apps.store.jobs.parsing import parse_job
from rota_server.apps.store.jobs.predecessors import Streams, existing, ids_in
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.tasks.names import TaskNames
from rota_server.domain.builtin.tasks import BUILTIN_TASKS
from rota_server.domain.errors import Rejected
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.workflows.graphs import find_circle, in_order
from rota_server.domain.workflows.workflow import BATCH_LIMIT, EDGES_LIMIT, NODES_LIMIT, member_id

NODE_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
TITLE_LIMIT_CHARS = 200
TURN = 50
"""Jobs that are checked before others get a turn."""

BATCH = "batch"
"""What the job behind a batch calls the batch."""

PATH_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The jobs of a group by name, in an order in which predecessors come first; `then` is the one behind a batch.

    `graph`: whom each node of a workflow waits for, as it was asked for.
    """

    name: str | None
    jobs: Mapping[str, JobSpec]
    graph: Mapping[str, list[str]]
    then: JobSpec | None = None


class WorkflowRequests:
    """Checks requests against what executors have announced and what exists."""

    def __init__(self, parts: Parts, tasks: TaskNames) -> None:
        self._parts = parts
        self._tasks = tasks

    async def workflow(self, value: Any, workflow_id: UUID) -> Members:
        """The jobs of a workflow. Raises Rejected, Unavailable."""
        value = _object(value, {"name", "jobs"})
        name, jobs = _title(value.get("name"), required=True), value.get("jobs")
        if not isinstance(jobs, dict):
            code = "missing" if jobs is None else "wrong-type"
            raise Rejected("jobs: must be an object of jobs by name", field="jobs", code=code)
        _check_count(jobs, NODES_LIMIT)
        for node in jobs:
            if not NODE_NAME.fullmatch(node):
                message = f"jobs.{shown(node)}: a name has 1 to 100 letters, digits, '.', '_' and '-'"
                raise Rejected(message, field=f"jobs.{shown(node)}", code="invalid-argument")
        ids = {node: member_id(workflow_id, node) for node in jobs}
        specs = await self._parse_all(jobs, ids)
        graph = _graph(specs, {identity: node for node, identity in ids.items()})
        ordered = _ordered(graph)
        return Members(
            name=name,
            jobs={node: specs[node] for node in ordered},
            graph={node: graph[node] for node in ordered},
        )

    async def batch(self, value: Any, workflow_id: UUID) -> Members:
        """The jobs of a batch and the one behind it. Raises Rejected, Unavailable."""
        value = _object(value, {"name", "jobs", "then"})
        name, jobs, then = _title(value.get("name"), required=False), value.get("jobs"), value.get("then")
        if not isinstance(jobs, list):
            raise Rejected(
                "jobs: must be a list of jobs", field="jobs", code="missing" if jobs is None else "wrong-type"
            )
        _check_count(jobs, BATCH_LIMIT)
        specs = await self._parse_all({str(place): job for place, job in enumerate(jobs)}, {})
        return Members(
            name=name, jobs=specs, graph={}, then=None if then is None else await self._then(then, workflow_id)
        )

    async def _then(self, value: Any, workflow_id: UUID) -> JobSpec:
        if isinstance(value, dict) and "after" not in value:
            value = {**value, "after": [{"job": BATCH, "outcome": "ended"}]}
        try:
            (spec,) = (await self._parse_all({"then": value}, {BATCH: workflow_id}, prefix="")).values()
        except Rejected as error:
            raise error if error.field != "then.after" else _not_behind() from None
        if spec.after is None or workflow_id not in {predecessor.id for predecessor in spec.after.predecessors}:
            raise _not_behind()
        return spec

    async def _parse_all(
        self, requests: Mapping[str, Any], names: Mapping[str, UUID], *, prefix: str = "jobs."
    ) -> dict[str, JobSpec]:
        asked = {r["task"] for r in requests.values() if isinstance(r, dict) and isinstance(r.get("task"), str)}
        known = await self._tasks.including(asked - BUILTIN_TASKS)
        ids = ids_in(requests.values())
        found = await existing(ids, self._parts.index, self._parts.resources) if ids else frozenset[UUID]()
        streams = Streams(names, found)
        now = self._parts.now()
        specs: dict[str, JobSpec] = {}
        for number, (name, request) in enumerate(requests.items()):
            if number % TURN == 0:
                await asyncio.sleep(0)
            try:
                _refuse_key(request)
                specs[name] = parse_job(request, now, known, streams)
            except Rejected as error:
                raise _placed(error, f"{prefix}{name}") from None
        return specs


def _object(value: Any, fields: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Rejected("the body must be a JSON object", code="wrong-type")
    for name in value:
        if name not in fields:
            raise Rejected(f"{shown(name)}: there is no such field", field=name, code="unknown-field")
    return value


def _title(name: Any, *, required: bool) -> str | None:
    if name is None and not required:
        return None
    if not isinstance(name, str) or not 1 <= len(name) <= TITLE_LIMIT_CHARS or not name.isprintable():
        message = f"name: must be a text of 1 to {TITLE_LIMIT_CHARS} printable characters"
        raise Rejected(message, field="name", code="missing" if name is None else "invalid-argument")
    return name


def _check_count(jobs: Any, limit: int) -> None:
    if not 1 <= len(jobs) <= limit:
        raise Rejected(f"jobs: must hold 1 to {limit} jobs, not {len(jobs)}", field="jobs", code="wrong-count")


def _refuse_key(request: Any) -> None:
    if isinstance(request, dict) and request.get("idempotency_key") is not None:
        message = "idempotency_key: the whole has one, in the header Idempotency-Key"
        raise Rejected(message, field="idempotency_key", code="invalid-argument")


def _placed(error: Rejected, place: str) -> Rejected:
    """The refusal of one job as a refusal of the whole."""
    if error.field is None:
        return Rejected(f"{place}: {error.message}", field=place, code=error.code)
    separator = "." if error.message.startswith(error.field) else ": "
    return Rejected(f"{place}{separator}{error.message}", field=f"{place}.{error.field}", code=error.code)


def _graph(specs: Mapping[str, JobSpec], names: Mapping[UUID, str]) -> dict[str, list[str]]:
    """Whom each node waits for: names of nodes, and ids of what is outside of the workflow. Raises Rejected."""
    graph: dict[str, list[str]] = {}
    edges = 0
    for node, spec in specs.items():
        predecessors = () if spec.after is None else spec.after.predecessors
        edges += len(predecessors)
        if edges > EDGES_LIMIT:
            message = f"jobs: its jobs wait for others more than {EDGES_LIMIT} times in all"
            raise Rejected(message, field=f"jobs.{node}.after", code="too-large")
        graph[node] = [names.get(predecessor.id, str(predecessor.id)) for predecessor in predecessors]
    return graph


def _ordered(graph: Mapping[str, list[str]]) -> list[str]:
    """The nodes, predecessors first. Raises Rejected when some wait for each other in a circle."""
    inside = {node: [name for name in waits_for if name in graph] for node, waits_for in graph.items()}
    circle = find_circle(inside)
    if circle is None:
        return in_order(inside)
    shown_part = circle[:PATH_SHOWN]
    path = " → ".join([*shown_part, "..." if len(circle) > PATH_SHOWN else circle[0]])
    field = f"jobs.{circle[0]}.after"
    message = f"{field}: {len(circle)} jobs wait for each other in a circle: {path}"
    raise Rejected(message if len(circle) > 1 else f"{field}: the job waits for itself", field=field, code="circle")


def _not_behind() -> Rejected:
    message = f"then.after: must name {BATCH!r}, which this job comes behind"
    return Rejected(message, field="then.after", code="invalid-argument")
