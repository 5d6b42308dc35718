"""What the rules need from the outside, as roles. Adapters implement these; one contract suite tests each role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from domain.ids import Position, Term, Version
from domain.log import AppendResult, RawEvent, Recorded, Unit

LAST_VERSION = 2**31 - 1


class EventLog(Protocol):
    """The append-only log. Positions are dense and in commit order; every method may raise Unavailable."""

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        """Commit every unit whose streams are at their expected versions; one answer a unit, in order.

        Units must not share a stream within one call. A unit that is in the log already (same unit id) is
        answered as appended, so a call whose outcome is unknown may simply be repeated.

        Raises:
            NotLeader: a term greater than `fence` is in force; nothing was written.
            Unavailable: nobody knows whether it was written; call again with the same units.
        """

    async def read(self, after: Position, limit: int) -> list[Recorded]:
        """Up to `limit` events that follow position `after`, in order."""

    async def read_raw(self, after: Position, limit: int) -> list[RawEvent]:
        """As `read`, undecoded."""

    async def read_stream_page(
        self, stream_id: UUID, after: int, limit: int, limit_bytes: int | None = None
    ) -> list[RawEvent]:
        """Up to `limit` events of one stream after version `after`, undecoded, in order.

        No more once their data have `limit_bytes`; at least one event, if there are any.
        """

    async def read_changes_page(
        self, stream_id: UUID, after: int, limit: int, limit_bytes: int, upto: int = LAST_VERSION
    ) -> list[RawEvent]:
        """As `read_stream_page` up to version `upto`, but of what `domain.jobs` calls reports only the last one.

        Of these a stream may hold very many, and no other one counts.
        """

    async def read_streams_within(
        self, after: Mapping[UUID, int], limit: int, limit_bytes: int
    ) -> dict[UUID, list[Recorded]] | None:
        """The events of several streams after a version of each; streams without any are missing from the answer.

        None when these are more than `limit` events in all, or their data have more than `limit_bytes`.
        """

    async def last_version(self, stream_id: UUID) -> Version:
        """The version of the stream's last event, 0 when there is none."""

    async def last_position(self) -> Position:
        """The position of the last event, 0 for an empty log."""

    async def wait_for_append(self, after: Position, timeout_seconds: float) -> None:
        """Return when something was probably appended behind `after`, at the latest after the timeout."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A process that is alive as far as the coordination service knows. `info` is what it said of itself."""

    id: str
    role: str
    since: datetime
    info: Mapping[str, Any]


class Registration(Protocol):
    """This process's own entry among the members.

    In doubt is not lost: a server that does not answer for a while may have told nobody that this process is gone.
    """

    @property
    def certain_since(self) -> float | None:
        """Since when (`time.monotonic`) nobody can have taken this process for dead; None when somebody may.

        By this process's own clock, from when it last asked for a proof and got one. It ends before others see the
        entry vanish, and may begin again.
        """

    @property
    def lost(self) -> bool:
        """Whether the entry is known to be gone."""

    async def wait_lost(self) -> None:
        """Return when the registration is lost. It never comes back; register anew under another id."""

    async def update(self, info: Mapping[str, Any]) -> None:
        """Replace what this process says of itself."""


class Leadership(Protocol):
    """A won election, valid while `held`."""

    @property
    def term(self) -> Term:
        """Greater than that of every earlier leader; entered in the log's fence already."""

    @property
    def held(self) -> bool:
        """Whether deciding is still allowed, by this process's own monotonic clock. False for good once lost."""

    async def wait_lost(self) -> None:
        """Return when the leadership is lost or no longer certain."""


class Fence(Protocol):
    """The term of leadership in force; the log refuses what carries an older one."""

    async def enter(self, term: Term, node: str) -> None:
        """Put the term in force.

        Raises:
            NotLeader: it is not greater than the one in force.
            Unavailable: nobody knows whether it is in force now.
        """


class Coordination(Protocol):
    """Who leads and who is alive."""

    def elect(self, node: str, info: Mapping[str, Any]) -> AbstractAsyncContextManager[Leadership]:
        """Wait until this node leads; leaving the context gives the lead up.

        A leadership that was lost is never won again: enter a new context.
        """

    def register(self, role: str, member_id: str, info: Mapping[str, Any]) -> AbstractAsyncContextManager[Registration]:
        """Make this process visible among the members of `role` while the context lasts."""

    async def members(self, role: str) -> list[Member]:
        """Who is alive in this role. Raises Unavailable when that can not be known now."""

    def watch_members(self, role: str) -> AsyncIterator[list[Member]]:
        """The members now and after each change, for as long as it is iterated."""

    async def leader(self) -> Member | None:
        """Who leads now; `info` carries its `term`."""
