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
        self.dependents = Gauge("rota_scheduler_dependents", "Jobs that wait for other jobs", registry=registry)
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
        self._delivery_lag = Gauge(
            "rota_subscription_lag_events",
            "Events of the log behind a subscription's cursor",
            ["subscription"],
            registry=registry,
        )
        self._delivery_pending = Gauge(
            "rota_subscription_pending",
            "Events that wait for another attempt to be delivered",
            ["subscription"],
            registry=registry,
        )
        self._deliveries = Counter(
            "rota_deliveries_total",
            "Attempts to deliver, by how they came out, and events given up",
            ["subscription", "outcome"],
            registry=registry,
        )

    def ticked(self, late_seconds: float) -> None:
        """A schedule has ticked so long after its nominal time."""
        self._tick_lateness.observe(max(0.0, late_seconds))

    def deliveries(self, subscription: str) -> DeliveryMetrics:
        """What is counted of one subscription."""
        return DeliveryMetrics(
            self._delivery_lag.labels(subscription),
            self._delivery_pending.labels(subscription),
            self._deliveries,
            subscription,
        )

    def decided(self, event: str) -> None:
        """A decision is in the log."""
        self._decisions.labels(event).inc()

    def waits(self, part: str) -> None:
        """A part of the scheduler found a server away."""
        self._waits.labels(part).inc()

    def refused(self) -> None:
        """The log or its fence said that another one leads."""
        self._refusals.inc()


class DeliveryMetrics:
    """What is counted of one subscription."""

    def __init__(self, lag: Gauge, pending: Gauge, deliveries: Counter, subscription: str) -> None:
        self.lag = lag
        self.pending = pending
        self._succeeded = deliveries.labels(subscription, "succeeded")
        self._failed = deliveries.labels(subscription, "failed")
        self._dead = deliveries.labels(subscription, "dead")

    def succeeded(self) -> None:
        """The receiver took an event."""
        self._succeeded.inc()

    def failed(self) -> None:
        """An attempt failed."""
        self._failed.inc()

    def gave_up(self, events: int) -> None:
        """So many events became dead letters."""
        self._dead.inc(events)
