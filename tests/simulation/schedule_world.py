"""A log of schedules in simulated time: leaders that crash or are stale, people who change things, a clock that steps.

Everything random comes from one seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from rota_server.adapters.codec import decode, encode_event, encode_meta
from rota_server.domain.events import Event
from rota_server.domain.ids import Position, Version, resource_id
from rota_server.domain.log import Meta, RawEvent, Recorded, ResourceHead
from rota_server.domain.recurrence.calendars import Calendar, parse_calendar
from rota_server.domain.recurrence.times import Nominal, nominal_times
from rota_server.domain.schedules import changes, ticking
from rota_server.domain.schedules import definition as definitions
from rota_server.domain.schedules import events as e
from rota_server.domain.schedules.presence import Presence
from rota_server.domain.schedules.schedule import KIND, Schedule, evolve, fold, from_json, to_json

START = datetime(2026, 1, 1, tzinfo=UTC)
META = Meta(actor="simulation")

DEFAULTS: dict[str, Any] = {
    "timezone": "UTC",
    "gap": "shift",
    "fold": "first",
    "start": None,
    "end": None,
    "count": None,
    "jitter": 0.0,
    "calendars": [],
    "overlap": "allow",
    "catch_up": {"policy": "latest", "window": 86_400, "maximum": 100},
    "job": {
        "task": "noop",
        "args": {},
        "queue": "default",
        "priority": "normal",
        "run_at": None,
        "timeout_seconds": 60,
        "expires_at": None,
        "tags": {},
        "retry": {
            "max_attempts": 5,
            "backoff": "exponential",
            "initial_seconds": 1.0,
            "factor": 2.0,
            "maximum_seconds": 3600.0,
            "jitter": 0.1,
        },
        "key": None,
        "after": None,
        "unique": None,
        "origin": None,
    },
    "tags": {},
    "owner": None,
    "notes": None,
}


class Row(NamedTuple):
    """A schedule's row: what the append keeps beside the stream."""

    version: int
    doc: bytes
    due_at: datetime | None


class Lost(Exception):
    """Somebody was quicker."""


class Refused(Exception):
    """A newer term is in force."""


@dataclass
class World:
    """The log, the rows, the jobs, and PostgreSQL's clock."""

    seed: int
    now: datetime = START
    term: int = 0
    streams: dict[UUID, list[Recorded]] = field(default_factory=dict)
    rows: dict[UUID, Row] = field(default_factory=dict)
    names: dict[UUID, str] = field(default_factory=dict)
    jobs: dict[UUID, bool] = field(default_factory=dict)
    """Whether it has ended."""
    calendars: dict[str, list[tuple[datetime, Calendar]]] = field(default_factory=dict)
    """Versions, each with the instant from which it is in force."""
    refused: int = 0
    conflicts: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # -- the log -----------------------------------------------------------------------------------------------------

    def append(
        self,
        stream_id: UUID,
        expected: int,
        events: Sequence[Event],
        head: ResourceHead,
        jobs: Sequence[UUID] = (),
        term: int | None = None,
    ) -> None:
        """One unit, or nothing of it."""
        if term is not None and term < self.term:
            self.refused += 1
            raise Refused
        stream = self.streams.setdefault(stream_id, [])
        if len(stream) != expected or any(job in self.jobs for job in jobs):
            self.conflicts += 1
            raise Lost("somebody was quicker")
        for event in events:
            stream.append(self._stored(stream_id, len(stream) + 1, event))
        self.jobs.update(dict.fromkeys(jobs, False))
        doc = orjson.dumps(head.doc)
        self.rows[stream_id] = Row(len(stream), doc, head.due_at)

    def _stored(self, stream_id: UUID, version: int, event: Event) -> Recorded:
        """As the log would keep it and read it back."""
        name, data = type(event).__name__, encode_event(event).decode()
        meta = encode_meta(META, unit=UUID(int=0)).decode()
        return decode(RawEvent(Position(version), stream_id, Version(version), name, self.now, data, meta))

    def read(self, stream_id: UUID) -> Schedule:
        row = self.rows[stream_id]
        return from_json(stream_id, self.names[stream_id], Version(row.version), orjson.loads(row.doc))

    # -- people ------------------------------------------------------------------------------------------------------

    def create(self, name: str, **spec: Any) -> UUID:
        stream_id = resource_id(KIND, name)
        written = changes.create(None, name, {**DEFAULTS, **spec}, None, META, self.now)
        self.names[stream_id] = name
        self.append(stream_id, 0, written.events, written.head)
        return stream_id

    def do(self, stream_id: UUID, change: Any, *arguments: Any) -> None:
        schedule = self.read(stream_id)
        written = change(schedule, *arguments, None, META, self.now)
        if written is not None:
            self.append(stream_id, schedule.version, written.events, written.head)

    def calendars_then(self, names: Sequence[str], at: datetime) -> list[Calendar]:
        found = []
        for name in names:
            versions = self.calendars[name]
            found.append(next((c for since, c in reversed(versions) if since < at), versions[0][1]))
        return found

    def change_calendar(self, name: str, **spec: Any) -> None:
        """Put another version in force, never from an instant that was decided about: the clock may have gone back."""
        decided = [self.read(stream_id).cursor for stream_id in self.rows]
        self.calendars.setdefault(name, []).append((max([self.now, *decided]), parse_calendar(spec)))

    # -- what must be true -------------------------------------------------------------------------------------------

    def check(self, stream_id: UUID) -> Counter[str]:
        """Every nominal time of the specification has exactly one outcome, with a reason that fits."""
        history = self.streams[stream_id]
        schedule = fold(history)
        assert schedule is not None
        assert schedule == self.read(stream_id), "the row is not what the stream says"
        assert orjson.dumps(to_json(schedule)) == self.rows[stream_id].doc
        outcomes = Outcomes(history)
        expected = self._specified(history, schedule)
        queued = {tick.nominal for tick in schedule.queued}
        for nominal, mode in expected:
            if nominal.at > schedule.cursor or nominal.at in queued:
                continue
            outcomes.take(nominal, mode)
        outcomes.nothing_left()
        ticked = {UUID(event.job_id) for event in outcomes.ticks.values()}
        assert ticked <= set(self.jobs)
        return outcomes.counts

    def _specified(self, history: Sequence[Recorded], schedule: Schedule) -> list[tuple[Nominal, str]]:
        """All nominal times, and what was in force for each: by the rule alone, not by what was decided."""
        found: list[tuple[Nominal, str]] = []
        begin, mode, definition = None, "active", None
        marks: list[tuple[datetime, str, Any]] = []
        for recorded in history:
            event = recorded.event
            if isinstance(event, e.ScheduleCreated | e.ScheduleChanged):
                mode = "active" if isinstance(event, e.ScheduleCreated) or mode == "ended" else mode
                definition = event.definition
            elif isinstance(event, e.SchedulePaused):
                mode = "paused"
            elif isinstance(event, e.ScheduleResumed):
                mode = "active"
            elif isinstance(event, e.ScheduleArchived):
                mode = "archived"
            else:
                continue
            marks.append((event.at, mode, definition))
        for place, (begin, mode, definition) in enumerate(marks):
            end = marks[place + 1][0] if place + 1 < len(marks) else max(self.now, schedule.cursor)
            if mode == "archived":
                continue
            timing = definitions.timing(schedule, definition)
            for nominal in nominal_times(timing, begin, until=end):
                judged = definitions.judged(nominal, definition, self.calendars_then)
                found.append((judged, mode))
        return found


class Outcomes:
    """What a stream says about nominal times."""

    def __init__(self, history: Sequence[Recorded]) -> None:
        self.ticks: dict[datetime, e.ScheduleTicked] = {}
        self.skips: dict[datetime, e.TickSkipped] = {}
        self.ranges: list[e.TicksSkipped] = []
        self.left: list[int] = []
        self.counts: Counter[str] = Counter()
        for recorded in history:
            event = recorded.event
            if isinstance(event, e.ScheduleTicked) and event.cause not in ("manual", "backfill"):
                assert event.nominal not in self.ticks, f"{event.nominal} has ticked twice"
                self.ticks[event.nominal] = event
            elif isinstance(event, e.TickSkipped):
                assert event.nominal not in self.skips, f"{event.nominal} was skipped twice"
                self.skips[event.nominal] = event
            elif isinstance(event, e.TicksSkipped):
                self.ranges.append(event)
                self.left.append(event.count)
        assert not set(self.ticks) & set(self.skips), "a nominal time has two outcomes"
        self._unused = {*self.ticks, *self.skips}
        self._place = 0

    def take(self, nominal: Nominal, mode: str) -> None:
        """The one outcome of this nominal time; they come in order."""
        tick, skip = self.ticks.get(nominal.at), self.skips.get(nominal.at)
        if tick is not None:
            assert mode == "active"
            assert nominal.reason is None, f"{nominal} ticked"
            assert tick.local == nominal.local
            self._unused.discard(nominal.at)
            self.counts[tick.cause] += 1
            return
        if skip is not None:
            assert mode == "active"
            self._unused.discard(nominal.at)
            assert skip.reason == nominal.reason or (
                nominal.reason is None and skip.reason in ("overlap", "limit", "ended", "past_catch_up")
            ), (nominal, skip)
            self.counts[skip.reason] += 1
            return
        while self._place < len(self.ranges) and self.ranges[self._place].until < nominal.at:
            self._place += 1
        assert self._place < len(self.ranges), f"{nominal.at} has no outcome"
        found = self.ranges[self._place]
        assert found.first <= nominal.at <= found.until, f"{nominal.at} has no outcome: {found}"
        self.left[self._place] -= 1
        allowed = ("paused",) if mode == "paused" else ("past_catch_up", "limit", "ended")
        assert found.reason in allowed, (nominal, mode, found)
        self.counts[found.reason] += 1

    def nothing_left(self) -> None:
        assert not self._unused, f"outcomes of no nominal time: {sorted(self._unused)[:3]}"
        assert not any(self.left), [r for r, n in zip(self.ranges, self.left, strict=True) if n][:3]


@dataclass
class Leader:
    """Decides on rows that it has read, perhaps a while ago; may die at any point."""

    world: World
    term: int = field(init=False)
    over: bool = False
    presence: Presence | None = None
    """Where it is told of its absences; without one it counts every delay as absence."""
    _held: tuple[Schedule, ticking.Step] | None = None

    def __post_init__(self) -> None:
        self.world.term += 1
        self.term = self.world.term

    def look(self, stream_id: UUID) -> bool:
        """Decide about one schedule; whether there is more to decide at once."""
        world = self.world
        schedule = world.read(stream_id)
        ended = frozenset(job for job in schedule.open if world.jobs.get(UUID(job), True))
        late = None if self.presence is None else self.presence.late_until(world.now, ticking.ON_TIME)
        step = ticking.decide(schedule, world.now, ended, world.calendars_then, late_until=late)
        if not step.events:
            return False
        if world.chance(0.05):
            self._held = (schedule, step)  # frozen with the decision in its hands
            return False
        return self._append(schedule, step)

    def thaw(self) -> None:
        """What a leader does that was stopped in the middle and does not know."""
        if self._held is not None:
            held, self._held = self._held, None
            self._append(*held)

    def _append(self, schedule: Schedule, step: ticking.Step) -> bool:
        world = self.world
        after = ticking.after_step(schedule, step, META)
        jobs = [job.id for job in step.jobs]
        for job in step.jobs:
            assert job.spec.origin is not None
            assert job.spec.origin.id == schedule.id
        try:
            world.append(schedule.id, schedule.version, step.events, after.head, jobs, self.term)
        except Lost:
            return True
        except Refused:
            self.over = True
            return False
        for job_id in step.cancels:
            world.jobs[job_id] = world.jobs[job_id] or world.chance(0.7)
        return step.more


def due(world: World) -> list[UUID]:
    """The schedules that a leader would look at now."""
    found = [(row.due_at, key) for key, row in world.rows.items() if row.due_at is not None and row.due_at <= world.now]
    return [key for _, key in sorted(found)]


def next_due(world: World) -> datetime | None:
    times = [row.due_at for row in world.rows.values() if row.due_at is not None and row.due_at > world.now]
    return min(times, default=None)


def settle(world: World) -> None:
    """Let one calm leader decide until nothing is owed any more, all jobs having ended."""
    leader = Leader(world)
    for _ in range(100_000):
        world.jobs = dict.fromkeys(world.jobs, True)
        waiting = due(world)
        if not waiting:
            return
        for stream_id in waiting:
            while leader.look(stream_id):
                pass
            leader.thaw()
    raise AssertionError("the leader does not come to an end")


HOUR = timedelta(hours=1)
__all__ = ["HOUR", "START", "Leader", "World", "due", "evolve", "next_due", "settle"]
