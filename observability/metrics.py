"""Metrics in Prometheus' format, on a loopback port of a role's own when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram, start_http_server

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


class RequestMetrics:
    """What a store counts for each request."""

    def __init__(self) -> None:
        self._requests = Counter(
            "rota_http_requests_total", "Requests by route and status", ["method", "route", "status"]
        )
        self._seconds = Histogram(
            "rota_http_request_seconds",
            "Time to the end of the answer",
            ["method", "route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        key = (method, route, status)
        found = self._children.get(key)
        if found is None:
            found = self._requests.labels(method, route, str(status)), self._seconds.labels(method, route)
            self._children[key] = found
        found[0].inc()
        found[1].observe(seconds)


class StoreGauges:
    """What a store knows of the whole system when somebody looks."""

    def __init__(self) -> None:
        self.log_position = Gauge("rota_log_position", "Last position of the event log")
        self.scheduler_position = Gauge(
            "rota_scheduler_position", "Position up to which the leader has followed the log"
        )
        self.running = Gauge("rota_attempts_running", "Attempts that run")
        self.queued = Gauge("rota_jobs_queued", "Jobs that are queued", ["queue", "priority"])
