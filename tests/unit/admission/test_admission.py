"""Admission in memory: turns, limits, priorities, lines longer than memory, and limits that hold whatever happens."""

from __future__ import annotations

import random
from collections import Counter
from uuid import UUID

import pytest

from rota_server.domain.admission.admission import Admission, AdmittedJob
from rota_server.domain.admission.fairness import order_of
from rota_server.domain.admission.queues import QueueSettings, RateLimit
from rota_server.domain.ids import Position

Q = "q"


class World:
    """An index and lines over it; events reach the lines late and in order."""

    def __init__(self, seed: int = 1, **settings: object) -> None:
        self.random = random.Random(seed)
        self.admission = Admission()
        self.admission.begin({Q: (QueueSettings(**settings), Position(1))}, (), {}, {}, {})  # type: ignore[arg-type]
        for name in self.admission.recalls():
            self.admission.recalled(name)
        self.position = 1
        self.now = 1_000.0
        self.index: dict[str, tuple[str, str, int]] = {}
        self.events: list[tuple[str, str]] = []
        self.dispatched: list[str] = []
        self.running: dict[str, str] = {}
        self.started: list[tuple[float, str]] = []
        self.keys: dict[str, str | None] = {}
        self.priorities: dict[str, str] = {}

    def submit(self, key: str | None = None, priority: str = "normal") -> str:
        job = str(UUID(int=self.random.getrandbits(128), version=4))
        self.position += 1
        self.index[job] = (priority, key or "", self.position)
        self.keys[job], self.priorities[job] = key, priority
        self.events.append(("join", job))
        return job

    def take_in(self, count: int = 10**9) -> None:
        for what, job in self.events[:count]:
            admitted_job = (Q, self.priorities[job], self.keys[job])
            if what == "join":
                position = self.index[job][2] if job in self.index else self._last_of(job)
                self.admission.join(job, *admitted_job, Position(position))
            elif what == "dispatched":
                self.admission.dispatched(job, *admitted_job)
            elif what == "started":
                self.admission.started(job, *admitted_job, self._started_at(job))
            elif what == "over":
                self.admission.over(job)
            else:
                self.admission.leave(job, *admitted_job)
        del self.events[:count]

    def _last_of(self, job: str) -> int:
        return self._joined[job]

    @property
    def _joined(self) -> dict[str, int]:
        return {job: number + 2 for number, job in enumerate(self.keys)}

    def _started_at(self, job: str) -> float:
        return next(at for at, started in reversed(self.started) if started == job)

    def admit(self, limit: int = 10**9) -> list[str]:
        while loads := self.admission.loads(100):
            for load in loads:
                _, priority, key = load.lane.split("\x1f")
                rows = sorted((since, job) for job, (p, k, since) in self.index.items() if (p, k) == (priority, key))
                found = [(job, Position(since)) for since, job in rows if since > load.after][: load.limit]
                self.admission.loaded(load, found)
        admitted = self.admission.admit(self.now, limit)
        for job in admitted:
            if job in self.index:
                del self.index[job]
                self.dispatched.append(job)
                self.events.append(("dispatched", job))
        return admitted

    def start(self, job: str) -> None:
        self.dispatched.remove(job)
        self.running[job] = self.keys[job] or ""
        self.started.append((self.now, job))
        self.events.append(("started", job))

    def end(self, job: str) -> None:
        del self.running[job]
        self.events.append(("over", job))


def test_keys_take_turns_however_many_jobs_each_has() -> None:
    world = World(concurrency=40)
    for _ in range(500):
        world.submit("big")
    small = {world.submit("small") for _ in range(10)}
    world.take_in()
    assert small <= set(world.admit()[:21])


def test_a_line_longer_than_memory_is_read_on_in_order() -> None:
    world = World(concurrency=100_000)
    jobs = [world.submit("k") for _ in range(7_000)]
    world.take_in()
    admitted: list[str] = []
    while batch := world.admit(500):
        admitted += batch
        for job in batch:
            world.start(job)
            world.end(job)
        world.take_in()
    assert admitted == jobs


def test_a_job_that_leaves_while_its_line_is_read_is_not_admitted() -> None:
    admission = Admission()
    admission.begin({Q: (QueueSettings(concurrency=9), Position(1))}, ["q\x1fnormal\x1fk"], {}, {}, {})
    admission.recalled(Q)
    (load,) = admission.loads(10)
    admission.leave("gone", Q, "normal", "k")
    admission.loaded(load, [("gone", Position(5)), ("there", Position(6))])
    assert admission.admit(1.0, 10) == ["there"]


def test_nothing_is_lost_that_arrives_while_a_line_is_read() -> None:
    admission = Admission()
    admission.begin({Q: (QueueSettings(concurrency=9), Position(1))}, ["q\x1fnormal\x1fk"], {}, {}, {})
    admission.recalled(Q)
    (load,) = admission.loads(10)
    admission.join("late", Q, "normal", "k", Position(9))
    admission.loaded(load, [("early", Position(5))])
    (again,) = admission.loads(10)
    assert again.after == 5
    admission.loaded(again, [("late", Position(9))])
    assert admission.admit(1.0, 10) == ["early", "late"]
    assert admission.loads(10) == []


@pytest.mark.parametrize("seed", range(12))
def test_limits_hold_whatever_happens(seed: int) -> None:  # noqa: C901 - one story, told in one place
    """Executors come, go and cancel in any order; concurrency and rates are counted from what really started."""
    rate = RateLimit(limit=30, per=1.0) if seed % 2 else RateLimit(limit=30, per=1.0, burst=5)
    limits = {"concurrency": 25, "concurrency_per_key": 3, "rate": rate, "rate_per_key": RateLimit(limit=4, per=1.0)}
    world = World(seed, **limits)
    keys = [f"k{n}" for n in range(15)]
    total, most, most_of_key = 0, 0, 0
    for _ in range(1_500):
        if total < 600 and world.random.random() < 0.5:
            world.submit(world.random.choice(keys), world.random.choice(["high", "normal", "low"]))
            total += 1
        if world.random.random() < 0.6:
            world.take_in(world.random.randint(0, 30))
        if world.random.random() < 0.5:
            world.admit(world.random.randint(1, 20))
        if world.dispatched and world.random.random() < 0.6:
            for _ in range(world.random.randint(1, len(world.dispatched))):
                world.start(world.random.choice(world.dispatched))
        if world.dispatched and world.random.random() < 0.1:
            job = world.random.choice(world.dispatched)
            world.dispatched.remove(job)
            world.events.append(("cancelled", job))
        if world.running and world.random.random() < 0.5:
            world.end(world.random.choice(list(world.running)))
        most = max(most, len(world.running) + len(world.dispatched))
        most_of_key = max(most_of_key, *Counter(world.running.values()).values(), 0)
        world.now += world.random.random() * 0.05
    assert most <= 25
    assert most_of_key <= 3
    starts = [at for at, _ in world.started]
    extra = 5 if rate.burst else 0
    for first in range(len(starts) - rate.limit - extra):
        assert starts[first + rate.limit + extra] - starts[first] >= 1.0 - 1e-9
    for key in keys:
        own = [at for at, job in world.started if world.keys[job] == key]
        assert all(own[n + 4] - own[n] >= 1.0 - 1e-9 for n in range(len(own) - 4))
    assert len(starts) > 100


def test_everything_is_dispatched_in_the_end() -> None:
    world = World(5, concurrency=7, concurrency_per_key=2, rate=RateLimit(limit=50, per=1.0))
    jobs = {world.submit(f"k{n % 9}", ["high", "normal", "low"][n % 3]) for n in range(300)}
    done: set[str] = set()
    for _ in range(3_000):
        world.take_in()
        world.admit()
        for job in list(world.dispatched):
            world.start(job)
            world.end(job)
            done.add(job)
        wake_at = world.admission.wake_at(world.now)
        world.now = max(world.now + 0.01, min(wake_at or world.now, world.now + 1))
        if done == jobs:
            break
    assert done == jobs
    world.take_in()
    world.admission.forget_idle(world.now + 100)
    assert world.admission.counts(Q) == (0, 0)


def test_a_paused_queue_admits_nothing_and_takes_back_what_has_not_started() -> None:
    world = World(concurrency=10)
    first, second = world.submit("a"), world.submit("b")
    world.take_in()
    assert set(world.admit()) == {first, second}
    world.start(first)
    world.take_in()
    world.admission.configure(Q, QueueSettings(paused=True, concurrency=10), Position(50))
    assert world.admission.recalls() == {Q: [second]}
    third = world.submit("c")
    world.position = 60
    world.take_in()
    world.admission.recalled(Q)
    assert world.admit() == []
    world.admission.join(second, Q, "normal", "b", Position(70))
    world.index[second] = ("normal", "b", 70)
    world.admission.configure(Q, QueueSettings(concurrency=10), Position(80))
    world.admission.recalled(Q)
    assert set(world.admit()) == {second, third}


def test_settings_that_are_older_than_those_known_change_nothing() -> None:
    world = World(concurrency=1)
    world.admission.configure(Q, QueueSettings(), Position(1))
    assert Q in world.admission.managed


def test_what_counts_is_handed_to_the_next_leader() -> None:
    world = World(concurrency=2, rate=RateLimit(limit=3, per=60.0))
    jobs = [world.submit("a") for _ in range(5)]
    world.take_in()
    world.admit()
    world.take_in()
    world.start(jobs[0])
    world.take_in()
    change = world.admission.take_change()
    assert set(change.admitted) == {jobs[1]}
    successor = Admission()
    successor.begin(
        {Q: (QueueSettings(concurrency=2, rate=RateLimit(limit=3, per=60.0)), Position(1))},
        ["q\x1fnormal\x1fa"],
        change.admitted,
        {jobs[0]: AdmittedJob(Q, "normal", "a", started=True)},
        {admitted_job: state for admitted_job, state in change.limiters.items() if state is not None},
    )
    successor.recalled(Q)
    (load,) = successor.loads(5)
    successor.loaded(load, [(job, Position(n + 10)) for n, job in enumerate(jobs[2:])])
    assert successor.admit(world.now, 10) == []
    successor.over(jobs[0])
    assert successor.admit(world.now, 10) == [jobs[2]]
    successor.started(jobs[1], Q, "normal", "a", world.now)
    successor.started(jobs[2], Q, "normal", "a", world.now)
    successor.over(jobs[1])
    assert successor.admit(world.now, 10) == [], "three have started within the minute"
    assert set(successor.take_change().gone) == {jobs[1]}


def test_low_priority_is_never_starved() -> None:
    world = World(concurrency=10)
    for _ in range(500):
        world.submit("urgent", "high")
    low = world.submit("patient", "low")
    world.take_in()
    admitted: list[str] = []
    while low not in admitted and len(admitted) < 500:
        for job in world.admit():
            admitted.append(job)
            world.start(job)
            world.end(job)
        world.take_in()
    assert low in admitted
    assert len(admitted) <= 64
    assert {order_of(turn)[0] for turn in range(1, 33)} == {"high", "normal", "low"}


def test_jobs_without_a_key_know_no_limit_for_a_key() -> None:
    world = World(concurrency_per_key=1)
    for _ in range(5):
        world.submit(None)
    world.take_in()
    assert len(world.admit()) == 5
