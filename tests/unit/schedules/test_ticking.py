"""The rules of schedules, by hand: overlap, catch-up, changes that come while something is owed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from rota_server.domain.errors import NotPossible, Rejected
from rota_server.domain.events import Event
from rota_server.domain.schedules import changes, ticking
from rota_server.domain.schedules import events as e
from rota_server.domain.schedules.schedule import Schedule, from_json, head_of, tick_job_id, to_json
from tests.simulation.schedule_world import DEFAULTS, META

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Story:
    """A schedule that ticks on the hour, from noon on."""

    def __init__(self, **definition: Any) -> None:
        self.now = NOON
        fields = {**DEFAULTS, "every": 3600.0, **definition}
        self.schedule = changes.create(None, "s", fields, None, META, self.now).schedule
        self.ended: set[str] = set()
        self.jobs: list[ticking.NewJob] = []
        self.cancels: list[UUID] = []

    def look(self, *, after: timedelta = timedelta(0)) -> list[Event]:
        """What the leader decides, until there is nothing more to decide at once."""
        self.now += after
        events: list[Event] = []
        for _ in range(1000):
            ended = frozenset(job for job in self.schedule.open if job in self.ended)
            step = ticking.decide(self.schedule, self.now, ended, lambda _names, _at: [])
            if step.events:
                self.schedule = _stored(ticking.after_step(self.schedule, step, META).schedule)
            events += step.events
            self.jobs += step.jobs
            self.cancels += step.cancels
            if not step.more:
                return events
        raise AssertionError("no end")

    def do(self, change: Any, *arguments: Any, after: timedelta = timedelta(0)) -> changes.Written | None:
        self.now += after
        written: changes.Written | None = change(self.schedule, *arguments, None, META, self.now)
        if written is not None:
            self.schedule = _stored(written.schedule)
        return written

    def end_jobs(self) -> None:
        self.ended |= {str(job.id) for job in self.jobs}


def _stored(schedule: Schedule) -> Schedule:
    read = from_json(schedule.id, schedule.name, schedule.version, to_json(schedule))
    assert read == schedule
    return schedule


def told(events: list[Event]) -> list[str]:
    found = []
    for event in events:
        if isinstance(event, e.ScheduleTicked):
            found.append(f"{event.nominal:%H} {event.cause}")
        elif isinstance(event, e.TickQueued):
            found.append(f"{event.nominal:%H} queued up")
        elif isinstance(event, e.TickSkipped):
            found.append(f"{event.nominal:%H} {event.reason}")
        elif isinstance(event, e.TicksSkipped):
            found.append(f"{event.count} {event.reason}")
        else:
            found.append(type(event).__name__)
    return found


def test_a_tick_and_its_job_have_ids_that_follow_from_schedule_and_time():
    story = Story()
    (event,) = story.look(after=HOUR)
    assert isinstance(event, e.ScheduleTicked)
    (job,) = story.jobs
    assert str(job.id) == event.job_id == str(tick_job_id(story.schedule.id, NOON + HOUR))
    assert job.spec.origin is not None
    assert (job.spec.origin.id, job.spec.origin.name) == (story.schedule.id, "2026-03-02T13:00:00Z")
    assert story.look() == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("allow", ["13 due", "14 due", "15 due", "16 due"]),
        ("skip", ["13 due", "14 overlap", "15 overlap", "16 overlap"]),
        ("queue_one", ["13 due", "14 queued up", "15 overlap", "16 overlap"]),
        ("queue_all", ["13 due", "14 queued up", "15 queued up", "16 queued up"]),
        ("cancel_running", ["13 due", "14 queued up", "14 overlap", "15 queued up", "15 overlap", "16 queued up"]),
        ("replace", ["13 due", "14 due", "15 due", "16 due"]),
    ],
)
def test_what_happens_while_a_job_has_not_ended(policy: str, expected: list[str]):
    story = Story(overlap=policy)
    events = [event for _ in range(4) for event in story.look(after=HOUR)]
    assert told(events) == expected
    cancelled = {str(job) for job in story.cancels}
    first = str(tick_job_id(story.schedule.id, NOON + HOUR))
    assert (first in cancelled) == (policy in ("cancel_running", "replace"))


def test_queued_ticks_start_one_after_the_other_when_jobs_end():
    story = Story(overlap="queue_all")
    for _ in range(3):
        story.look(after=HOUR)
    for expected in ("14 queued", "15 queued"):
        assert story.look() == []
        story.end_jobs()
        assert told(story.look()) == [expected]
    assert story.schedule.queued == ()


def test_no_more_than_a_hundred_ticks_wait():
    story = Story(overlap="queue_all")
    events = [event for _ in range(ticking.QUEUED_MAXIMUM + 2) for event in story.look(after=HOUR)]
    assert len(story.schedule.queued) == ticking.QUEUED_MAXIMUM
    last = events[-1]
    assert isinstance(last, e.TickSkipped)
    assert last.reason == "limit"


def test_queued_ticks_wait_while_paused_and_end_with_the_schedule():
    story = Story(overlap="queue_one")
    story.look(after=HOUR)
    story.look(after=HOUR)
    story.do(changes.pause)
    story.end_jobs()
    assert story.look() == []
    written = story.do(changes.archive)
    assert written is not None
    assert told(list(written.events)) == ["14 ended", "ScheduleArchived"]
    assert story.look() == []
    assert head_of(story.schedule, None).due_at is None


@pytest.mark.parametrize(
    ("late", "cause"), [(ticking.ON_TIME - timedelta(seconds=1), "due"), (ticking.ON_TIME, "catch_up")]
)
def test_up_to_half_a_minute_late_is_on_time(late: timedelta, cause: str):
    story = Story()
    assert told(story.look(after=HOUR + late)) == [f"13 {cause}"]


def test_a_latest_tick_that_a_calendar_leaves_out_gives_way_to_the_one_before():
    from rota_server.domain.recurrence.calendars import parse_calendar

    story = Story(calendars=["c"])
    calendar = parse_calendar({"intervals": [{"from": "2026-03-02T16:30:00Z", "to": "2026-03-02T18:00:00Z"}]})
    story.now = NOON + 5 * HOUR + timedelta(minutes=10)
    step = ticking.decide(story.schedule, story.now, frozenset(), lambda _names, _at: [calendar])
    assert told(list(step.events)) == ["3 past_catch_up", "16 catch_up", "17 calendar"]


def test_a_change_leaves_what_is_owed_to_the_rule_before_it():
    story = Story(catch_up={"policy": "all", "window": 86_400, "maximum": 100})
    changed = {**story.schedule.definition, "every": 7200.0}
    story.do(changes.change, changed, after=2 * HOUR + timedelta(minutes=30))
    assert story.schedule.eras != ()
    assert head_of(story.schedule, None).due_at == NOON
    story.now += 4 * HOUR  # nobody led meanwhile: 13 and 14 by the old rule, 16 and 18 by the new one
    assert told(story.look()) == ["13 catch_up", "14 catch_up", "16 catch_up", "18 catch_up"]
    assert [job.spec.origin.name[11:13] for job in story.jobs if job.spec.origin and job.spec.origin.name] == [
        "13",
        "14",
        "16",
        "18",
    ]


def test_a_pause_that_nobody_saw_is_still_a_pause():
    story = Story(catch_up={"policy": "all", "window": 86_400, "maximum": 100})
    story.do(changes.pause, after=HOUR + timedelta(minutes=30))
    story.do(changes.resume, after=2 * HOUR)
    story.now += HOUR
    assert told(story.look()) == ["13 catch_up", "2 paused", "16 catch_up"]


def test_what_was_owed_when_a_schedule_was_archived_ends_with_it():
    story = Story()
    story.do(changes.archive, after=3 * HOUR)
    assert told(story.look()) == ["3 ended"]
    assert story.jobs == []
    with pytest.raises(NotPossible):
        story.do(changes.pause)


def test_only_so_many_changes_may_pile_up_before_the_leader_has_settled_them():
    story = Story()
    for number in range(changes.ERAS_MAXIMUM):
        story.do(changes.change, {**story.schedule.definition, "notes": str(number)}, after=HOUR)
    with pytest.raises(NotPossible) as refused:
        story.do(changes.change, {**story.schedule.definition, "notes": "one more"}, after=HOUR)
    assert refused.value.code == "unsettled"
    story.look()
    assert story.schedule.eras == ()


def test_a_rule_that_ends_ends_its_schedule_and_a_change_begins_it_again():
    story = Story(count=2, start="2026-03-02T13:00:00+00:00")
    assert told(story.look(after=HOUR)) == ["13 due"]
    assert told(story.look(after=HOUR)) == ["14 due", "ScheduleEnded"]
    assert story.schedule.state == "ended"
    assert head_of(story.schedule, None).active is False
    story.do(changes.change, {**story.schedule.definition, "count": None}, after=HOUR)
    assert story.schedule.state == "active"
    assert told(story.look(after=HOUR)) == ["16 due"]


def test_a_rule_whose_times_are_all_over_is_refused():
    with pytest.raises(Rejected) as refused:
        Story(every=None, at=["2020-01-01T00:00:00Z"])
    assert refused.value.field == "at"


def test_a_clock_that_went_back_repeats_nothing():
    story = Story()
    story.look(after=HOUR + timedelta(seconds=5))
    assert story.look(after=-timedelta(minutes=30)) == []
    assert story.look(after=timedelta(minutes=30)) == []
    assert told(story.look(after=HOUR)) == ["14 due"]


def test_a_run_by_hand_is_in_the_way_of_the_next_tick():
    story = Story(overlap="skip")
    run = changes.run(story.schedule, "key", frozenset(), None, META, story.now)
    story.schedule = run.written.schedule
    assert told(story.look(after=HOUR)) == ["13 overlap"]
    story.ended.add(str(run.job_id))
    assert told(story.look(after=HOUR)) == ["14 due"]
    assert str(run.job_id) not in story.schedule.open


def test_what_does_not_fit_into_one_unit_goes_on_in_the_next():
    story = Story(every=60.0, catch_up={"policy": "all", "window": 86_400, "maximum": ticking.TICKS_MAXIMUM})
    story.do(changes.change, {**story.schedule.definition, "every": 7200.0}, after=10 * HOUR + timedelta(seconds=30))
    step = ticking.decide(story.schedule, story.now + HOUR, frozenset(), lambda _names, _at: [])
    assert len(step.events) == ticking.TICKS_MAXIMUM
    assert step.more
    events = story.look(after=HOUR)
    (skipped,) = [event for event in events if isinstance(event, e.TicksSkipped)]
    assert (skipped.count, skipped.reason) == (600 - ticking.TICKS_MAXIMUM, "limit")
    ticks = [event.nominal for event in events if isinstance(event, e.ScheduleTicked)]
    assert ticks == [NOON + timedelta(minutes=minute) for minute in range(401, 601)]
    assert story.schedule.eras == ()
