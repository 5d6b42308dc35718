"""A job as it was asked for. Values are checked where they enter; here they only have types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from rota_server.domain.events import made
from rota_server.domain.jobs.retry import RetryPolicy

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

DEFAULT_TIMEOUT_SECONDS = 3600.0
"""How long one attempt may take when the job does not say; `None` in a job means no limit."""

DEFAULT_RETRY = RetryPolicy()

Outcome = Literal["succeeded", "failed", "ended"]
"""Which end of a predecessor is waited for: `failed` stands for failed, cancelled and expired, `ended` for any end."""

OnFailure = Literal["cancel", "run", "hold"]
OriginKind = Literal["schedule", "workflow", "batch", "trigger", "inbox"]
UniqueScope = Literal["queued", "running", "unfinished", "seconds"]
OnConflict = Literal["reject", "return", "replace", "keep_latest"]
LANE_SEPARATOR = "\x1f"
"""Stands in no queue's name and no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """A job (or batch) that has to end first; `name` is what its result is called in the job that waits for it."""

    id: UUID
    name: str
    outcome: Outcome = "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """What a job waits for: all of them, or any one. `on_failure`: what if that cannot come true any more."""

    predecessors: tuple[Predecessor, ...]
    mode: Literal["all", "any"] = "all"
    on_failure: OnFailure = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """One job for `key` at a time: while another is in `scope`, `on_conflict` says what becomes of this one.

    `seconds` goes with the scope `seconds`: so long after the other was submitted.
    """

    key: str
    scope: UniqueScope = "unfinished"
    seconds: float | None = None
    on_conflict: OnConflict = "return"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What made the job, and which of its jobs it is: a nominal time, a node's name, a number."""

    kind: OriginKind
    id: UUID
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What to run, where, when, and how patiently.

    `run_at`: not before this instant, None for at once. `timeout_seconds` limits one attempt. No attempt
    starts at or after `expires_at`. `args` is a JSON object. `key`: jobs of a queue with the same key share its limits
    for a key, and keys take turns. `idempotent`: the task may be broken off and repeated at no cost, so a stopping
    executor hands its attempt back.
    """

    task: str
    args: Mapping[str, Any] = field(default_factory=dict)
    queue: str = "default"
    priority: Priority = "normal"
    run_at: datetime | None = None
    timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS
    expires_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    retry: RetryPolicy = DEFAULT_RETRY
    key: str | None = None
    after: After | None = None
    unique: Unique | None = None
    origin: Origin | None = None
    idempotent: bool = False


def lane_of(queue: str, priority: str, key: str | None) -> str:
    """The line in which a job waits for the limits of its queue and key; sorts by queue, then priority, then key."""
    return LANE_SEPARATOR.join((queue, priority, key or ""))


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
    spec["run_at"] = instant_from_json(spec["run_at"])
    spec["expires_at"] = instant_from_json(spec["expires_at"])
    return made(JobSpec, spec)


def after_from_json(data: Mapping[str, Any]) -> After:
    """What a job waits for, as its specification keeps it. Raises TypeError, ValueError."""
    predecessors = tuple(made(Predecessor, p, id=UUID(p["id"])) for p in data["predecessors"])
    return made(After, data, predecessors=predecessors)


def instant_from_json(text: str | None) -> datetime | None:
    """The instant of a stored ISO 8601 text. Raises ValueError."""
    return None if text is None else datetime.fromisoformat(text)
