"""Metrics in Prometheus' format, on a loopback port of a role's own when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

LOOPBACK = "127.0.0.1"


def serve(port: int | None) -> None:
    """Serve this process's metrics at http://127.0.0.1:`port`/metrics; None: do not."""
    if port is not None:
        start_http_server(port, addr=LOOPBACK)


def gauge(name: str, description: str, value: Callable[[], float]) -> None:
    """A gauge that is read when somebody looks."""
    Gauge(name, description).set_function(value)


class RequestMetrics:
    """What a store counts for each request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "rota_http_requests_total",
            "Requests by route and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "rota_http_request_seconds",
            "Time to the end of the answer",
            ["method", "route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=registry,
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
