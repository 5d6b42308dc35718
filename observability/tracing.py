"""Traces through OpenTelemetry, exported by OTLP when the `OTEL_*` variables say so.

Off, nothing of OpenTelemetry is imported and a span costs one function call. Trace context travels as a
`traceparent` text (W3C Trace Context) in the events' meta.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext, Tracer

Kind = Literal["internal", "server", "client", "producer", "consumer"]
TRACEPARENT = re.compile(r"^[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def valid_traceparent(text: str | None) -> str | None:
    """The text when it is a usable `traceparent`, else None."""
    return text if text is not None and TRACEPARENT.match(text) and not text.startswith("ff") else None


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id (32 hex digits) in a `traceparent`."""
    return None if traceparent is None else traceparent.split("-")[1]


def wanted() -> bool:
    """Whether the environment asks for traces to be exported."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return False
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


def configure(role: str) -> None:
    """Set tracing up for this process if the environment asks for it."""
    global _provider, _tracer  # noqa: PLW0603 - one tracer a process
    if not wanted() or _tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = os.environ.get("OTEL_SERVICE_NAME", f"rota-{role}")
    _provider = TracerProvider(resource=Resource.create({"service.name": name}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("rota")


def enabled() -> bool:
    """Whether spans are made in this process."""
    return _tracer is not None


def shutdown() -> None:
    """Export what is left."""
    if _provider is not None:
        _provider.shutdown()


class SpanHandle:
    """A span that may not exist. `traceparent` is what to hand on: the span's own, else the parent's."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span | None, traceparent: str | None) -> None:
        self._span = span
        self.traceparent = traceparent

    def set(self, name: str, value: str | float | bool) -> None:  # noqa: FBT001 - an attribute's value
        """Set an attribute."""
        if self._span is not None:
            self._span.set_attribute(name, value)

    def failed(self, message: str) -> None:
        """Mark the span as failed."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

            self._span.set_status(Status(StatusCode.ERROR, message))

    def end(self) -> None:
        """End it now."""
        if self._span is not None:
            self._span.end()


def start_span(
    name: str,
    *,
    parent: str | None = None,
    links: Sequence[str | None] = (),
    attributes: Mapping[str, Any] | None = None,
    kind: Kind = "internal",
    start_time_ns: int | None = None,
) -> SpanHandle:
    """Start a span under the given `traceparent` (None: a new trace); the caller ends it."""
    if _tracer is None:
        return SpanHandle(None, parent)
    from opentelemetry import trace  # noqa: PLC0415

    context = trace.set_span_in_context(trace.NonRecordingSpan(c)) if (c := _context(parent)) else None
    span = _tracer.start_span(
        name,
        context=context if context is not None else {},  # type: ignore[arg-type]
        kind=trace.SpanKind[kind.upper()],
        links=[trace.Link(found) for link in links if (found := _context(link)) is not None],
        attributes=dict(attributes or {}),
        start_time=start_time_ns,
    )
    own = span.get_span_context()
    return SpanHandle(span, f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}")


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    links: Sequence[str | None] = (),
    attributes: Mapping[str, Any] | None = None,
    kind: Kind = "internal",
) -> Iterator[SpanHandle]:
    """A span around a block; an exception marks it as failed."""
    handle = start_span(name, parent=parent, links=links, attributes=attributes, kind=kind)
    try:
        yield handle
    except BaseException as error:
        handle.failed(repr(error))
        raise
    finally:
        handle.end()


def _context(traceparent: str | None) -> SpanContext | None:
    if valid_traceparent(traceparent) is None or traceparent is None:
        return None
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415

    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
