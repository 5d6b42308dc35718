"""The rules of a job, by hand where a rule has a name, by hypothesis where any order of commands must be survived."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.adapters.codec import decode, encode_event, encode_meta
from rota_server.domain import events as domain_events
from rota_server.domain.errors import Conflict, NotPossible, Unreadable
from rota_server.domain.events import Event, event_from_json, event_types
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs import events as e
from rota_server.domain.jobs.decisions import decide
from rota_server.domain.jobs.events import AttemptError
from rota_server.domain.jobs.job import ENDED, Job, evolve, fold, foresee, head_of
from rota_server.domain.jobs.retry import RetryPolicy
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Meta, RawEvent, Recorded

NOW = datetime(2027, 1, 1, tzinfo=UTC)
META = Meta(actor="test")
ERROR = AttemptError(type="ValueError", message="no")


class Story:
    """A job's history as the log would have it, stored and read back."""

    def __init__(self, spec: JobSpec) -> None:
        self.id = uuid4()
        self.now = NOW
        self.job: Job | None = None
        self.history: list[Recorded] = []
        self.do(c.SubmitJob(spec=spec))

    def do(self, command: c.Command) -> list[str]:
        events = decide(self.job, command, self.now)
        expected = foresee(self.job, self.id, events, META, self.now) if events else self.job
        for event in events:
            recorded = self._stored(event)
            self.history.append(recorded)
            self.job = evolve(self.job, recorded)
        if events:
            assert self.job is not None
            assert expected is not None
            assert head_of(expected) == head_of(self.job)
        return [type(event).__name__ for event in events]

    def _stored(self, event: Event) -> Recorded:
        place = len(self.history) + 1
        raw = RawEvent(
            Position(place),
            self.id,
            Version(place),
            type(event).__name__,
            self.now,
            encode_event(event).decode(),
            encode_meta(META, unit=UUID(int=1)).decode(),
        )
        read = decode(raw)
        assert read.event == event
        return read

    @property
    def state(self) -> str:
        assert self.job is not None
        return self.job.state


def started(spec: JobSpec | None = None) -> Story:
    story = Story(spec or JobSpec(task="t"))
    story.do(c.StartAttempt(executor="e"))
    return story


def test_a_job_that_succeeds_at_once_costs_three_events() -> None:
    story = started()
    assert story.do(c.SucceedAttempt(attempt=1, executor="e", result=1)) == ["AttemptSucceeded"]
    assert (story.state, len(story.history)) == ("succeeded", 3)


def test_a_delayed_job_waits_and_is_dispatched_when_it_is_due() -> None:
    story = Story(JobSpec(task="t", run_at=NOW + timedelta(seconds=5)))
    assert story.state == "scheduled"
    assert story.do(c.ActOnTime()) == []
    story.now += timedelta(seconds=5)
    assert story.do(c.ActOnTime()) == ["JobDispatched"]
    assert story.state == "queued"


def test_a_failed_attempt_is_retried_until_none_is_left() -> None:
    story = started(JobSpec(task="t", retry=RetryPolicy(max_attempts=2, initial_seconds=3, jitter=0)))
    failure = c.FailAttempt(attempt=1, executor="e", error=ERROR)
    assert story.do(failure) == ["AttemptFailed"]
    assert story.job is not None
    assert (story.state, story.job.due_at) == ("retrying", NOW + timedelta(seconds=3))
    story.now += timedelta(seconds=3)
    assert story.do(c.ActOnTime()) == ["JobDispatched"]
    story.do(c.StartAttempt(executor="f"))
    assert story.do(c.FailAttempt(attempt=2, executor="f", error=ERROR)) == ["AttemptFailed", "JobDead"]
    assert story.state == "failed"


def test_what_can_not_be_retried_is_not() -> None:
    story = started()
    assert story.do(c.FailAttempt(attempt=1, executor="e", error=ERROR, retryable=False)) == [
        "AttemptFailed",
        "JobDead",
    ]


def test_a_task_may_choose_when_its_next_attempt_starts_within_bounds() -> None:
    def next_attempt(again: float | datetime | None, attempts: int = 3) -> datetime | None:
        story = started(JobSpec(task="t", retry=RetryPolicy(max_attempts=attempts, initial_seconds=5, jitter=0)))
        story.do(c.FailAttempt(attempt=1, executor="x", error=ERROR, again=again))
        failed = next(r.event for r in story.history if isinstance(r.event, e.AttemptFailed))
        assert story.job is not None
        assert story.job.state == ("failed" if failed.retry_at is None else "retrying")
        return failed.retry_at

    month = timedelta(days=30)
    assert next_attempt(None) == NOW + timedelta(seconds=5)
    assert next_attempt(30) == NOW + timedelta(seconds=30)
    assert next_attempt(0.0) == next_attempt(-3.0) == NOW
    assert next_attempt(NOW + timedelta(hours=2)) == NOW + timedelta(hours=2)
    assert next_attempt(NOW - timedelta(hours=2)) == NOW
    assert next_attempt(1e12) == next_attempt(NOW + timedelta(days=999)) == NOW + month
    assert next_attempt(30, attempts=1) is None, "the policy's attempts are the bound"


def test_an_attempt_starts_once() -> None:
    story = started()
    with pytest.raises(Conflict):
        story.do(c.StartAttempt(executor="other"))


def test_a_late_result_of_a_lost_attempt_is_rejected_and_changes_nothing() -> None:
    story = started()
    assert story.do(c.LoseAttempt(attempt=1, reason="gone")) == ["AttemptLost"]
    assert story.do(c.SucceedAttempt(attempt=1, executor="e", result=1)) == ["ResultRejected"]
    assert story.state == "retrying"


def lose(story: Story, attempt: int, **how: Any) -> list[str]:
    return story.do(c.LoseAttempt(attempt=attempt, reason="gone", **how))


def run_again(story: Story) -> None:
    assert story.job is not None
    assert story.job.run_at is not None
    story.now = max(story.now, story.job.run_at)
    story.do(c.ActOnTime())
    story.do(c.StartAttempt(executor="f"))


def test_losses_do_not_count_as_failures_and_have_a_bound_of_their_own() -> None:
    story = started(JobSpec(task="t", retry=RetryPolicy(max_attempts=1, max_losses=2)))
    for attempt in (1, 2):
        assert lose(story, attempt) == ["AttemptLost"]
        run_again(story)
    assert story.job is not None
    assert (story.job.attempt, story.job.failures, story.job.losses) == (3, 0, 2)
    assert lose(story, 3) == ["AttemptLost", "JobDead"]
    assert (story.state, story.job.reason) == ("failed", "lost too often")


def test_failures_do_not_count_as_losses() -> None:
    story = started(JobSpec(task="t", retry=RetryPolicy(max_attempts=2, max_losses=1)))
    assert lose(story, 1) == ["AttemptLost"]
    run_again(story)
    assert story.do(c.FailAttempt(attempt=2, executor="f", error=ERROR)) == ["AttemptFailed"]
    run_again(story)
    assert story.do(c.FailAttempt(attempt=3, executor="f", error=ERROR)) == ["AttemptFailed", "JobDead"]


def test_a_job_that_must_not_run_twice_is_not_repeated_after_a_loss() -> None:
    assert lose(started(JobSpec(task="t", retry=RetryPolicy(max_losses=0))), 1) == ["AttemptLost", "JobDead"]


def test_what_a_stopping_executor_hands_back_costs_an_idempotent_job_nothing() -> None:
    once = RetryPolicy(max_attempts=1, max_losses=0)
    story = started(JobSpec(task="t", retry=once, idempotent=True))
    for attempt in range(1, 6):
        assert lose(story, attempt, handed_back=True) == ["AttemptLost"]
        assert story.job is not None
        assert story.job.run_at == story.now
        run_again(story)
    assert (story.job.failures, story.job.losses) == (0, 0)
    assert lose(story, 6) == ["AttemptLost", "JobDead"]
    assert lose(started(JobSpec(task="t", retry=once)), 1, handed_back=True) == ["AttemptLost", "JobDead"]


def test_what_was_claimed_but_never_begun_is_handed_back_at_no_cost_whatever_it_is() -> None:
    story = started(JobSpec(task="t", retry=RetryPolicy(max_attempts=1, max_losses=0)))
    assert lose(story, 1, handed_back=True, begun=False) == ["AttemptLost"]
    assert lose(started(JobSpec(task="t", retry=RetryPolicy(max_losses=0))), 1, begun=False)[1:] == ["JobDead"]


def test_a_retry_by_hand_gives_both_budgets_anew() -> None:
    story = started(JobSpec(task="t", retry=RetryPolicy(max_losses=1)))
    lose(story, 1)
    run_again(story)
    assert lose(story, 2) == ["AttemptLost", "JobDead"]
    assert story.do(c.RetryJob()) == ["JobRequeued"]
    story.do(c.StartAttempt(executor="f"))
    assert lose(story, 3) == ["AttemptLost"]


def test_cancelling_a_waiting_job_ends_it_at_once_and_a_running_one_through_its_executor() -> None:
    waiting = Story(JobSpec(task="t"))
    assert waiting.do(c.RequestCancel(reason="no")) == ["JobCancelled"]
    running = started()
    assert running.do(c.RequestCancel(reason="no")) == ["CancelRequested"]
    assert running.do(c.RequestCancel(reason="no")) == []
    assert running.state == "running"
    assert running.do(c.ConfirmCancel(attempt=1, executor="e")) == ["JobCancelled"]
    assert running.job is not None
    assert running.job.reason == "no"


def test_a_cancelled_job_whose_executor_dies_is_cancelled_and_not_retried() -> None:
    story = started()
    story.do(c.RequestCancel())
    assert story.do(c.LoseAttempt(attempt=1, reason="gone")) == ["AttemptLost", "JobCancelled"]


def test_an_ended_job_can_not_be_cancelled() -> None:
    story = started()
    story.do(c.SucceedAttempt(attempt=1, executor="e", result=None))
    with pytest.raises(NotPossible):
        story.do(c.RequestCancel())


def test_no_attempt_starts_after_the_expiry() -> None:
    story = Story(JobSpec(task="t", expires_at=NOW + timedelta(seconds=1)))
    story.now += timedelta(seconds=1)
    assert story.do(c.StartAttempt(executor="e")) == ["JobExpired"]
    assert story.state == "expired"


def test_an_ended_job_that_is_retried_by_hand_gets_a_fresh_budget() -> None:
    story = started(JobSpec(task="t", retry=RetryPolicy(max_attempts=1)))
    story.do(c.FailAttempt(attempt=1, executor="e", error=ERROR))
    assert story.do(c.RetryJob(reason="mended")) == ["JobRequeued"]
    story.do(c.StartAttempt(executor="e"))
    assert story.job is not None
    assert (story.job.attempt, story.job.failures) == (2, 0)


COMMANDS = st.sampled_from(
    [
        c.StartAttempt(executor="e"),
        c.ActOnTime(),
        c.DispatchJob(reason="missing"),
        c.ExpireJob(),
        c.RequestCancel(),
        c.RetryJob(),
        c.RescheduleJob(run_at=NOW + timedelta(hours=1)),
    ]
)
ABOUT_ATTEMPTS = st.builds(
    lambda number, kind: {
        "ok": c.SucceedAttempt(attempt=number, executor="e", result={"a": [1]}),
        "fail": c.FailAttempt(attempt=number, executor="e", error=ERROR),
        "dead": c.FailAttempt(attempt=number, executor="e", error=ERROR, retryable=False),
        "lost": c.LoseAttempt(attempt=number, reason="gone"),
        "cancelled": c.ConfirmCancel(attempt=number, executor="e"),
        "progress": c.ReportProgress(attempt=number, fraction=0.5, message=None),
    }[kind],
    st.integers(1, 4),
    st.sampled_from(["ok", "fail", "dead", "lost", "cancelled", "progress"]),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(COMMANDS | ABOUT_ATTEMPTS, st.integers(0, 4000)), max_size=40),
    st.sampled_from([None, timedelta(seconds=30)]),
    st.sampled_from([None, timedelta(seconds=2000)]),
)
def test_any_order_of_commands_leaves_a_story_that_makes_sense(
    steps: list[tuple[c.Command, int]], delay: timedelta | None, expiry: timedelta | None
) -> None:
    story = Story(
        JobSpec(
            task="t",
            run_at=None if delay is None else NOW + delay,
            expires_at=None if expiry is None else NOW + expiry,
            retry=RetryPolicy(max_attempts=3),
        )
    )
    for command, seconds in steps:
        story.now += timedelta(seconds=seconds)
        before = story.state
        try:
            names = story.do(command)
        except (Conflict, NotPossible):
            assert story.state == before
            continue
        if before in ENDED and story.state != before:
            assert names == ["JobRequeued"]
    starts = [r.event.attempt for r in story.history if isinstance(r.event, e.AttemptStarted)]
    assert starts == list(range(1, len(starts) + 1))
    assert fold(story.history) == story.job
    assert story.job is not None
    assert story.job.failures <= 3
    wins = [r for r in story.history if isinstance(r.event, e.AttemptSucceeded)]
    assert len({r.event.attempt for r in wins}) == len(wins)  # type: ignore[union-attr]


def test_nothing_is_decided_about_a_stream_that_makes_no_sense() -> None:
    story = Story(JobSpec(task="t"))
    torn = story.history[0]._replace(version=Version(5), event=e.JobDead(attempts=1, reason="x"))
    strange = story.history[0]._replace(
        version=Version(2), event=domain_events.UnreadableEvent(type="JobTeleported", reason="new")
    )
    for event in (torn, strange):
        after = evolve(story.job, event)
        assert (after.state, after.version, after.position) == ("queued", event.version, event.position)
        assert str(event.position) in (after.unreadable or "")
        with pytest.raises(Unreadable):
            decide(after, c.RequestCancel(), story.now)
        later = evolve(after, story.history[0]._replace(version=Version(6), event=e.JobDead(attempts=1, reason="x")))
        assert (later.state, later.version, later.unreadable) == ("queued", 6, after.unreadable)
    with pytest.raises(Unreadable):
        fold([torn])


def test_unknown_and_newer_events_are_unreadable_and_never_skipped() -> None:
    with pytest.raises(Unreadable):
        event_from_json("NoSuchEvent", {})
    with pytest.raises(Unreadable):
        event_from_json("JobDead", {"attempts": 1, "reason": "x"}, schema=99)
    with pytest.raises(Unreadable):
        event_from_json("JobDead", {"attempts": 1})


def test_fields_that_a_newer_version_has_added_are_left_out() -> None:
    data = {"attempts": 1, "reason": "x", "mood": "sad"}
    assert event_from_json("JobDead", data) == e.JobDead(attempts=1, reason="x")
    spec = orjson.loads(orjson.dumps(e.JobSubmitted(spec=JobSpec(task="t"))))
    spec["spec"] |= {"colour": "red", "retry": {**spec["spec"]["retry"], "patience": 3}}
    assert event_from_json("JobSubmitted", {**spec, "more": {}}) == e.JobSubmitted(spec=JobSpec(task="t"))


def test_an_old_shape_is_turned_into_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e.JobDead, "schema", 2)
    monkeypatch.setitem(
        domain_events._upcasters, ("JobDead", 1), lambda data: {"attempts": data["tries"], "reason": "old"}
    )
    assert event_from_json("JobDead", {"tries": 3}, schema=1) == e.JobDead(attempts=3, reason="old")


def test_every_registered_type_is_stored_under_its_class_name() -> None:
    for name, cls in event_types().items():
        assert name == cls.__name__
        assert orjson.dumps(name)


@given(st.uuids(), st.integers(1, 100))
def test_delays_grow_stay_within_bounds_and_are_the_same_on_every_replay(job_id: UUID, failures: int) -> None:
    policy = RetryPolicy(initial_seconds=1, factor=2, maximum_seconds=60, jitter=0.1)
    delay = policy.delay_seconds(job_id, failures)
    assert delay == policy.delay_seconds(job_id, failures)
    assert 0.9 <= delay <= 60
