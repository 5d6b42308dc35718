"""A request's trace: the store's span is the caller's child and the parent of what the job does."""

from __future__ import annotations

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rota_server.observability import tracing

TRACE_ID, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CLOUDEVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    return exporter


async def test_every_write_makes_a_span_that_its_events_carry_on(
    client: httpx.AsyncClient, spans: InMemorySpanExporter
):
    headers = {"traceparent": f"00-{TRACE_ID}-{CALLER}-01"}
    job = (await client.post("/v1/jobs", json={"task": "noop"}, headers=headers)).json()
    await client.post("/v1/jobs/bulk", json=[{"task": "noop"}], headers=headers)
    event_headers = {**headers, "content-type": "application/cloudevents+json"}
    await client.post("/v1/events", json=CLOUDEVENT, headers=event_headers)
    await client.post(f"/v1/jobs/{job['id']}/cancel", headers=headers)
    finished = spans.get_finished_spans()
    assert [span.name for span in finished] == [
        "POST /v1/jobs",
        "POST /v1/jobs/bulk",
        "POST /v1/events",
        "POST /v1/jobs/{id}/cancel",
    ]
    events = (await client.get("/v1/events")).json()["items"]
    for span, event in zip(finished, events, strict=True):
        assert span.parent is not None
        assert span.context is not None
        assert f"{span.parent.span_id:016x}" == CALLER
        assert event["meta"]["traceparent"] == f"00-{TRACE_ID}-{span.context.span_id:016x}-01"
    assert job["trace_id"] == TRACE_ID


async def test_without_a_caller_each_request_is_a_trace_of_its_own(
    client: httpx.AsyncClient, spans: InMemorySpanExporter
):
    ids = {(await client.post("/v1/jobs", json={"task": "noop"})).json()["trace_id"] for _ in range(2)}
    assert len(ids) == 2
    assert None not in ids


async def test_a_refused_request_marks_its_span(client: httpx.AsyncClient, spans: InMemorySpanExporter):
    assert (await client.post("/v1/jobs", json={})).status_code == 422
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok
