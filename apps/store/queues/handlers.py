"""What the store does with queues: their settings, and what is known of them now."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rota_server.apps.store.http.fields import Name, Number, rejected
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.resources import Changed, ResourceChange, Resources
from rota_server.domain.admission.queues import (
    CONCURRENCY_LIMIT,
    FREE,
    KIND,
    RATE_LIMIT,
    RATE_PERIOD_LEAST_SECONDS,
    RATE_PERIOD_LIMIT_SECONDS,
    QueueChanged,
    RateLimit,
    change,
    head_of_queue,
    settings_from_json,
    settings_of,
    values_of,
)
from rota_server.domain.alerts import check_alert
from rota_server.domain.errors import Rejected
from rota_server.domain.ids import resource_id
from rota_server.domain.log import Meta
from rota_server.domain.ports.indexes import QueueFigures, ResourceRow

Concurrency = Annotated[int, Field(ge=1, le=CONCURRENCY_LIMIT)]


class RateRequest(BaseModel):
    """At most `limit` starts in any `per` seconds; with `burst`, evenly, and at most so many at once."""

    model_config = ConfigDict(extra="forbid", strict=True)

    limit: int = Field(ge=1, le=RATE_LIMIT)
    per: Number = Field(1.0, ge=RATE_PERIOD_LEAST_SECONDS, le=RATE_PERIOD_LIMIT_SECONDS)
    burst: int | None = Field(None, ge=1, le=RATE_LIMIT)


class AlertRequest(BaseModel):
    """Who is told of a job that has failed for good; the jobs that tell it run on `queue`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    email: str | list[str] | None = Field(None, description="one or several addresses")
    webhook: str | dict[str, Any] | None = Field(None, description="a URL, or a secret that holds one")
    queue: Name | None = Field(None, description="where the alerts run; `default` unless it says otherwise")


class QueueRequest(BaseModel):
    """A change of a queue's settings: what is not named stays, null takes a limit away."""

    model_config = ConfigDict(extra="forbid", strict=True)

    paused: bool = False
    concurrency: Concurrency | None = None
    concurrency_per_key: Concurrency | None = None
    rate: RateRequest | None = None
    rate_per_key: RateRequest | None = None
    alert: AlertRequest | None = None
    reason: str | None = Field(None, max_length=1000)


class Queues:
    """The handlers, without HTTP."""

    def __init__(self, parts: Parts, resources: Resources) -> None:
        self._counts = parts.queues
        self._resources = resources

    async def get(self, name: str) -> dict[str, Any]:
        """The queue: a name that nobody has used is a queue without jobs."""
        row = await self._resources.find(KIND, name)
        figures = (await self._counts.figures([name])).get(name, QueueFigures())
        return queue_view(name, row, figures)

    async def all(self) -> list[dict[str, Any]]:
        """Every queue that has jobs or settings, by name; one whose settings were all taken back has none."""
        figures = await self._counts.figures(None)
        rows = {row.name: row for row in await self._resources.every(KIND) if settings_from_json(row.doc) != FREE}
        names = sorted({*figures, *rows})
        return [queue_view(name, rows.get(name), figures.get(name, QueueFigures())) for name in names]

    async def change(self, name: str, value: Any, meta: Meta) -> Changed:
        """Give the queue other settings. Raises Rejected, Unavailable."""
        wanted, reason = parse_change(value)

        def decide(row: ResourceRow | None, now: datetime) -> ResourceChange | None:
            before = FREE if row is None else settings_from_json(row.doc)
            changed = change(name, before, wanted, actor=meta.actor, reason=reason, now=now)
            if changed is None and row is not None:
                return None
            changed = changed or QueueChanged(name=name, reason=reason, **values_of(before))
            return ResourceChange(events=[changed], head=head_of_queue(name, settings_of(changed)))

        return await self._resources.change(resource_id(KIND, name), decide, meta)


def parse_change(value: Any) -> tuple[dict[str, Any], str | None]:
    """The settings that a request names, and its reason. Raises Rejected."""
    if not isinstance(value, dict):
        raise Rejected("the body must be a JSON object", code="wrong-type")
    try:
        request = QueueRequest.model_validate(value)
    except ValidationError as error:
        raise rejected(error) from None
    wanted: dict[str, Any] = {}
    for name in request.model_fields_set - {"reason"}:
        found = getattr(request, name)
        if isinstance(found, RateRequest):
            found = RateLimit(**found.model_dump())
        elif isinstance(found, AlertRequest):
            found = found.model_dump(exclude_none=True)
            check_alert(found)
        wanted[name] = found
    if not wanted:
        raise Rejected("the body names no setting", code="missing")
    return wanted, request.reason


def queue_view(name: str, row: ResourceRow | None, figures: QueueFigures) -> dict[str, Any]:
    """The queue as JSON (instants are left to the encoder)."""
    doc = dict(row.doc) if row is not None else {}
    settings = FREE if row is None else settings_from_json(row.doc)
    return {
        "name": name,
        "paused": settings.paused,
        "paused_by": settings.paused_by,
        "paused_since": settings.paused_since,
        "pause_reason": settings.pause_reason,
        "concurrency": settings.concurrency,
        "concurrency_per_key": settings.concurrency_per_key,
        "rate": doc.get("rate"),
        "rate_per_key": doc.get("rate_per_key"),
        "alert": settings.alert,
        "depth": figures.waiting + figures.queued,
        "waiting": figures.waiting,
        "queued": figures.queued,
        "running": figures.running,
        "oldest_at": figures.oldest_at,
        "started_per_minute": figures.started_per_minute,
        "ended_per_minute": figures.ended_per_minute,
        "version": 0 if row is None else row.version,
    }
