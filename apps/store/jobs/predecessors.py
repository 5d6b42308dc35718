"""What a job waits for, from a request: ids of jobs, workflows and batches, or names of nodes. Checked completely."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, WithJsonSchema

from rota_server.domain.errors import Rejected
from rota_server.domain.jobs.spec import After, OnFailure, Outcome, Predecessor
from rota_server.domain.ports.indexes import JobIndex, ResourceIndex

PREDECESSORS_LIMIT = 5_000
IDS_LIMIT = 100_000
"""Different ids that the jobs of one request may wait for."""

LOOKUP = 5_000
"""Ids that are looked up together."""

GROUPS = ("workflow", "batch")


class PredecessorRequest(BaseModel):
    """Another job, workflow or batch, and which end of it is waited for; `name`: what its result is called."""

    model_config = ConfigDict(extra="forbid", strict=True)

    job: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
    outcome: Literal["succeeded", "failed", "ended"] = "succeeded"
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,100}$")] | None = None


_OBJECT: dict[str, Any] = {
    "type": "object",
    "required": ["job"],
    "properties": {
        "job": {"type": "string"},
        "outcome": {"type": "string", "enum": ["succeeded", "failed", "ended"], "default": "succeeded"},
        "name": {"type": "string"},
    },
}
PredecessorItem = Annotated[
    PredecessorRequest,
    BeforeValidator(lambda value: {"job": value} if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, _OBJECT]}),
]


class Streams(NamedTuple):
    """What can be waited for: nodes of the same workflow by name, and streams that exist."""

    names: Mapping[str, UUID] = {}
    ids: Collection[UUID] = frozenset()


def after_of(
    items: Sequence[PredecessorRequest], mode: Literal["all", "any"], on_failure: OnFailure, streams: Streams
) -> After | None:
    """The checked dependencies, None when there are none. Raises Rejected that names the entry (`after.0`)."""
    predecessors: dict[UUID, Predecessor] = {}
    names: set[str] = set()
    for place, item in enumerate(items):
        field = f"after.{place}"
        found = _predecessor(item, field, streams)
        if found.id in predecessors:
            raise Rejected(f"{field}: {item.job} is named twice", field=field, code="invalid-argument")
        if found.name in names:
            raise Rejected(f"{field}: two results would be called {found.name}", field=field, code="invalid-argument")
        predecessors[found.id] = found
        names.add(found.name)
    return After(predecessors=tuple(predecessors.values()), mode=mode, on_failure=on_failure) if predecessors else None


def _predecessor(item: PredecessorRequest, field: str, streams: Streams) -> Predecessor:
    outcome: Outcome = item.outcome
    if item.job in streams.names:
        return Predecessor(id=streams.names[item.job], name=item.name or item.job, outcome=outcome)
    identity = _uuid(item.job)
    if identity is None:
        what = "is no job of this workflow, and not the id of another" if streams.names else "is not the id of a job"
        raise Rejected(f"{field}: {item.job!r} {what}", field=field, code="unknown-job")
    if identity not in streams.ids:
        raise Rejected(f"{field}: there is no job, workflow or batch {identity}", field=field, code="unknown-job")
    return Predecessor(id=identity, name=item.name or str(identity), outcome=outcome)


def ids_in(requests: Iterable[Any]) -> set[UUID]:
    """All ids that these requests, not checked yet, may wait for."""
    found: set[UUID] = set()
    for request in requests:
        items = request.get("after") if isinstance(request, dict) else None
        for item in items[:PREDECESSORS_LIMIT] if isinstance(items, list) else ():
            text = item.get("job") if isinstance(item, dict) else item
            identity = _uuid(text) if isinstance(text, str) else None
            if identity is not None:
                found.add(identity)
    return found


async def existing(ids: set[UUID], jobs: JobIndex, resources: ResourceIndex) -> frozenset[UUID]:
    """Those of the ids that a job can wait for: jobs, workflows and batches. Raises Rejected, Unavailable."""
    if len(ids) > IDS_LIMIT:
        message = f"after: the jobs of one request wait for more than {IDS_LIMIT} different ones"
        raise Rejected(message, field="after", code="too-large")
    found: set[UUID] = set()
    wanted = list(ids)
    for start in range(0, len(wanted), LOOKUP):
        found.update(await jobs.get(wanted[start : start + LOOKUP]))
    wanted = [identity for identity in wanted if identity not in found]
    for start in range(0, len(wanted), LOOKUP):
        rows = await resources.get(wanted[start : start + LOOKUP])
        found.update(identity for identity, row in rows.items() if row.kind in GROUPS)
    return frozenset(found)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
