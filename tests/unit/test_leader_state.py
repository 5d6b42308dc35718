"""What a leader knows: what it counts, what it saves, whom it takes for dead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from rota_server.domain.errors import Corruption
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.leader_state import DEADLINE_GRACE, GONE_GRACE, REPEAT, UNSEEN_GRACE, LeaderState
from rota_server.domain.messaging import FeedEvent
from rota_server.domain.timers import HORIZON

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PLACE = {"queue": "default", "priority": "normal"}
DEFAULT = ("default", "normal")


class Story:
    """A leader's state, and events that happen to it."""

    def __init__(self) -> None:
        self.state = LeaderState(Position(0), [], {})
        self.state.timers.begin_load(NOW + HORIZON, Position(0))
        self.state.timers.end_load([], 0)
        self._versions: dict[UUID, int] = {}

    def happens(self, event_type: str, job: UUID | None = None, **data: Any) -> UUID:
        job = job or uuid4()
        version = self._versions[job] = self._versions.get(job, 0) + 1
        position = Position(self.state.position + 1)
        self.state.apply([FeedEvent(position, str(job), Version(version), event_type, data, NOW.isoformat())])
        return job

    def submitted(self, **spec: Any) -> UUID:
        return self.happens("JobSubmitted", spec={"run_at": None, "expires_at": None, **PLACE, **spec})

    def started(self, job: UUID, *, attempt: int = 1, executor: str = "e1", timeout: float | None = None) -> UUID:
        return self.happens("AttemptStarted", job, attempt=attempt, executor=executor, timeout_seconds=timeout, **PLACE)


def test_a_gap_in_the_events_is_refused():
    story = Story()
    story.submitted()
    with pytest.raises(Corruption):
        story.state.apply([FeedEvent(Position(3), "x", Version(1), "JobSubmitted", {}, "")])


def test_it_counts_what_is_queued():
    story = Story()
    first, second, third, fourth = (story.submitted() for _ in range(4))
    story.submitted(run_at=(NOW + SECOND).isoformat())
    assert story.state.queued == {DEFAULT: 4}
    story.started(first)
    story.happens("JobCancelled", second, was="queued", **PLACE)
    story.happens("JobExpired", third, was="queued", **PLACE)
    story.happens("JobRescheduled", fourth, was="queued", run_at=NOW.isoformat(), **PLACE)
    assert story.state.queued == {DEFAULT: 0}
    story.happens("AttemptFailed", first, attempt=1, retry_at=(NOW + SECOND).isoformat())
    story.happens("JobDispatched", first, reason="retry", **PLACE)
    story.happens("JobDispatched", first, reason="missing", **PLACE)
    story.happens("JobRequeued", second, reason=None, **PLACE)
    assert story.state.queued == {DEFAULT: 2}


def test_what_started_and_ended_between_two_saves_leaves_no_trace():
    story = Story()
    brief, lasting = story.started(story.submitted()), story.started(story.submitted())
    story.happens("AttemptSucceeded", brief, attempt=1)
    change = story.state.take_change()
    assert [attempt.job_id for attempt in change.started] == [lasting]
    assert change.ended == []
    assert change.position == 5
    story.happens("AttemptSucceeded", lasting, attempt=1)
    change = story.state.take_change()
    assert (change.started, change.ended) == ([], [lasting])
    change = story.state.take_change()
    assert (change.started, change.ended, change.counts) == ([], [], {})


def test_an_attempt_that_follows_a_saved_one_replaces_it():
    story = Story()
    job = story.started(story.submitted())
    story.state.take_change()
    story.happens("AttemptFailed", job, attempt=1, retry_at=NOW.isoformat())
    story.happens("JobDispatched", job, reason="retry", **PLACE)
    story.started(job, attempt=2)
    change = story.state.take_change()
    assert [(attempt.job_id, attempt.attempt) for attempt in change.started] == [(job, 2)]
    assert change.ended == []


def test_jobs_become_due_by_their_run_time_their_retry_time_or_their_expiry():
    story = Story()
    runs = story.submitted(run_at=(NOW + SECOND).isoformat())
    expires = story.submitted(expires_at=(NOW + 2 * SECOND).isoformat())
    fails = story.started(story.submitted())
    story.happens("AttemptFailed", fails, attempt=1, retry_at=(NOW + 3 * SECOND).isoformat())
    assert [d.job_id for d in story.state.due(NOW + 3 * SECOND, 10)] == [runs, expires, fails]


def test_a_job_that_started_or_ended_is_not_due_any_more():
    story = Story()
    expiry = (NOW + SECOND).isoformat()
    story.started(story.submitted(expires_at=expiry))
    story.happens("JobCancelled", story.submitted(expires_at=expiry), was="queued", **PLACE)
    assert story.state.due(NOW + SECOND, 10) == []


def gone(story: Story, now: datetime) -> list[c.Command]:
    return [decision.command for decision in story.state.lost(now, 100)]


def test_an_executor_that_was_alive_and_vanishes_loses_its_attempts_after_the_grace():
    story = Story()
    story.started(story.submitted())
    story.state.members(["e1"])
    assert gone(story, NOW) == []
    story.state.members([])
    assert gone(story, NOW) == []
    assert gone(story, NOW + GONE_GRACE - SECOND / 10) == []
    assert gone(story, NOW + GONE_GRACE) == [c.LoseAttempt(attempt=1, reason="executor e1 is gone")]


def test_an_executor_that_comes_back_in_time_loses_nothing():
    story = Story()
    story.started(story.submitted())
    story.state.members(["e1"])
    story.state.members([])
    assert gone(story, NOW) == []
    story.state.members(["e1"])
    assert gone(story, NOW + GONE_GRACE) == []
    story.state.members([])
    assert gone(story, NOW + GONE_GRACE) == []


def test_a_new_leader_gives_executors_that_it_never_saw_a_sessions_time():
    story = Story()
    story.started(story.submitted())
    story.state.members([])
    assert gone(story, NOW) == []
    assert gone(story, NOW + UNSEEN_GRACE - SECOND) == []
    assert len(gone(story, NOW + UNSEEN_GRACE)) == 1


def test_while_nobody_can_say_who_is_alive_nobody_is_dead_nor_soon_after():
    story = Story()
    story.started(story.submitted())
    story.state.members(["e1"])
    story.state.members(None)
    assert gone(story, NOW + 60 * SECOND) == []
    story.state.members([])
    assert gone(story, NOW + 60 * SECOND) == []
    assert gone(story, NOW + 60 * SECOND + GONE_GRACE) == []
    assert len(gone(story, NOW + 60 * SECOND + UNSEEN_GRACE)) == 1


def test_an_attempt_far_behind_its_timeout_is_lost_although_its_executor_lives():
    story = Story()
    story.started(story.submitted(), timeout=5)
    story.started(story.submitted(), timeout=None)
    story.state.members(["e1"])
    deadline = NOW + 5 * SECOND + DEADLINE_GRACE
    assert gone(story, deadline - SECOND) == []
    assert len(gone(story, deadline)) == 1


def test_a_loss_is_decided_again_only_when_nothing_came_of_it():
    story = Story()
    job = story.started(story.submitted(), timeout=0)
    story.state.members(["e1"])
    assert len(gone(story, NOW + DEADLINE_GRACE)) == 1
    assert gone(story, NOW + DEADLINE_GRACE + SECOND) == []
    assert len(gone(story, NOW + DEADLINE_GRACE + REPEAT)) == 1
    story.happens("AttemptLost", job, attempt=1, retry_at=None)
    assert gone(story, NOW + DEADLINE_GRACE + 2 * REPEAT) == []
    assert story.state._decided_at == {}


def test_nothing_grows_with_the_jobs_that_wait():
    story = Story()
    for _ in range(3000):
        story.submitted()
    state = story.state
    assert len(state.timers) == 0
    sizes = [len(value) for value in vars(state).values() if isinstance(value, dict | set | list)]
    assert max(sizes) <= 1


def test_an_event_that_does_not_say_what_it_should_is_set_aside_and_the_next_ones_count():
    story = Story()
    story.happens("JobTeleported", where="Mars")
    for data in ({}, {"spec": None}, {"spec": {"queue": "q"}}):
        story.happens("JobSubmitted", **data)
    story.submitted()
    assert story.state.queued == {DEFAULT: 1}
    assert [event.position for event, _ in story.state.unreadable] == [2, 3, 4]
