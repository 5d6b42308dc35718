"""What is recorded about triggers. Registered by `domain.event_types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rota_server.domain.events import Event, event, made


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerCreated(Event):
    """From here on, each matching event makes a job.

    `match` and `job` are as they were given. `spec` is the job's fixed part, as a JobSpec's JSON object; `templates`
    are the fields that are made from the event.
    """

    name: str
    match: Mapping[str, Any]
    job: Mapping[str, Any]
    spec: Mapping[str, Any]
    templates: Mapping[str, Any]
    description: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerChanged(Event):
    """From here on, this is what it matches and makes; the fields are those of its creation, all of them."""

    match: Mapping[str, Any]
    job: Mapping[str, Any]
    spec: Mapping[str, Any]
    templates: Mapping[str, Any]
    description: str | None
    reason: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerPaused(Event):
    """It takes no events from here on, and will not take them later."""

    reason: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerResumed(Event):
    """It takes events again from here on."""

    reason: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerArchived(Event):
    """It is over for good."""

    reason: str | None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerFailed(Event):
    """A matching event made no job, for this reason.

    `count`: how many events have failed since the last TriggerFailed, this one included; of several in a short time
    only one is told. `position`, `source` and `event_id` are the published event's.
    """

    position: int
    source: str
    event_id: str
    reason: str
    count: int
    at: datetime

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TriggerFailed:
        """Build nested values from their JSON objects."""
        return made(cls, data, at=datetime.fromisoformat(data["at"]))
