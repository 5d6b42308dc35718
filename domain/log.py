"""What is written to the event log and what is read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from rota_server.domain.events import Event
from rota_server.domain.ids import Position, Term, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Who and what caused a unit. `traceparent` as in W3C Trace Context.

    `correlation_id` is what all events of one story share, `causation_id` the event's position or the request
    that led to this one. `depth`: how many triggers the story has gone through.
    """

    actor: str
    request_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    term: Term | None = None
    unit: UUID | None = None
    schema: int = 1
    depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHead:
    """The current status of a job, kept in its row of `jobs` by the append that changes it.

    `due_at` is the next instant at which something has to happen by the clock, None when nothing has to. `lane` is the
    line in which the job waits for the limits of its queue and key, None while it does not. `origin_id` is what made it
    (a schedule, a workflow ...). `awaits` are the streams whose ends it waits for.
    """

    state: str
    attempt: int
    queue: str
    priority: str
    task: str
    tags: Mapping[str, str]
    due_at: datetime | None
    key: str | None = None
    lane: str | None = None
    origin_id: UUID | None = None
    awaits: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceHead:
    """The current state of a stream that is not a job (a schedule, a queue, a workflow ...), kept by its append.

    `name` is unique within `kind` and never changes. `doc` is the whole state as a JSON object, so that nobody has to
    fold a long stream. `active` and `due_at` mean what the kind says; a queue is active while the leader manages it.
    """

    kind: str
    name: str
    doc: Mapping[str, Any]
    active: bool = True
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWrite:
    """Events to add to one stream at the version after `expected_version` (0: the stream must not exist).

    `head` is the new status of the job or resource; None for a stream that is neither.
    """

    stream_id: UUID
    expected_version: Version
    events: Sequence[Event]
    head: JobHead | ResourceHead | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Writes that stand or fall together. `id` makes a repeated append recognisable."""

    id: UUID
    writes: Sequence[StreamWrite]
    meta: Meta


class Appended(NamedTuple):
    """The unit is in the log, at these positions (both inclusive), recorded at this instant."""

    first_position: Position
    last_position: Position
    recorded_at: datetime


class Conflicted(NamedTuple):
    """The unit is not in the log: one of its streams is not at the expected version.

    With `queue`: the versions are as expected, but the leader manages this queue now, and the unit would have
    dispatched a job there. Decide again, knowing that.
    """

    stream_id: UUID
    queue: str | None = None


AppendResult = Appended | Conflicted


class Recorded(NamedTuple):
    """One event as the log has it."""

    position: Position
    stream_id: UUID
    version: Version
    event: Event
    meta: Meta
    recorded_at: datetime


class RawEvent(NamedTuple):
    """One event as stored, undecoded; `data` and `meta` are the exact JSON texts."""

    position: Position
    stream_id: UUID
    version: Version
    type: str
    recorded_at: datetime
    data: str
    meta: str
