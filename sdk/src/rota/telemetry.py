"""Spans of tasks, when the environment asks for traces and OpenTelemetry is installed. Imported only then."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Iterator, Optional

from rota.context import JobContext

_tracer: Any = None
_tried = False


def _load() -> Any:
    global _tracer, _tried
    if _tried:
        return _tracer
    _tried = True
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return None
    name = os.environ.get("OTEL_SERVICE_NAME", "rota-task")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=500))
    _tracer = provider.get_tracer("rota.task")
    return _tracer


@contextlib.contextmanager
def task_span(job: JobContext) -> Iterator[None]:
    """A span `run <task>` under the job's trace; the task's own submissions go on from it."""
    tracer = _load()
    if tracer is None:
        yield
        return
    from opentelemetry.propagate import extract, inject

    with tracer.start_as_current_span(
        f"run {job.task}",
        context=extract({"traceparent": job.traceparent or ""}),
        attributes={"rota.job.id": job.id, "rota.attempt": job.attempt},
    ):
        carrier: "dict[str, str]" = {}
        inject(carrier)
        job.traceparent = carrier.get("traceparent", job.traceparent)
        yield


def current_traceparent() -> Optional[str]:
    """The traceparent of the current span of this program, if OpenTelemetry is in use."""
    try:
        from opentelemetry.propagate import inject
    except ImportError:
        return None
    carrier: "dict[str, str]" = {}
    inject(carrier)
    return carrier.get("traceparent")
