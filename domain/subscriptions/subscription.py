"""Subscriptions: what may be done with one, what its events make of it, and which events it wants. Pure.

A subscription's state is a JSON object, kept in its row of `resources`: `name`, `state` (`active`, `paused`,
`archived`), `url`, `match`, `mode`, `retry`, `timeout`, `after`, `description`, `secret_id`, `old_secret_id` and
`old_until` (the secret before the present one, and for how long it signs as well).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal
from uuid import UUID, uuid5

from rota_server.domain.errors import NotPossible, Unreadable
from rota_server.domain.events import Event, named
from rota_server.domain.ids import Position
from rota_server.domain.jobs.retry import RetryPolicy
from rota_server.domain.log import Recorded, ResourceHead
from rota_server.domain.ports.indexes import HeadRow
from rota_server.domain.subscriptions import events as e

KIND = "subscription"
NAMES = frozenset({"type", "stream_id", "actor", "correlation_id", "queue", "task", "tags", "key", "origin_id", "data"})
"""What a subscription's pattern may speak of; see `wanted_view`."""

OWN_EVENTS = frozenset(
    {
        "SubscriptionCreated",
        "SubscriptionChanged",
        "SubscriptionPaused",
        "SubscriptionResumed",
        "SubscriptionArchived",
        "SubscriptionSecretChanged",
        "RedeliveryRequested",
    }
)

Action = Literal["pause", "resume", "archive"]
Mode = Literal["structured", "binary"]
Doc = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What is delivered where and how; `timeout` in seconds for one attempt."""

    url: str
    match: Mapping[str, Any]
    mode: Mode = "structured"
    retry: Mapping[str, Any]
    timeout: float = 10.0
    description: str | None = None


def evolve_subscription(doc: Doc | None, event: Event) -> dict[str, Any]:
    """The subscription's state after this event. Raises Unreadable when it cannot follow."""
    if isinstance(event, e.SubscriptionCreated) and doc is None:
        fields = {**asdict(event), "secret_id": str(event.secret_id)}
        return {**fields, "state": "active", "old_secret_id": None, "old_until": None}
    if doc is None:
        raise Unreadable(f"a subscription's stream begins with {type(event).__name__}")
    match event:
        case e.SubscriptionChanged():
            fields = asdict(event)
            del fields["reason"]
            return {**doc, **fields}
        case e.SubscriptionPaused() | e.SubscriptionResumed() | e.SubscriptionArchived():
            return {**doc, "state": _STATES[type(event)]}
        case e.SubscriptionSecretChanged():
            old = {"old_secret_id": doc["secret_id"], "old_until": event.old_until.isoformat()}
            return {**doc, **old, "secret_id": str(event.secret_id)}
        case e.RedeliveryRequested():
            return dict(doc)
    raise Unreadable(f"{named(event)} has no place in a subscription's stream")


_STATES: Mapping[type[Event], str] = {
    e.SubscriptionPaused: "paused",
    e.SubscriptionResumed: "active",
    e.SubscriptionArchived: "archived",
}


def fold_subscription(history: Iterable[Recorded]) -> dict[str, Any] | None:
    """The subscription that this history describes; None for an empty one."""
    doc: dict[str, Any] | None = None
    for recorded in history:
        doc = evolve_subscription(doc, recorded.event)
    return doc


def subscription_head(doc: Doc) -> ResourceHead:
    """The row that stands for the subscription in `resources`; active: it delivers."""
    return ResourceHead(kind=KIND, name=doc["name"], doc=doc, active=doc["state"] == "active")


def change_subscription(doc: Doc, new: Definition, reason: str | None) -> Event | None:
    """What gives the subscription this definition; None when it has it. Raises NotPossible."""
    refuse_archived(doc)
    fields = asdict(new)
    if all(doc[name] == value for name, value in fields.items()):
        return None
    return e.SubscriptionChanged(**fields, reason=reason)


def act_on_subscription(doc: Doc, action: Action, reason: str | None) -> Event | None:
    """What the action leads to; None when it is true already. Raises NotPossible."""
    if doc["state"] == {"pause": "paused", "resume": "active", "archive": "archived"}[action]:
        return None
    refuse_archived(doc)
    kinds = {"pause": e.SubscriptionPaused, "resume": e.SubscriptionResumed, "archive": e.SubscriptionArchived}
    return kinds[action](reason=reason)


def refuse_archived(doc: Doc) -> None:
    """Raise NotPossible when the subscription is over."""
    if doc["state"] == "archived":
        raise NotPossible(f"subscription {doc['name']} is archived", code="archived")


def retry_policy(doc: Doc) -> RetryPolicy:
    """When a delivery that failed is tried again."""
    given = doc["retry"]
    return RetryPolicy(
        max_attempts=given["max_attempts"],
        backoff=given["backoff"],
        initial_seconds=given["initial"],
        factor=given["factor"],
        maximum_seconds=given["maximum"],
        jitter=given["jitter"],
    )


def delivery_id(subscription: UUID, position: Position) -> UUID:
    """The same for every attempt to deliver this event to this subscription, and for no other."""
    return uuid5(subscription, f"delivery:{position}")


def delivered_by(subscription: UUID) -> str:
    """The `causation_id` of an event that this subscription's delivery has published in Rota itself."""
    return f"subscription:{subscription}"


def wanted_view(
    event_type: str, stream_id: UUID, data: Mapping[str, Any], meta: Mapping[str, Any], job: HeadRow | None
) -> dict[str, Any]:
    """The event as a subscription's pattern sees it: its type, stream and data, and whose job's it is."""
    view: dict[str, Any] = {"type": event_type, "stream_id": str(stream_id), "data": data, "actor": meta["actor"]}
    if meta.get("correlation_id") is not None:
        view["correlation_id"] = meta["correlation_id"]
    if job is not None:
        view.update(queue=job.queue, task=job.task, tags=job.tags)
        if job.key is not None:
            view["key"] = job.key
        if job.origin_id is not None:
            view["origin_id"] = str(job.origin_id)
    return view
