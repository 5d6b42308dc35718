"""What a scheduler works with: roles, filled by its composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from rota_server.apps.scheduler.metrics import SchedulerMetrics
from rota_server.domain.admission.admission import AdmissionChange, AdmittedJob
from rota_server.domain.ids import Position
from rota_server.domain.jobs.dependencies import Status
from rota_server.domain.jobs.spec import After
from rota_server.domain.leader_state import RunningAttempt
from rota_server.domain.log import RawEvent
from rota_server.domain.messaging import Feed, Publisher, WorkStreams
from rota_server.domain.ports.coordination import Coordination
from rota_server.domain.ports.event_log import EventLog
from rota_server.domain.ports.indexes import JobIndex, ResourceIndex
from rota_server.domain.subscriptions.deliveries import Deliveries


class Projection(Protocol):
    """Keeps what the leader's state needs to begin with. Every method may raise Unavailable."""

    async def load(self) -> tuple[Position, list[RunningAttempt], dict[tuple[str, str], int]]:
        """The checkpoint, the attempts that run there, and how many jobs are queued there."""

    async def load_admission(
        self, position: Position
    ) -> tuple[dict[str, AdmittedJob], dict[tuple[str, str], dict[str, Any]]]:
        """What was admitted and had not started at this checkpoint, and the meters' states. Raises NotLeader."""

    async def checkpoint(self) -> Position:
        """The position up to which it is true."""

    async def save(
        self,
        *,
        old: Position,
        new: Position,
        started: Sequence[RunningAttempt],
        ended: Sequence[UUID],
        counts: Mapping[tuple[str, str], int],
        admission: AdmissionChange | None = None,
    ) -> bool:
        """Move the checkpoint from `old` to `new` with what happened between; False: somebody else moved it."""


class QueueFlow(Protocol):
    """Keeps what the leader sees of queues. May raise Unavailable."""

    async def save_flow(self, flow: Mapping[str, tuple[int, int]], oldest: Mapping[str, Position]) -> None:
        """Replace what is said of all queues: starts and ends in the last minute, the oldest dispatch not taken."""


class TaskAlerts(Protocol):
    """Knows what executors have announced. May raise Unavailable."""

    async def alerts(self) -> Mapping[str, Any]:
        """The alerts that tasks are declared with, by the task's name. Nobody has checked them."""


class Clock(Protocol):
    """PostgreSQL's time."""

    @property
    def offset_seconds(self) -> float:
        """How far this machine's clock is behind, when last measured."""

    def now(self) -> datetime:
        """The present instant."""

    async def sample(self) -> float:
        """Measure and return the offset. Raises Unavailable."""


class SchedulerLog(EventLog, Protocol):
    """The log with what only a scheduler asks of it."""

    async def read_types(
        self, after: Position, until: Position, types: Sequence[str] | None, limit: int
    ) -> list[RawEvent]:
        """Up to `limit` events of these types (None: all) with positions above `after` and up to `until`, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerParts:
    """What a scheduler works with. `refuse_private`: whether webhooks must be at public addresses."""

    event_log: SchedulerLog
    index: JobIndex
    resources: ResourceIndex
    tasks: TaskAlerts
    deliveries: Deliveries
    queue_flow: QueueFlow
    dependencies: DependencyTable
    projection: Projection
    feed: Feed
    streams: WorkStreams
    publisher: Publisher
    coordination: Coordination
    clock: Clock
    metrics: SchedulerMetrics
    refuse_private: bool = False


class DependencyTable(Protocol):
    """Who waits for whom, as the log's append has entered it. Every method may raise Unavailable."""

    async def load(self) -> tuple[list[tuple[str, str]], list[str], list[str]]:
        """All (predecessor, dependent); dependents of which a predecessor has ended; dependents that wait no more."""

    async def afters(self, dependents: Sequence[str]) -> dict[str, After]:
        """What these wait for in detail; one that does not wait for others is missing."""

    async def statuses(self, predecessors: Sequence[str]) -> dict[str, Status]:
        """The present state of these jobs, workflows and batches."""

    async def forget(self, dependents: Sequence[str]) -> set[str]:
        """Forget whom these waited for, unless they wait; those that was done for."""
