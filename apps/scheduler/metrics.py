"""What Prometheus is told about the scheduler."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class SchedulerMetrics:
    """What a scheduler counts and measures. One a process, or each with a registry of its own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.leads = Gauge("rota_scheduler_leads", "1 while this scheduler leads", registry=registry)
        self.term = Gauge("rota_scheduler_term", "The term that it leads or led last", registry=registry)
        self.running = Gauge("rota_scheduler_running", "Attempts that run", registry=registry)
        self.timers = Gauge("rota_scheduler_timers", "Timers held in memory", registry=registry)
        self.lag_events = Gauge(
            "rota_scheduler_lag_events", "Events of the log that the leader has not taken in", registry=registry
        )
        self.lag_seconds = Gauge(
            "rota_scheduler_lag_seconds", "Age of the last event taken in while others wait, else 0", registry=registry
        )
        self.projection_lag_events = Gauge(
            "rota_projection_lag_events",
            "Events of the log that a projection does not show yet",
            ["projection"],
            registry=registry,
        )
        self._decisions = Counter(
            "rota_scheduler_decisions_total", "Decisions in the log, by their first event", ["event"], registry=registry
        )
        self._waits = Counter(
            "rota_scheduler_errors_total", "Times that a part waited for a server", ["part"], registry=registry
        )
        self._refusals = Counter(
            "rota_scheduler_refusals_total", "Times that a newer term was in force", registry=registry
        )

        self._tick_lateness = Histogram(
            "rota_schedule_lateness_seconds",
            "How long after its nominal time a tick on time was in the log",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )

    def ticked(self, late_seconds: float) -> None:
        """A schedule has ticked so long after its nominal time."""
        self._tick_lateness.observe(max(0.0, late_seconds))

    def decided(self, event: str) -> None:
        """A decision is in the log."""
        self._decisions.labels(event).inc()

    def waits(self, part: str) -> None:
        """A part of the scheduler found a server away."""
        self._waits.labels(part).inc()

    def refused(self) -> None:
        """The log or its fence said that another one leads."""
        self._refusals.inc()
