"""What the store is made of, as roles: its application knows no concrete adapter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from rota_server.adapters.group_commit import GroupCommit
from rota_server.domain.ids import Position
from rota_server.domain.inbox import Inbox, InboxState
from rota_server.domain.log import RawEvent
from rota_server.domain.ports.coordination import Coordination
from rota_server.domain.ports.event_log import EventLog
from rota_server.domain.ports.indexes import JobIndex, QueueCounts, ResourceIndex
from rota_server.domain.subscriptions.deliveries import Deliveries


class StoreLog(EventLog, Protocol):
    """The log with what only a store asks of it."""

    async def read_page(self, after: Position, limit: int, limit_bytes: int) -> list[RawEvent]:
        """As `read_raw`, and no more once their data have `limit_bytes`; at least one event, if there are any."""

    async def find_raw(
        self,
        after: Position,
        limit: int,
        limit_bytes: int,
        *,
        stream: UUID | None = None,
        event_type: str | None = None,
        correlation: str | None = None,
    ) -> list[RawEvent]:
        """Events after `after` of a stream, of a type or with a correlation id, in order, as many as fit."""


class OutputPart(Protocol):
    """A piece of what an attempt printed."""

    @property
    def attempt(self) -> int:
        """The attempt, from 1."""

    @property
    def part(self) -> int:
        """The piece's number within its attempt, from 1."""

    @property
    def stream(self) -> str:
        """`stdout` or `stderr`."""

    @property
    def text(self) -> str:
        """What was printed."""

    @property
    def at(self) -> datetime | None:
        """When it was kept."""


class JobLogs(Protocol):
    """Reads what tasks printed."""

    async def read(self, job_id: UUID, *, after: tuple[int, int], limit: int) -> Sequence[OutputPart]:
        """Parts behind (attempt, part), in order."""


class TaskCatalog(Protocol):
    """The tasks that executors have announced."""

    async def all(self) -> dict[str, dict[str, Any]]:
        """Every announced task with its options."""


class Obstacle(Protocol):
    """A session at the database that keeps Rota from `what`; as text a sentence that says who it is."""

    @property
    def what(self) -> str:
        """`writing`, `leadership`, `publishing` or `the inbox`."""

    @property
    def pid(self) -> int:
        """PostgreSQL's process."""


class LimitFacts(Protocol):
    """What the leader has kept of the limits. Every method may raise Unavailable."""

    async def holders(self, queue: str, key: str | None, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """How many jobs count against the limits of the queue (of the key, if given), and the first of them."""

    async def meter(self, queue: str, key: str) -> Mapping[str, Any] | None:
        """The state of the meter of a rate, None when nothing has started lately. Key "": of the queue itself."""

    async def ahead(self, lane: str, since: Position) -> int:
        """How many jobs wait in this line since before this position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemCounts:
    """What the metrics say of the whole system. `queued` by (queue, priority), `states` by state."""

    log_position: int
    scheduler_position: int
    running: int
    queued: dict[tuple[str, str], int]
    states: dict[str, int]
    inbox: InboxState
    obstacles: Sequence[Obstacle] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that the application needs. `catalog` None: any task's name is accepted.

    `ready` answers the schema's revision and raises Unavailable while the store cannot serve.
    """

    log: StoreLog
    commit: GroupCommit
    index: JobIndex
    resources: ResourceIndex
    deliveries: Deliveries
    queues: QueueCounts
    limits: LimitFacts
    logs: JobLogs
    inbox: Inbox
    catalog: TaskCatalog | None
    coordination: Coordination
    now: Callable[[], datetime]
    ready: Callable[[], Awaitable[str]]
    count: Callable[[], Awaitable[SystemCounts]]
    obstacles: Callable[[], Awaitable[Sequence[Obstacle]]]
    asyncapi: Callable[[], dict[str, Any]]
