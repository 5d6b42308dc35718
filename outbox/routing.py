"""Which events go where besides the feed, which carries all of them.

This runs for every event of the log, most of which go nowhere else: only the data of those that do are decoded.
"""

from __future__ import annotations

from typing import Any

import orjson

from rota_server.domain.log import RawEvent
from rota_server.domain.messaging import CancelNotice, Dispatch, Route
from rota_server.observability import unreadable


def route(raw: RawEvent) -> Route:
    """Where this event goes besides the feed.

    Nowhere when it is of a routed type and its data cannot be read: that one job is not dispatched, the others are.
    """
    decide = _ROUTES.get(raw.type)
    if decide is None:
        return None
    try:
        return decide(raw, orjson.loads(raw.data))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        unreadable.note("relay", raw.stream_id, f"{raw.type} at position {raw.position} is not readable: {error!r}")
        return None


def _submitted(_raw: RawEvent, data: dict[str, Any]) -> Route:
    spec = data["spec"]
    if spec["run_at"] is not None or data.get("waits") is not None:
        return None  # the scheduler will dispatch it
    return Dispatch(spec["queue"], spec["priority"], inline=True)


def _dispatched(_raw: RawEvent, data: dict[str, Any]) -> Route:
    return Dispatch(data["queue"], data["priority"], inline=False)


def _requeued(raw: RawEvent, data: dict[str, Any]) -> Route:
    return None if data.get("waits") is not None else _dispatched(raw, data)


def _cancelled(raw: RawEvent, data: dict[str, Any]) -> Route:
    return CancelNotice(raw.stream_id, data["attempt"], data["executor"], data["reason"])


def _lost(raw: RawEvent, data: dict[str, Any]) -> Route:
    """Whoever runs it all the same, and may have lost sight of everything but the broker, is to end it."""
    return CancelNotice(raw.stream_id, data["attempt"], data["executor"], data["reason"])


_ROUTES = {
    "JobSubmitted": _submitted,
    "JobDispatched": _dispatched,
    "JobRequeued": _requeued,
    "CancelRequested": _cancelled,
    "AttemptLost": _lost,
}
