"""A queue's settings: its pause and its limits. A queue exists by its name; it needs settings only to be special.

While it has any, the leader *manages* it: every job waits in line until the leader dispatches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from rota_server.domain.events import Event, event, made
from rota_server.domain.log import ResourceHead

KIND = "queue"

CONCURRENCY_LIMIT = 1_000_000
"""The greatest number of jobs at a time that a limit may name."""

RATE_LIMIT = 1_000_000
"""The greatest number of starts in a period, and the greatest burst."""

RATE_PERIOD_LIMIT_SECONDS = 7 * 24 * 3600.0
RATE_PERIOD_LEAST_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most `limit` starts in any period of `per` seconds.

    With `burst` it is a bucket that holds so many starts and is refilled evenly, `limit` every `per` seconds: evener,
    but a full bucket comes on top (at most `limit` and `burst` in a period).
    """

    limit: int
    per: float
    burst: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What holds for a queue now. `paused_by`, `paused_since` and `pause_reason` say who paused it, while it is.

    `alert`: who is told of jobs that have failed for good; see `domain.alerts`.
    """

    paused: bool = False
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate: RateLimit | None = None
    rate_per_key: RateLimit | None = None
    paused_by: str | None = None
    paused_since: datetime | None = None
    pause_reason: str | None = None
    alert: Mapping[str, Any] | None = None

    @property
    def managed(self) -> bool:
        """Whether the leader has to dispatch each job."""
        limits = (self.concurrency, self.concurrency_per_key, self.rate, self.rate_per_key)
        return self.paused or any(limit is not None for limit in limits)


FREE = QueueSettings()
"""What holds for a queue that nobody has given settings."""


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueChanged(Event):
    """Somebody gave a queue these settings, all of which are named, also those that stay as they were."""

    name: str
    paused: bool
    concurrency: int | None
    concurrency_per_key: int | None
    rate: RateLimit | None
    rate_per_key: RateLimit | None
    paused_by: str | None
    paused_since: datetime | None
    pause_reason: str | None
    reason: str | None
    alert: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> QueueChanged:
        """Build nested values from their JSON objects."""
        settings = settings_from_json(data)
        return cls(name=data["name"], reason=data["reason"], **values_of(settings))


def settings_from_json(data: Mapping[str, Any]) -> QueueSettings:
    """The settings that an event's or a resource's JSON object names."""
    values = {f.name: data[f.name] for f in fields(QueueSettings) if f.name != "alert"}
    values["alert"] = data.get("alert")  # what was recorded before there were alerts does not say
    for name in ("rate", "rate_per_key"):
        if values[name] is not None:
            values[name] = made(RateLimit, values[name])
    if values["paused_since"] is not None:
        values["paused_since"] = datetime.fromisoformat(values["paused_since"])
    return QueueSettings(**values)


def change(
    name: str, before: QueueSettings, wanted: Mapping[str, Any], *, actor: str, reason: str | None, now: datetime
) -> QueueChanged | None:
    """The event that gives the queue the wanted settings, None when it has them."""
    after = replace(before, **wanted)
    if after.paused and not before.paused:
        after = replace(after, paused_by=actor, paused_since=now, pause_reason=reason)
    elif not after.paused:
        after = replace(after, paused_by=None, paused_since=None, pause_reason=None)
    if after == before:
        return None
    return QueueChanged(name=name, reason=reason, **values_of(after))


def settings_of(changed: QueueChanged) -> QueueSettings:
    """The settings after the event."""
    return QueueSettings(**{f.name: getattr(changed, f.name) for f in fields(QueueSettings)})


def head_of_queue(name: str, settings: QueueSettings) -> ResourceHead:
    """The row that stands for the queue; `active` says that it is managed."""
    return ResourceHead(kind=KIND, name=name, doc=_json(settings), active=settings.managed)


def values_of(settings: QueueSettings) -> dict[str, Any]:
    """The settings by name."""
    return {f.name: getattr(settings, f.name) for f in fields(QueueSettings)}


def _json(settings: QueueSettings) -> dict[str, Any]:
    doc = values_of(settings)
    for name in ("rate", "rate_per_key"):
        limit: RateLimit | None = doc[name]
        if limit is not None:
            doc[name] = {"limit": limit.limit, "per": limit.per, "burst": limit.burst}
    since: datetime | None = doc["paused_since"]
    doc["paused_since"] = None if since is None else since.isoformat()
    return doc
