"""Years of schedules in seconds: whatever happens, each nominal time has exactly one outcome."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from rota_server.domain.errors import NotPossible
from rota_server.domain.schedules import changes
from tests.simulation.schedule_world import DEFAULTS, START, Leader, World, due, next_due, settle

RULES: tuple[dict[str, Any], ...] = (
    {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
    {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "gap": "skip", "fold": "both"},
    {"cron": "15 1,2,3 * * *", "timezone": "America/New_York", "fold": "last"},
    {"cron": "0 */5 * * *", "timezone": "Europe/London"},
    {"cron": "10 2 * * 0", "timezone": "Australia/Lord_Howe", "fold": "both"},
    {"every": 7 * 3600.0},
    {"rrule": "FREQ=WEEKLY;BYDAY=MO,SU;BYHOUR=1;BYMINUTE=30", "timezone": "Europe/London"},
    {"cron": "0 0 1 * *", "timezone": "Asia/Kathmandu"},
    {"cron": ["30 2 * * *", "0 */5 * * *", "30 2 * * 0"], "timezone": "Europe/Berlin", "gap": "skip"},
    {
        "rrule": "RRULE:FREQ=HOURLY;INTERVAL=5\nRRULE:FREQ=DAILY;BYHOUR=2;BYMINUTE=30"
        "\nEXRULE:FREQ=WEEKLY;BYDAY=SU;BYHOUR=2,3",
        "timezone": "America/New_York",
        "fold": "both",
    },
    {"cron": "45 3 * * *", "timezone": "America/Santiago", "jitter": 600.0},
)
POLICIES = ("none", "latest", "all")
OVERLAPS = ("allow", "allow", "skip", "queue_one", "queue_all", "cancel_running", "replace")


class Story:
    """A world with trouble in it."""

    def __init__(self, seed: int, years: float) -> None:
        self.world = World(seed)
        self.until = START + timedelta(days=365 * years)
        self.leaders: list[Leader] = [Leader(self.world)]
        self.streams: list[UUID] = []
        self.happened: Counter[str] = Counter()
        self.world.change_calendar("holidays", dates=["2026-12-25"], weekly=[{"days": ["sat"]}])
        for number in range(6):
            self.streams.append(self.world.create(f"s{number}", **self._definition()))

    def _definition(self) -> dict[str, Any]:
        random = self.world.random
        catch_up = {
            "policy": random.choice(POLICIES),
            "window": random.choice([600, 86_400, 20 * 86_400]),
            "maximum": random.choice([1, 5, 100]),
        }
        found = {**random.choice(RULES), "catch_up": catch_up, "overlap": random.choice(OVERLAPS)}
        if random.random() < 0.4:
            found["calendars"] = ["holidays"]
        if random.random() < 0.1:
            found["end"] = (self.world.now + timedelta(days=random.randrange(2, 200))).isoformat()
        return found

    def play(self) -> None:
        while self.world.now < self.until:
            self._let_time_pass()
            self._make_trouble()
            self._lead()
            self._end_jobs()

    def _let_time_pass(self) -> None:
        world = self.world
        if world.chance(0.005):
            self.happened["downtime"] += 1
            world.now += timedelta(hours=world.random.choice([0.02, 1, 12, 100]) * world.random.random())
        elif world.chance(0.02):
            self.happened["step back"] += 1
            world.now -= timedelta(seconds=world.random.random() * 900)
        else:
            following = next_due(world)
            late = timedelta(seconds=world.random.choice([0.01, 2, 20]) * world.random.random())
            if following is None or following <= world.now:  # a queued tick waits for an end
                following = world.now + timedelta(minutes=world.random.choice([1, 10, 60]))
            world.now = following + late

    def _make_trouble(self) -> None:
        world = self.world
        if world.chance(0.03):
            self.happened["crash"] += 1
            self.leaders = self.leaders[1:]  # in the middle of whatever it did
        if world.chance(0.03) or not self.leaders:
            self.happened["election"] += 1
            self.leaders.append(Leader(world))  # the old one does not know yet
        if world.chance(0.1):
            for leader in self.leaders:
                leader.thaw()
        self.leaders = [leader for leader in self.leaders if not leader.over] or [Leader(world)]
        if world.chance(0.015):
            self._change(world.random.choice(self.streams))
        if world.chance(0.01):
            days = world.random.sample(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], 2)
            world.change_calendar("holidays", weekly=[{"days": days, "from": "01:00", "to": "12:00"}])

    def _change(self, stream_id: UUID) -> None:
        world = self.world
        what = world.random.choice(["pause", "resume", "resume", "resume", "change", "change"])
        self.happened[what] += 1
        try:
            if what == "change":
                world.do(stream_id, changes.change, {**DEFAULTS, **self._definition()})
            else:
                world.do(stream_id, getattr(changes, what))
        except NotPossible as error:
            assert error.code == "unsettled"  # noqa: PT017 - the leader is away for long

    def _lead(self) -> None:
        for leader in list(self.leaders):
            for stream_id in due(self.world):
                for _ in range(5):
                    if leader.over or not leader.look(stream_id):
                        break
        self.leaders = [leader for leader in self.leaders if not leader.over]

    def _end_jobs(self) -> None:
        for job_id, ended in self.world.jobs.items():
            if not ended and self.world.chance(0.3):
                self.world.jobs[job_id] = True


@pytest.mark.parametrize("seed", range(6))
def test_each_nominal_time_has_exactly_one_outcome_whatever_happens(seed: int):
    story = Story(seed, years=4)
    story.play()
    world = story.world
    settle(world)
    counts: Counter[str] = Counter()
    for stream_id in story.streams:
        counts += world.check(stream_id)
        state = world.read(stream_id)
        assert state.queued == () or state.state == "paused"
    assert counts["due"] > 300
    assert min(story.happened.values()) > 0
    assert world.refused > 0
    assert world.conflicts > 0


def test_all_reasons_come_up_in_these_stories():
    counts: Counter[str] = Counter()
    for seed in range(20, 26):
        story = Story(seed, years=0.7)
        story.play()
        for number in range(3):
            story.world.do(story.streams[number], changes.archive)
        settle(story.world)
        for stream_id in story.streams:
            counts += story.world.check(stream_id)
    wanted = {"due", "catch_up", "queued", "overlap", "paused", "calendar", "dst_gap", "past_catch_up", "limit"}
    assert wanted <= set(counts), wanted - set(counts)


def test_a_pause_of_a_year_is_one_event():
    world = World(1)
    stream_id = world.create("seconds", cron="* * * * * *", timezone="Europe/Berlin")
    world.do(stream_id, changes.pause)
    world.now += timedelta(days=365)
    world.do(stream_id, changes.resume)
    leader = Leader(world)
    while leader.look(stream_id):
        pass
    leader.thaw()
    history = world.streams[stream_id]
    assert [type(r.event).__name__ for r in history] == [
        "ScheduleCreated",
        "SchedulePaused",
        "ScheduleResumed",
        "TicksSkipped",
    ]
    assert history[-1].event.count == 365 * 86_400  # type: ignore[attr-defined]


def test_the_same_seed_plays_the_same_story():
    stories = [Story(7, years=0.3) for _ in range(2)]
    for story in stories:
        story.play()
    assert stories[0].world.streams == stories[1].world.streams
    assert stories[0].world.now > datetime(2026, 4, 1, tzinfo=UTC)
