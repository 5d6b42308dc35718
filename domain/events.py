"""The events of the log: their types, their schema versions, and how old shapes become the current one.

An event's class name is its stored type and never changes once released. A change of shape raises the
class's `schema` and adds an upcaster; stored events are never rewritten. Encoding to JSON is the adapters'
business; what a JSON object means is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Literal, TypeVar, cast
from uuid import UUID

from domain.errors import Unreadable
from domain.retry import RetryPolicy
from domain.specs import After, JobSpec, Origin, Predecessor, Priority, Unique


class Event:
    """Base of all events."""

    __slots__ = ()
    schema: ClassVar[int] = 1

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Event:
        """Build the event from its decoded JSON object in the current schema."""
        return made(cls, data)


E = TypeVar("E", bound=type[Event])
T = TypeVar("T")
REASON_LIMIT_CHARS = 500
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
DispatchReason = Literal["due", "retry", "manual", "missing", "admitted", "dependencies"]
Waits = Literal["limits", "dependencies"]
"""What a waiting job waits for: its place within the limits of queue and key, or other jobs' ends."""

_registry: dict[str, type[Event]] = {}
_upcasters: dict[tuple[str, int], Upcaster] = {}


def event(cls: E) -> E:
    """Register a class of events under its name."""
    if cls.__name__ in _registry:
        raise ValueError(f"event type {cls.__name__} is registered twice")
    _registry[cls.__name__] = cls
    return cls


def upcaster(event_type: str, from_schema: int) -> Callable[[Upcaster], Upcaster]:
    """Register a function that turns `event_type`'s data of schema `from_schema` into the next schema."""

    def register(function: Upcaster) -> Upcaster:
        _upcasters[event_type, from_schema] = function
        return function

    return register


def event_types() -> Mapping[str, type[Event]]:
    """All registered types by their stored name."""
    return _registry


def unreadable_types(schemas: Mapping[str, int]) -> list[str]:
    """Those of the types, stored up to these schemas, that this version of Rota cannot read."""
    return sorted(
        name for name, schema in schemas.items() if (cls := _registry.get(name)) is None or schema > cls.schema
    )


def event_from_json(event_type: str, data: dict[str, Any], schema: int = 1) -> Event:
    """The event that this stored JSON object stands for.

    Fields that are not known are left out: what may not be ignored raises the schema.

    Raises:
        Unreadable: the type is unknown, the schema is newer than this program, or the data do not fit.
    """
    cls = _registry.get(event_type)
    if cls is None:
        raise Unreadable(f"event type {event_type[:100]!r} is not known to this version of Rota")
    if schema > cls.schema:
        raise Unreadable(f"{event_type} has schema {schema}; this version of Rota knows up to {cls.schema}")
    try:
        while schema < cls.schema:
            data = _upcasters[event_type, schema](data)
            schema += 1
        return cls.from_json(data)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Unreadable(f"a stored {event_type} can not be read: {error!r}"[:REASON_LIMIT_CHARS]) from error


def made(cls: Callable[..., T], data: Mapping[str, Any], **nested: Any) -> T:
    """An instance of a dataclass from its JSON object, without what it does not know; `nested` replaces values."""
    try:
        return cls(**{**data, **nested})
    except TypeError:
        known = {found.name for found in fields(cast("Any", cls))}
        return cls(**{key: value for key, value in {**data, **nested}.items() if key in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableEvent(Event):
    """Stands in a history for an event that this version of Rota cannot read; never written."""

    type: str
    reason: str


def named(found: Event) -> str:
    """The event's type, with the reason if it cannot be read."""
    return f"{found.type} ({found.reason})" if isinstance(found, UnreadableEvent) else type(found).__name__


def spec_from_json(data: Mapping[str, Any]) -> JobSpec:
    """The job that this JSON object, as an event or a resource keeps it, stands for. Raises TypeError, ValueError."""
    spec = dict(data)
    spec["retry"] = made(RetryPolicy, spec["retry"])
    if spec.get("after") is not None:
        spec["after"] = after_from_json(spec["after"])
    if spec.get("unique") is not None:
        spec["unique"] = made(Unique, spec["unique"])
    if spec.get("origin") is not None:
        spec["origin"] = made(Origin, spec["origin"], id=UUID(spec["origin"]["id"]))
    spec["run_at"] = _instant(spec["run_at"])
    spec["expires_at"] = _instant(spec["expires_at"])
    return made(JobSpec, spec)


def after_from_json(data: Mapping[str, Any]) -> After:
    """What a job waits for, as its specification keeps it. Raises TypeError, ValueError."""
    predecessors = tuple(made(Predecessor, p, id=UUID(p["id"])) for p in data["predecessors"])
    return made(After, data, predecessors=predecessors)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted(Event):
    """A job was accepted. Without `spec.run_at` and `waits` this is at once its dispatch.

    `request_digest` identifies the request that came with an idempotency key.
    """

    spec: JobSpec
    idempotency_key: str | None = None
    request_digest: str | None = None
    waits: Waits | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobSubmitted:
        """Build nested values from their JSON objects."""
        return made(cls, data, spec=spec_from_json(data["spec"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobDispatched(Event):
    """The job was put onto its work stream; `reason` says why now, `note` what somebody who did it by hand said."""

    queue: str
    priority: Priority
    reason: DispatchReason
    key: str | None = None
    note: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobHeld(Event):
    """The job waits in line for the limits of its queue and key. `was`: the state before."""

    queue: str
    priority: Priority
    was: str
    reason: str
    key: str | None = None
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class DependenciesMet(Event):
    """What the job waited for has come true; its time (`scheduled`) or the limits (`waiting`) still hold it.

    Where nothing does, JobDispatched stands instead. `by_hand`: somebody let it go all the same, and said `note`.
    """

    state: Literal["scheduled", "waiting"]
    queue: str
    priority: Priority
    run_at: datetime | None = None
    key: str | None = None
    by_hand: bool = False
    note: str | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DependenciesMet:
        """Build nested values from their JSON objects."""
        return made(cls, data, run_at=_instant(data.get("run_at")))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """An executor claimed the job; this attempt may run, and no other."""

    attempt: int
    executor: str
    queue: str
    priority: Priority
    timeout_seconds: float | None
    key: str | None = None
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSucceeded(Event):
    """The attempt returned `result`, any JSON value; the job has ended."""

    attempt: int
    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptError:
    """Why an attempt failed: an error class or `Timeout`, `ProcessCrashed`, `Lost` ...; and what it said."""

    type: str
    message: str
    traceback: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Event):
    """The attempt failed. `retry_at` None: there is no further one."""

    attempt: int
    error: AttemptError
    retry_at: datetime | None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AttemptFailed:
        """Build nested values from their JSON objects."""
        error = made(AttemptError, data["error"])
        return made(cls, data, error=error, retry_at=_instant(data["retry_at"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost(Event):
    """Nobody knows how the attempt ended, and nobody will: its executor is gone or does not know it.

    `handed_back`: a stopping executor broke it off, and the job may be repeated at no cost.
    """

    attempt: int
    executor: str
    reason: str
    retry_at: datetime | None
    handed_back: bool = False

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AttemptLost:
        """Build nested values from their JSON objects."""
        return made(cls, data, retry_at=_instant(data["retry_at"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRejected(Event):
    """An attempt that was over already (declared lost, or cancelled) reported; its outcome does not count."""

    attempt: int
    executor: str
    outcome: str
    reason: str


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody wants the running attempt to end; its executor will end it. `cause` as in JobCancelled."""

    attempt: int
    executor: str
    reason: str | None
    cause: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled(Event):
    """The job has ended because that was asked for. `forced`: the task had to be killed. `was`: the state before.

    `cause`: `dependency` when what it waited for can not come true, `replaced` when a unique job took its place.
    """

    attempt: int
    reason: str | None
    was: str
    queue: str
    priority: Priority
    forced: bool = False
    cause: str | None = None
    key: str | None = None
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobDead(Event):
    """The job has failed for good after `attempts` attempts: a dead letter."""

    attempts: int
    reason: str
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobExpired(Event):
    """The job was not started before it expired, and never will be. `was`: the state before."""

    expires_at: datetime
    was: str
    queue: str
    priority: Priority
    key: str | None = None
    origin: str | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobExpired:
        """Build nested values from their JSON objects."""
        return made(cls, data, expires_at=datetime.fromisoformat(data["expires_at"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequeued(Event):
    """Somebody asked for an ended job to run again, with a fresh retry budget and without expiry.

    Without `waits` this is at once its dispatch.
    """

    queue: str
    priority: Priority
    reason: str | None
    waits: Waits | None = None
    key: str | None = None
    origin: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class JobRescheduled(Event):
    """The job is not to run before `run_at`. `was`: the state before."""

    run_at: datetime
    reason: str | None
    was: str
    queue: str
    priority: Priority
    key: str | None = None
    origin: str | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobRescheduled:
        """Build nested values from their JSON objects."""
        return made(cls, data, run_at=datetime.fromisoformat(data["run_at"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReported(Event):
    """The running task said how far it is: `fraction` between 0 and 1."""

    attempt: int
    fraction: float | None
    message: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class EventPublished(Event):
    """An event of the outside world (CloudEvents 1.0), published through Rota's log."""

    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Any = None
    data_base64: str | None = None
    extensions: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EventPublished:
        """Build nested values from their JSON objects."""
        return made(cls, data, time=_instant(data.get("time")))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueClaimed(Event):
    """A job holds this unique key from now on, in the key's own stream. `released`: jobs that do not any more."""

    key: str
    job: str
    released: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> UniqueClaimed:
        """Build nested values from their JSON objects."""
        return made(cls, data, released=tuple(data["released"]))


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderElected(Event):
    """A scheduler took the lead for `term`."""

    term: int
    node: str


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRefused(Event):
    """A scheduler of an older term tried to decide and was refused by the log."""

    term: int
    current_term: int
    node: str


def stored_fields(cls: type[Event]) -> tuple[str, ...]:
    """The names of a type's fields, in stored order (for documents and AsyncAPI)."""
    return tuple(f.name for f in fields(cls))  # type: ignore[arg-type]
