"""Reads and changes resources (schedules, queues, workflows ...): load, decide, append, again on a conflict.

What may be done with a resource of some kind its own rules in `domain` say; nothing here knows any kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from starlette.requests import Request
from uuid_utils.compat import uuid7

from rota_server.apps.store.http.requests import LIST_LIMIT, cursor_for, cursor_of, number
from rota_server.apps.store.managed_queues import ManagedQueues
from rota_server.apps.store.parts import Parts
from rota_server.domain.errors import NotFound, Unavailable
from rota_server.domain.events import Event
from rota_server.domain.ids import Position, Version, resource_id
from rota_server.domain.log import Appended, Meta, ResourceHead, StreamWrite, Unit
from rota_server.domain.ports.indexes import ResourceIndex, ResourceRow

MAX_ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceChange:
    """What is to be appended: the resource's events and its state after them, and other streams' writes with it."""

    events: Sequence[Event]
    head: ResourceHead
    others: Sequence[StreamWrite] = ()


class Changed(NamedTuple):
    """The resource as it is now, and the position of the last event written; `new`: this request wrote something."""

    row: ResourceRow
    position: Position
    new: bool


Decide = Callable[[ResourceRow | None, datetime], ResourceChange | None]


class Resources:
    """Resources of all kinds. `modes` is told of managed queues that the log speaks of."""

    def __init__(self, parts: Parts, modes: ManagedQueues | None = None) -> None:
        self._index: ResourceIndex = parts.resources
        self._commit = parts.commit
        self._now = parts.now
        self.modes = modes or ManagedQueues(parts.resources)

    async def load(self, kind: str, reference: str) -> ResourceRow:
        """The resource with this id or name. Raises NotFound."""
        row = await self.find(kind, reference)
        if row is None:
            raise NotFound(f"there is no {kind} {reference[:200]!r}", field="id")
        return row

    async def find(self, kind: str, reference: str) -> ResourceRow | None:
        """As `load`; None when there is none."""
        by_name = (await self._index.by_name(kind, [reference])).get(reference) if "\x00" not in reference else None
        if by_name is not None:
            return by_name
        try:
            identity = UUID(reference)
        except ValueError:
            return None
        row = (await self._index.get([identity])).get(identity)
        return row if row is not None and row.kind == kind else None

    async def named(self, kind: str, names: Sequence[str]) -> dict[str, ResourceRow]:
        """Those of this kind with these names; unknown ones are missing."""
        return await self._index.by_name(kind, names)

    async def every(self, kind: str) -> list[ResourceRow]:
        """All resources of a kind of which there are few, newest first."""
        rows: list[ResourceRow] = []
        before = None
        while True:
            found = await self._index.find(kind, before=before, limit=LIST_LIMIT)
            rows += found
            if len(found) < LIST_LIMIT:
                return rows
            before = found[-1].first_position

    async def page(
        self, request: Request, kind: str, *, active: bool | None = None, doc: Mapping[str, Any] | None = None
    ) -> tuple[list[ResourceRow], str | None]:
        """One page of a list, newest first, and the cursor of the next one."""
        limit = number(request, "limit", 50, low=1, high=LIST_LIMIT)
        before = cursor_of(request)
        rows = await self._index.find(kind, active=active, doc=doc, before=before, limit=limit + 1)
        following = cursor_for(rows[limit - 1].first_position) if len(rows) > limit else None
        return rows[:limit], following

    async def change(self, stream_id: UUID, decide: Decide, meta: Meta) -> Changed:
        """Append what `decide` says about the resource as it is (None: it does not exist); None: nothing.

        `decide` is asked again when somebody else was quicker; what it raises comes through. Raises Unavailable.
        """
        for _ in range(MAX_ROUNDS):
            row = (await self._index.get([stream_id])).get(stream_id)
            change = decide(row, self._now())
            if change is None:
                if row is None:
                    raise NotFound("there is no such thing", field="id")
                return Changed(row, row.position, new=False)
            expected = Version(0 if row is None else row.version)
            write = StreamWrite(stream_id=stream_id, expected_version=expected, events=change.events, head=change.head)
            unit = Unit(id=uuid7(), writes=[write, *change.others], meta=meta)
            result = await self._commit.append(unit)
            if isinstance(result, Appended):
                return Changed(_after(row, stream_id, change, result), result.last_position, new=True)
            if result.queue is not None:
                self.modes.refused(result.queue)
        raise Unavailable("the resource changed in every round", server="postgres")


def stream_of(kind: str, row: ResourceRow | None, name: str) -> UUID:
    """The stream of a resource that may not exist yet."""
    return resource_id(kind, name) if row is None else row.id


def _after(row: ResourceRow | None, stream_id: UUID, change: ResourceChange, result: Appended) -> ResourceRow:
    head = change.head
    last = Position(result.first_position + len(change.events) - 1)
    version = Version((0 if row is None else row.version) + len(change.events))
    at = result.recorded_at
    if row is not None:
        return replace(
            row, version=version, position=last, doc=head.doc, active=head.active, due_at=head.due_at, changed_at=at
        )
    return ResourceRow(
        id=stream_id,
        kind=head.kind,
        name=head.name,
        version=version,
        position=last,
        first_position=result.first_position,
        doc=head.doc,
        active=head.active,
        due_at=head.due_at,
        created_at=at,
        changed_at=at,
    )
