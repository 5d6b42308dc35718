"""Reading what the log amounts to now: jobs, resources, queues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from rota_server.domain.ids import Position, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRow:
    """One row of `jobs`: a job's current status."""

    id: UUID
    version: Version
    position: Position
    first_position: Position
    state: str
    attempt: int
    queue: str
    priority: str
    task: str
    tags: Mapping[str, str]
    submitted_at: datetime
    changed_at: datetime
    due_at: datetime | None
    key: str | None = None
    lane: str | None = None
    waits_since: Position | None = None
    origin_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRow:
    """One row of `resources`: the current state of a schedule, a queue, a workflow ... See ResourceHead."""

    id: UUID
    kind: str
    name: str
    version: Version
    position: Position
    first_position: Position
    doc: Mapping[str, Any]
    active: bool
    due_at: datetime | None
    created_at: datetime
    changed_at: datetime


class ResourceIndex(Protocol):
    """Reads the current state of resources. Every method may raise Unavailable."""

    async def get(self, ids: Sequence[UUID]) -> dict[UUID, ResourceRow]:
        """The rows of these resources; unknown ones are missing."""

    async def by_name(self, kind: str, names: Sequence[str]) -> dict[str, ResourceRow]:
        """The rows of this kind with these names; unknown ones are missing."""

    async def find(
        self,
        kind: str,
        *,
        active: bool | None = None,
        doc: Mapping[str, Any] | None = None,
        before: Position | None = None,
        limit: int,
    ) -> list[ResourceRow]:
        """Newest first by `first_position`; those made before position `before`, whose doc contains `doc`."""

    async def due(self, kind: str, until: datetime, limit: int) -> Sequence[tuple[UUID, datetime]]:
        """Resources with `due_at` up to `until`, and that instant, earliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list or an action means; None matches all. Instants are compared with `submitted_at`."""

    state: str | None = None
    queue: str | None = None
    task: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None
    origin_id: UUID | None = None
    key: str | None = None


class JobIndex(Protocol):
    """Reads the current status of jobs."""

    async def get(self, job_ids: Sequence[UUID]) -> dict[UUID, HeadRow]:
        """The rows of these jobs; unknown ones are missing."""

    async def find(self, where: JobFilter, *, before: Position | None, limit: int) -> list[HeadRow]:
        """Matching jobs, newest first by `first_position`; those submitted before position `before`."""

    async def count(self, where: JobFilter) -> int:
        """How many jobs match."""

    async def timers(self, until: datetime, limit: int) -> Sequence[tuple[UUID, datetime]]:
        """Jobs with `due_at` up to `until`, and that instant, earliest first."""

    async def queued(self, after: Position, limit: int) -> list[HeadRow]:
        """Queued jobs whose last change has a position above `after`, in order of position."""

    def scan_queued(self, streams: Sequence[tuple[str, str]]) -> AsyncIterator[list[HeadRow]]:
        """All jobs queued in one of these (queue, priority), in batches of bounded size, those submitted first first.

        What changes meanwhile may be in it or not.
        """

    async def queue_counts(self) -> dict[tuple[str, str], int]:
        """How many jobs are queued in each (queue, priority)."""

    async def in_line(self, lane: str, after: Position, limit: int) -> Sequence[tuple[UUID, Position]]:
        """Jobs that wait in this line since a position above `after`, and that position, first come first."""

    async def in_lines(
        self, lanes: Sequence[tuple[str, Position]], limit: int
    ) -> dict[str, list[tuple[UUID, Position]]]:
        """As `in_line` for several lines and their positions, at most `limit` jobs of each."""

    async def lanes(self) -> Sequence[tuple[str, int]]:
        """Every line in which a job waits, and how many do."""

    async def states_of_origin(self, origin_id: UUID) -> dict[str, int]:
        """How many jobs that this schedule, workflow, batch or trigger has made are in each state."""

    async def states_of_origins(self, origin_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
        """As `states_of_origin`, for several; one that has made no jobs is missing."""

    async def awaited(self) -> Sequence[tuple[UUID, UUID]]:
        """Every (predecessor, dependent) that is still waited for."""

    async def dependents(self, predecessors: Sequence[UUID]) -> Sequence[tuple[UUID, UUID]]:
        """Those of `awaited` with these predecessors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """A queue's jobs, as the leader saw them a moment ago: in line for its limits, on its work streams, running.

    `oldest_at`: since when the oldest of those that do not run waits. Attempts that started and were over in a minute.
    """

    waiting: int = 0
    queued: int = 0
    running: int = 0
    oldest_at: datetime | None = None
    started_per_minute: int = 0
    ended_per_minute: int = 0


class QueueCounts(Protocol):
    """Counts the jobs of queues."""

    async def figures(self, names: Sequence[str] | None) -> dict[str, QueueFigures]:
        """Of these queues; None: of all that have anything to count. Raises Unavailable."""
