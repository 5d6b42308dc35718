"""What Prometheus is told about the relay."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import Counter, Gauge

from rota_server.domain.ids import Position


class RelayMetrics:
    """The relay's observer. One a process: the metrics' names are global."""

    def __init__(self) -> None:
        self._events = Counter("rota_relay_published_events", "Events published to the broker by this process")
        self._position = Gauge("rota_relay_position", "Position up to which this process has published")
        self._lag = Gauge("rota_relay_lag_events", "Events of the log that are not published yet")
        self._lag_seconds = Gauge("rota_relay_lag_seconds", "Age of the last published event when it was published")
        self._realignments = Counter(
            "rota_relay_realignments", "Times that the feed's end was looked up, and why", ["reason"]
        )

    def published(self, events: int, position: Position, recorded_at: datetime) -> None:
        """A batch is in the broker; its last event is this one."""
        self._events.inc(events)
        self._position.set(position)
        self._lag_seconds.set(max(0.0, (datetime.now(UTC) - recorded_at).total_seconds()))

    def behind(self, events: int) -> None:
        """So many events of the log are not published yet."""
        self._lag.set(events)
        if events == 0:
            self._lag_seconds.set(0)

    def realigned(self, reason: str) -> None:
        """The feed's end was looked up."""
        self._realignments.labels(reason).inc()
