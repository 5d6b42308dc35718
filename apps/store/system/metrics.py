"""What a store measures: its requests, its appends, and what it knows of the whole system when somebody looks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rota_server.apps.store.parts import Parts, SystemCounts
from rota_server.domain.errors import Unavailable
from rota_server.domain.inbox import InboxState
from rota_server.observability import unreadable
from rota_server.observability.metrics import RequestMetrics

log = logging.getLogger("rota.store.metrics")

FRESH_SECONDS = 5.0
"""How old what is said of the whole system may be: several who scrape cost no more than one."""

COUNT_SECONDS = 2.0


class StoreMetrics(Collector):
    """A registry of this application's own."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(unreadable.met)
        self.requests = RequestMetrics(self._registry)
        self._registry.register(self)
        self._counts: SystemCounts | None = None
        self._counted_at = float("-inf")
        self._lock = asyncio.Lock()

    async def text(self) -> bytes:
        """Everything as Prometheus text. While PostgreSQL is away, without what only it knows."""
        async with self._lock:
            if time.monotonic() - self._counted_at > FRESH_SECONDS:
                await self._count()
        return generate_latest(self._registry)

    async def _count(self) -> None:
        self._counts = None
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                self._counts = await self._parts.count()
        except (Unavailable, TimeoutError) as error:
            log.warning("the system cannot be counted now: %s", str(error) or "no answer in time")
        self._counted_at = time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """The current figures; see prometheus_client."""
        commit = self._parts.commit
        yield CounterMetricFamily("rota_store_appends", "Calls of the log's append by this store", commit.calls)
        yield CounterMetricFamily("rota_store_append_events", "Events in those calls", commit.events)
        yield GaugeMetricFamily("rota_store_log_up", "Whether the log answered", float(self._counts is not None))
        if self._counts is not None:
            yield from _system(self._counts)
            yield from _inbox(self._counts.inbox, self._parts.now())


def _inbox(inbox: InboxState, now: datetime) -> Iterator[Metric]:
    yield GaugeMetricFamily("rota_inbox_waiting", "Jobs of transactions that are not in the log yet", inbox.waiting)
    lag = 0.0 if inbox.oldest is None else max(0.0, (now - inbox.oldest).total_seconds())
    yield GaugeMetricFamily("rota_inbox_lag_seconds", "How long the first of them has waited", lag)
    yield GaugeMetricFamily("rota_inbox_rejected", "Jobs of transactions that were refused", inbox.rejected)


def _system(counts: SystemCounts) -> Iterator[Metric]:
    yield GaugeMetricFamily("rota_log_position", "Last position of the event log", counts.log_position)
    yield GaugeMetricFamily(
        "rota_scheduler_position", "Position up to which the leader has followed the log", counts.scheduler_position
    )
    blocked = GaugeMetricFamily("rota_blocked", "Whether a foreign session keeps Rota from this", labels=["what"])
    for what in ("writing", "leadership", "publishing", "the inbox"):
        blocked.add_metric([what], float(any(obstacle.what == what for obstacle in counts.obstacles)))
    yield blocked
    yield GaugeMetricFamily("rota_attempts_running", "Attempts that run", counts.running)
    queued = GaugeMetricFamily("rota_jobs_queued", "Jobs that are queued", labels=["queue", "priority"])
    for (queue, priority), number in sorted(counts.queued.items()):
        queued.add_metric([queue, priority], number)
    yield queued
    states = GaugeMetricFamily("rota_jobs", "Jobs by state", labels=["state"])
    for state, number in sorted(counts.states.items()):
        states.add_metric([state], number)
    yield states
