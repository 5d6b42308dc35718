"""What an executor counts and measures."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram


class AttemptMetrics:
    """What an executor counts. One a process, or each with a registry of its own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._ended = Counter(
            "rota_attempts_total", "Attempts by task and how they ended", ["task", "outcome"], registry=registry
        )
        self._wait_seconds = Histogram(
            "rota_attempt_wait_seconds",
            "Time from an attempt's claim until its task begins",
            buckets=(0.001, 0.01, 0.1, 1, 5, 10, 20, 30),
            registry=registry,
        )
        self._run_seconds = Histogram(
            "rota_attempt_run_seconds",
            "Time from an attempt's start to its end",
            buckets=(0.001, 0.01, 0.1, 1, 10, 60, 600, 3600),
            registry=registry,
        )
        self._report_seconds = Histogram(
            "rota_attempt_report_seconds",
            "Time from an attempt's end until that is in the log",
            buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
            registry=registry,
        )
        self._claimed = Histogram(
            "rota_claim_batch_jobs",
            "Dispatches that were claimed together",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
            registry=registry,
        )
        self._children: dict[tuple[str, str], Counter] = {}

    def ended(self, task: str, outcome: str, *, run_seconds: float, report_seconds: float | None) -> None:
        """An attempt has ended; `outcome` is the type of the event that says so."""
        child = self._children.get((task, outcome))
        if child is None:
            child = self._children[task, outcome] = self._ended.labels(task, outcome or "nothing")
        child.inc()
        self._run_seconds.observe(run_seconds)
        if report_seconds is not None:
            self._report_seconds.observe(report_seconds)

    def began(self, waited_seconds: float) -> None:
        """A task begins, so long after its attempt was claimed."""
        self._wait_seconds.observe(waited_seconds)

    def claimed(self, jobs: int) -> None:
        """So many dispatches are being claimed together."""
        self._claimed.observe(jobs)
