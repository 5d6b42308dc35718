"""Tells of streams that were set aside because this version of Rota cannot read one of their events.

One line of the log for each stream, a counter for each meeting, and a short list for readiness. Decides nothing.
"""

from __future__ import annotations

import logging
from uuid import UUID

from prometheus_client import Counter

from rota_server.domain.errors import Unreadable

log = logging.getLogger("rota.unreadable")

STREAMS_LIMIT = 1_000
"""Streams that are remembered as told; beyond that each meeting is told."""

met = Counter("rota_unreadable_events", "Meetings with events that cannot be read, their streams set aside", ["where"])
"""Also in the metrics of a store, which has a registry of its own."""

_told: dict[str, str] = {}


def note(where: str, stream_id: UUID | str, reason: str | Unreadable) -> None:
    """A stream was set aside by `where` (a service's name) for this reason."""
    met.labels(where).inc()
    stream = str(stream_id)
    if stream in _told:
        return
    if len(_told) < STREAMS_LIMIT:
        _told[stream] = str(reason)
    log.error("%s sets stream %s aside: %s", where, stream, reason)


def told() -> dict[str, str]:
    """The streams that this process has set aside, with the reasons."""
    return dict(_told)
