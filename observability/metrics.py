"""Metrics in Prometheus' format, on a loopback port of a role's own when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge, start_http_server

LOOPBACK = "127.0.0.1"


def serve(port: int | None) -> None:
    """Serve this process's metrics at http://127.0.0.1:`port`/metrics; None: do not."""
    if port is not None:
        start_http_server(port, addr=LOOPBACK)


def gauge(name: str, description: str, value: Callable[[], float]) -> None:
    """A gauge that is read when somebody looks."""
    Gauge(name, description).set_function(value)


class AttemptMetrics:
    """What an executor counts."""

    def __init__(self) -> None:
        self._ended = Counter("rota_attempts_total", "Attempts by task and how they ended", ["task", "outcome"])

    def ended(self, task: str, outcome: str) -> None:
        """An attempt was reported; `outcome` is the event's type."""
        self._ended.labels(task, outcome or "nothing").inc()
