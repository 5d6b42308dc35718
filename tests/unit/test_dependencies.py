"""Random graphs, random outcomes, leaders that lag, die and are replaced: every job ends as the specification says."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide
from rota_server.domain.jobs.dependencies import ENDS, FAILED, OPEN, REPEAT, Dependencies, Status, judge
from rota_server.domain.jobs.events import AttemptError
from rota_server.domain.jobs.job import Job, evolve
from rota_server.domain.jobs.retry import RetryPolicy
from rota_server.domain.jobs.spec import After, JobSpec, Predecessor
from rota_server.domain.log import Meta, Recorded

START = datetime(2026, 1, 1, tzinfo=UTC)
META = Meta(actor="test")
ONCE = RetryPolicy(max_attempts=1)


@dataclass
class World:
    """A log, its heads, its table of dependencies."""

    random: random.Random
    now: datetime = START
    jobs: dict[str, Job] = field(default_factory=dict)
    feed: list[Recorded] = field(default_factory=list)
    table: set[tuple[str, str]] = field(default_factory=set)
    good: dict[str, bool] = field(default_factory=dict)
    by_hand: set[str] = field(default_factory=set)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def submit(self, after: After | None, *, good: bool) -> str:
        identity = UUID(int=self.random.getrandbits(128), version=4)
        self.good[str(identity)] = good
        spec = JobSpec(task="noop", after=after, retry=ONCE)
        self._write(None, identity, decide(None, c.SubmitJob(spec=spec), self.now))
        return str(identity)

    def command(self, job_id: str, command: c.Command) -> None:
        job = self.jobs[job_id]
        self._write(job, job.id, decide(job, command, self.now))

    def _write(self, job: Job | None, identity: UUID, events: Any) -> None:
        for event in events:
            version = Version(1 if job is None else job.version + 1)
            recorded = Recorded(Position(len(self.feed) + 1), identity, version, event, META, self.now)
            job = evolve(job, recorded)
            self.feed.append(recorded)
        if job is not None:
            self.jobs[str(identity)] = job
            if job.awaits == "dependencies" and job.spec.after is not None:
                self.table |= {(str(p.id), str(identity)) for p in job.spec.after.predecessors}

    def waits(self, job_id: str) -> bool:
        return self.jobs[job_id].awaits == "dependencies"

    def run_one(self) -> None:
        """An executor begins a job, or ends one."""
        open_jobs = [job for job in self.jobs.values() if job.state in ("queued", "running")]
        if not open_jobs:
            return
        job = self.random.choice(open_jobs)
        name = str(job.id)
        if job.state == "queued":
            self.command(name, c.StartAttempt(executor="e"))
        elif self.good[name]:
            self.command(name, c.SucceedAttempt(attempt=job.attempt, executor="e", result=None))
        else:
            error = AttemptError(type="Error", message="no")
            self.command(name, c.FailAttempt(attempt=job.attempt, executor="e", error=error))


class Leader:
    """The shell of the dependencies without I/O; it may die between any two of its steps."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.state = Dependencies()
        self.position = world.random.randint(0, len(world.feed))  # the checkpoint is anywhere behind the end
        self.loaded = False
        self.read: tuple[list[str], dict[str, Status]] | None = None

    def step(self) -> None:
        steps = [self._follow, self._look, self._decide, self._forget]
        if not self.loaded:
            steps = [self._follow, self._load]
        self.world.random.choice(steps)()

    def _load(self) -> None:
        world = self.world
        waiting = {(p, d) for p, d in world.table if world.waits(d)}
        undecided = {d for p, d in waiting if world.jobs[p].state in ENDS}
        self.state.found(sorted(waiting), sorted(undecided))
        self.state.found_left(sorted({d for _, d in world.table} - {d for _, d in waiting}))
        self.loaded = True

    def _follow(self) -> None:
        for recorded in self.world.feed[self.position : self.position + self.world.random.randint(1, 6)]:
            self.position = recorded.position
            self._take_in(recorded)

    def _take_in(self, recorded: Recorded) -> None:
        name, event = str(recorded.stream_id), recorded.event
        kind = type(event).__name__
        if kind == "JobSubmitted" and event.waits == "dependencies":  # type: ignore[attr-defined]
            self.state.submitted(name, event.spec.after)  # type: ignore[attr-defined]
        elif kind == "JobRequeued":
            self.state.ended(name, OPEN, recorded.position)
            if event.waits == "dependencies":  # type: ignore[attr-defined]
                self.state.waits_again(name)
        elif kind in ("JobDispatched", "DependenciesMet", "JobCancelled", "JobExpired"):
            self.state.left(name)
        ends = {
            "AttemptSucceeded": "succeeded",
            "JobDead": "failed",
            "JobCancelled": "cancelled",
            "JobExpired": "expired",
        }
        if kind in ends:
            self.state.ended(name, ends[kind], recorded.position)

    def _look(self) -> None:
        """In two steps: what was read may be old when it is taken in."""
        world = self.world
        if self.read is not None:
            fresh, statuses = self.read
            self.state.statuses(fresh, statuses)
            self.read = None
            return
        fresh = self.state.take_fresh(3, 10)
        if world.chance(0.1):
            self.state.again(fresh)
            return
        unknown = self.state.without_details(fresh)
        afters = {d: world.jobs[d].spec.after for d in unknown if world.waits(d)}
        self.state.details(unknown, {d: after for d, after in afters.items() if after is not None})
        heads = {p: world.jobs[p] for p in self.state.predecessors(fresh)}
        statuses = {p: Status(j.state if j.state in ENDS else OPEN, j.position) for p, j in heads.items()}
        self.read = (fresh, statuses)

    def _decide(self) -> None:
        for verdict in self.state.verdicts(self.world.now, 3):
            if self.world.chance(0.1):
                continue  # lost in an outage, or to a conflict
            command: c.Command = c.MeetDependencies()
            if verdict.kind == "cancel":
                command = c.FailDependencies(reason=verdict.reason or "")
            self.world.command(verdict.dependent, command)
        self.state.repeat(self.world.now)

    def _forget(self) -> None:
        left = self.state.take_left(3)
        waiting = [d for d in left if self.world.waits(d)]
        self.world.table = {(p, d) for p, d in self.world.table if d not in left or d in waiting}
        self.state.found_left(waiting)

    @property
    def done(self) -> bool:
        caught_up = self.loaded and self.position == len(self.world.feed) and self.read is None
        return caught_up and self.state.idle and not self.state._given


def random_after(world: World, policies: tuple[Any, ...]) -> After | None:
    others = world.random.sample(sorted(world.jobs), min(len(world.jobs), world.random.randint(0, 4)))
    if not others:
        return None
    predecessors = tuple(
        Predecessor(id=UUID(o), name=o, outcome=world.random.choice(["succeeded"] * 3 + ["failed", "ended"]))
        for o in others
    )
    mode: Any = "any" if world.chance(0.3) else "all"
    return After(predecessors=predecessors, mode=mode, on_failure=world.random.choice(policies))


def play(world: World, jobs: int, policies: tuple[Any, ...], *, trouble: bool = True) -> None:
    """Until nothing is left to be done by anybody."""
    leader = Leader(world)
    zombie: Leader | None = None
    for _ in range(20_000):
        if len(world.jobs) < jobs and world.chance(0.2):
            world.submit(random_after(world, policies), good=world.chance(0.6))
        calm = len(world.jobs) == jobs
        if trouble and not calm and world.chance(0.05):
            zombie, leader = leader, Leader(world)  # the old one does not know yet that it is over
        if trouble and not calm and world.chance(0.05):
            cancel_one(world)
        if zombie is not None and world.chance(0.3):
            zombie.step()
        leader.step()
        world.run_one()
        world.now += REPEAT / 10
        if calm and leader.done and not any(job.state in ("queued", "running") for job in world.jobs.values()):
            return
    raise AssertionError("it does not come to an end")


def cancel_one(world: World) -> None:
    waiting = [name for name, job in world.jobs.items() if job.state in ("queued", "waiting")]
    if waiting:
        name = world.random.choice(waiting)
        world.by_hand.add(name)
        world.command(name, c.RequestCancel())


def specified(after: After, states: dict[str, str]) -> str:
    """What the documentation says, written down once more: runs, is cancelled, or stays."""
    came_true, ended = [], []
    for predecessor in after.predecessors:
        state = states[str(predecessor.id)]
        wanted = {"succeeded": {"succeeded"}, "failed": set(FAILED), "ended": set(ENDS)}[predecessor.outcome]
        came_true.append(state in wanted)
        ended.append(state in ENDS)
    if all(came_true) or (after.mode == "any" and any(came_true)):
        return "runs"
    possible = [true or not over for true, over in zip(came_true, ended, strict=True)]
    if all(possible) or (after.mode == "any" and any(possible)):
        return "stays"
    if after.on_failure == "cancel":
        return "is cancelled"
    return "runs" if after.on_failure == "run" and all(ended) else "stays"


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_job_ends_as_its_predecessors_ends_and_its_policy_say(seed: int):
    world = World(random.Random(seed))
    play(world, 25, ("cancel", "run", "hold"))
    states = {name: job.state for name, job in world.jobs.items()}
    for name, job in world.jobs.items():
        own = "succeeded" if world.good[name] else "failed"
        wanted = own if job.spec.after is None else None
        if job.spec.after is not None:
            follows = specified(job.spec.after, dict(states))
            wanted = {"runs": own, "is cancelled": "cancelled", "stays": "waiting"}[follows]
        assert job.state == wanted or (name in world.by_hand and job.state == "cancelled"), (job.state, wanted)
    assert {d for _, d in world.table} == {name for name in world.jobs if world.waits(name)}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_held_runs_once_everything_was_retried_and_has_succeeded(seed: int):
    world = World(random.Random(seed))
    only_success = random.Random(seed + 1)
    leader = Leader(world)
    while len(world.jobs) < 15:
        others = only_success.sample(sorted(world.jobs), min(len(world.jobs), only_success.randint(0, 3)))
        predecessors = tuple(Predecessor(id=UUID(o), name=o) for o in others)
        after = After(predecessors=predecessors, on_failure="hold") if predecessors else None
        world.submit(after, good=only_success.random() < 0.5)
    for _ in range(20_000):
        if world.chance(0.02):
            leader = Leader(world)
        if world.chance(0.1):
            failed = [name for name, job in world.jobs.items() if job.state == "failed"]
            for name in failed[:1]:
                world.good[name] = True
                world.command(name, c.RetryJob(dependencies=world.chance(0.5)))
        leader.step()
        world.run_one()
        world.now += REPEAT / 10
        if all(job.state == "succeeded" for job in world.jobs.values()):
            return
    raise AssertionError({job.state for job in world.jobs.values()})


def test_a_verdict_that_leads_to_nothing_is_given_again_after_a_while():
    world = World(random.Random(1))
    first = world.submit(None, good=True)
    second = world.submit(After(predecessors=(Predecessor(id=UUID(first), name=first),)), good=True)
    state = Dependencies()
    state.found([(first, second)], [])
    state.ended(first, "succeeded", Position(9))
    assert state.verdicts(START, 10) == []
    for at in (START, START + REPEAT):
        assert state.take_fresh(10, 10) == [second]
        state.details([second], {second: world.jobs[second].spec.after})  # type: ignore[dict-item]
        state.statuses([second], {first: Status("succeeded", Position(9))})
        assert [v.dependent for v in state.verdicts(at, 10)] == [second]
        assert state.repeat(at + REPEAT - timedelta(microseconds=1)) == at + REPEAT
        assert state.idle
        assert state.repeat(at + REPEAT) is None
    state.left(second)
    assert second not in state
    assert state.take_left(10) == [second]


def test_an_older_end_does_not_undo_a_newer_state():
    identity = UUID(int=1)
    after = After(predecessors=(Predecessor(id=identity, name="a"),))
    state = Dependencies()
    state.submitted("d", after)
    state.take_fresh(1, 1)
    state.statuses(["d"], {str(identity): Status("succeeded", Position(8))})
    state.ended(str(identity), "failed", Position(3))
    (verdict,) = state.verdicts(START, 1)
    assert verdict.kind == "run"


def test_the_reason_names_the_predecessor_and_its_end():
    identity = UUID(int=1)
    after = After(predecessors=(Predecessor(id=identity, name="extract"),))
    kind, reason = judge(after, ["x"], {"x": Status("expired", Position(1))})
    assert (kind, reason) == ("cancel", f"its predecessor extract ({identity}) ended as expired, not as succeeded")
