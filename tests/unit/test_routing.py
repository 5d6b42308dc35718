from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from rota_server.adapters.codec import encode_event
from rota_server.domain import events
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import events as e
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import RawEvent
from rota_server.domain.messaging import CancelNotice, Dispatch
from rota_server.observability import unreadable
from rota_server.outbox.routing import route

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def raw(event: events.Event, data: str | None = None) -> RawEvent:
    text = encode_event(event).decode() if data is None else data
    return RawEvent(Position(7), uuid4(), Version(1), type(event).__name__, NOW, text, "{}")


def submitted(**spec: object) -> e.JobSubmitted:
    return e.JobSubmitted(spec=JobSpec(task="noop", **spec))  # type: ignore[arg-type]


def test_an_immediate_job_is_its_own_dispatch_and_carries_its_event():
    assert route(raw(submitted(queue="mail", priority="high"))) == Dispatch("mail", "high", inline=True)


def test_a_job_for_later_waits_for_its_dispatch():
    assert route(raw(submitted(run_at=NOW + timedelta(hours=1)))) is None


@pytest.mark.parametrize(
    "event",
    [
        e.JobDispatched(queue="mail", priority="low", reason="due"),
        e.JobRequeued(queue="mail", priority="low", reason="again"),
    ],
)
def test_a_dispatch_goes_to_the_work_stream_of_its_queue_and_priority(event: events.Event):
    assert route(raw(event)) == Dispatch("mail", "low", inline=False)


@pytest.mark.parametrize("reason", [None, "no longer needed"])
def test_a_cancel_request_goes_to_the_control_stream(reason: str | None):
    event = raw(e.CancelRequested(attempt=2, executor="e1", reason=reason))
    assert route(event) == CancelNotice(event.stream_id, 2, "e1", reason)


def test_a_loss_goes_to_the_control_stream():
    event = raw(e.AttemptLost(attempt=2, executor="e1", reason="executor e1 is gone", retry_at=None))
    assert route(event) == CancelNotice(event.stream_id, 2, "e1", "executor e1 is gone")


def test_all_other_events_go_to_the_feed_only_and_are_not_even_parsed():
    routed = {"JobSubmitted", "JobDispatched", "JobRequeued", "CancelRequested", "AttemptLost"}
    for name in events.event_types():
        if name not in routed:
            assert route(RawEvent(Position(1), uuid4(), Version(1), name, NOW, "not JSON", "{}")) is None


@pytest.mark.parametrize("data", ["not JSON", "[]", "{}", '{"spec": null}', '{"spec": {"queue": "q"}}'])
def test_a_routed_event_that_can_not_be_read_goes_nowhere_and_is_told(data: str):
    event = raw(submitted(), data)
    assert route(event) is None
    assert str(event.stream_id) in unreadable.told()
