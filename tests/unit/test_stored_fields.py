"""What came later is stored only where it says something: earlier versions refuse fields that they do not know."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from uuid import uuid4

import orjson

from rota_server.adapters.codec import encode_event
from rota_server.domain.events import event_from_json
from rota_server.domain.jobs import events as e
from rota_server.domain.jobs.retry import RetryPolicy
from rota_server.domain.jobs.spec import After, JobSpec, Origin, Predecessor, Unique, spec_from_json
from rota_server.domain.stored import without_defaults

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
FULL = JobSpec(
    task="t",
    args={"a": [1, {"max_losses": 5, "idempotent": False}]},
    run_at=NOW,
    expires_at=NOW,
    tags={"a": "b"},
    key="k",
    after=After(predecessors=(Predecessor(id=uuid4(), name="p"),)),
    unique=Unique(key="u"),
    origin=Origin(kind="workflow", id=uuid4(), name="n"),
)
SPEC_OF_THE_FIRST_VERSION = {
    "task", "args", "queue", "priority", "run_at", "timeout_seconds", "expires_at", "tags", "retry", "key", "after",
    "unique", "origin",
}  # fmt: skip
RETRY_OF_THE_FIRST_VERSION = {"max_attempts", "backoff", "initial_seconds", "factor", "maximum_seconds", "jitter"}


def test_a_job_that_uses_nothing_new_is_stored_as_the_first_version_reads_it() -> None:
    stored = orjson.loads(encode_event(e.JobSubmitted(spec=FULL)))
    assert set(stored["spec"]) == SPEC_OF_THE_FIRST_VERSION
    assert set(stored["spec"]["retry"]) == RETRY_OF_THE_FIRST_VERSION
    assert event_from_json("JobSubmitted", stored) == e.JobSubmitted(spec=FULL)


def test_what_is_new_is_stored_and_read_again() -> None:
    spec = JobSpec(task="t", retry=RetryPolicy(max_losses=0), idempotent=True)
    stored = orjson.loads(encode_event(e.JobSubmitted(spec=spec)))
    assert (stored["spec"]["idempotent"], stored["spec"]["retry"]["max_losses"]) == (True, 0)
    assert event_from_json("JobSubmitted", stored) == e.JobSubmitted(spec=spec)


def test_a_loss_is_stored_as_the_first_version_reads_it_unless_it_was_handed_back() -> None:
    lost = e.AttemptLost(attempt=1, executor="e", reason="gone", retry_at=NOW)
    stored = orjson.loads(encode_event(lost))
    assert set(stored) == {"attempt", "executor", "reason", "retry_at"}
    assert event_from_json("AttemptLost", stored) == lost
    back = e.AttemptLost(attempt=1, executor="e", reason="its executor stopped", retry_at=NOW, handed_back=True)
    assert event_from_json("AttemptLost", orjson.loads(encode_event(back))) == back


def test_a_template_of_a_schedule_or_trigger_is_kept_likewise() -> None:
    kept = without_defaults(orjson.loads(orjson.dumps(asdict(FULL))))
    assert set(kept) == SPEC_OF_THE_FIRST_VERSION
    assert set(kept["retry"]) == RETRY_OF_THE_FIRST_VERSION
    assert spec_from_json(kept) == FULL
