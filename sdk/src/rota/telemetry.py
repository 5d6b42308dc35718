"""Spans of tasks, when the environment asks for traces and OpenTelemetry is installed. Imported only then."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Dict, Iterator, Optional

from rota.context import JobContext

_provider: Any = None


def wanted() -> bool:
    """Whether the environment asks for traces to be exported."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


def load() -> bool:
    """Prepare spans once the user's modules are loaded; False when OpenTelemetry is not installed.

    A provider that the user's modules have set up is used; otherwise one is made from the environment.
    """
    global _provider  # noqa: PLW0603 - one provider a process, as in OpenTelemetry itself
    try:
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        return False
    _provider = trace.get_tracer_provider()
    if not isinstance(_provider, TracerProvider):
        name = os.environ.get("OTEL_SERVICE_NAME", "rota-task")
        _provider = TracerProvider(resource=Resource.create({"service.name": name}))
        _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=500))
        trace.set_tracer_provider(_provider)
    return True


def flush() -> None:
    """Export what has ended but was not exported yet; takes a second at most."""
    if _provider is not None:
        _provider.force_flush(1000)


@contextlib.contextmanager
def task_span(job: JobContext) -> Iterator[None]:
    """A span `run <task>` under the job's trace; what the task submits goes on from it."""
    from opentelemetry.propagate import extract, inject  # noqa: PLC0415

    with _provider.get_tracer("rota.task").start_as_current_span(
        f"run {job.task}",
        context=extract({"traceparent": job.traceparent or ""}),
        attributes={"rota.job.id": job.id, "rota.attempt": job.attempt},
    ):
        carrier: "Dict[str, str]" = {}
        inject(carrier)
        job.traceparent = carrier.get("traceparent", job.traceparent)
        yield


def current_traceparent() -> Optional[str]:
    """The traceparent of this program's current span; None when it does not use OpenTelemetry."""
    if "opentelemetry.trace" not in sys.modules:
        return None  # nobody can have started a span
    from opentelemetry.propagate import inject  # noqa: PLC0415

    carrier: "Dict[str, str]" = {}
    inject(carrier)
    return carrier.get("traceparent")
