"""A small world in simulated time: a log, an index, a feed, work streams, leaders and executors that crash.

Everything random comes from one seed, nothing from the clock: a failure can be played again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from rota_server.adapters.codec import encode_event
from rota_server.domain.errors import Conflict, NotLeader, Unavailable
from rota_server.domain.events import Event
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide
from rota_server.domain.jobs.events import AttemptError, AttemptStarted
from rota_server.domain.jobs.job import Job, evolve
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.leader_state import HORIZON, Decision, LeaderState, RunningAttempt
from rota_server.domain.log import Meta, Recorded
from rota_server.domain.messaging import FeedEvent

START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(milliseconds=50)
SESSION = timedelta(seconds=6)
META = Meta(actor="simulation")
DISPATCHES = ("JobDispatched", "JobRequeued")


class World:
    """The log and what everybody else sees of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = START
        self.jobs: dict[UUID, Job] = {}
        self.feed: list[FeedEvent] = []
        self.work: list[tuple[UUID, int]] = []
        self.term = 0
        self.sessions: dict[str, datetime] = {}
        self.checkpoint = Position(0)
        self.running: dict[UUID, RunningAttempt] = {}
        self.queued: dict[tuple[str, str], int] = {}
        self.starts: dict[tuple[UUID, int], str] = {}
        self.lateness: list[timedelta] = []
        self.refusals = 0
        self.outages = 0

    # -- the log -----------------------------------------------------------------------------------------------------

    def submit(self, **spec: Any) -> UUID:
        job_id = UUID(int=self.random.getrandbits(128), version=4)
        self._write(None, job_id, decide(None, c.SubmitJob(spec=JobSpec(**{"task": "noop", **spec})), self.now))
        return job_id

    def command(self, job_id: UUID, command: c.Command, *, version: int | None = None, fence: int | None = None) -> Job:
        """Decide and append, as one who has read the job at `version`. Raises Conflict, NotLeader."""
        if fence is not None and fence < self.term:
            self.refusals += 1
            raise NotLeader("an old term", own_term=fence, current_term=self.term)
        job = self.jobs[job_id]
        if version is not None and version != job.version:
            raise Conflict("it moved")
        self._write(job, job_id, decide(job, command, self.now))
        return self.jobs[job_id]

    def _write(self, job: Job | None, job_id: UUID, events: Any) -> None:
        for event in events:
            position = Position(len(self.feed) + 1)
            version = Version(1 if job is None else job.version + 1)
            self._check(job, event)
            job = evolve(job, Recorded(position, job_id, version, event, META, self.now))
            data = orjson.loads(encode_event(event))
            name = type(event).__name__
            self.feed.append(FeedEvent(position, str(job_id), version, name, data, self.now.isoformat()))
            if name in DISPATCHES or (name == "JobSubmitted" and job.state == "queued"):
                self.work.append((job_id, version))
        if job is not None:
            self.jobs[job_id] = job

    def _check(self, job: Job | None, event: Event) -> None:
        if type(event) is AttemptStarted and job is not None:
            assert (job.id, event.attempt) not in self.starts, "an attempt started twice"
            self.starts[job.id, event.attempt] = event.executor
            assert job.expires_at is None or job.expires_at > self.now, "an attempt of an expired job started"
        if type(event).__name__ == "JobDispatched" and job is not None and job.run_at is not None:
            assert job.run_at <= self.now, "a job was dispatched before its time"
            self.lateness.append(self.now - job.run_at)

    # -- what others see ---------------------------------------------------------------------------------------------

    def timers(self, until: datetime, limit: int) -> list[tuple[str, datetime]]:
        due = [(str(j.id), j.due_at) for j in self.jobs.values() if j.due_at is not None and j.due_at <= until]
        return sorted(due, key=lambda timer: timer[1])[:limit]

    def members(self) -> list[str]:
        return [name for name, until in self.sessions.items() if until > self.now]

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability


@dataclass
class Leader:
    """The shell around a state, without I/O; it may die between any two steps, and may not know that it is over."""

    world: World
    limit: int = 200
    state: LeaderState = field(init=False)
    term: int = field(init=False)
    over: bool = False
    _loading: list[tuple[str, datetime]] | None = None
    _saved: Position = field(init=False)

    def __post_init__(self) -> None:
        world = self.world
        world.term += 1
        self.term = world.term
        self.state = LeaderState(world.checkpoint, list(world.running.values()), world.queued)
        self.state.timers.limit = self.limit
        self._saved = world.checkpoint

    def step(self) -> None:
        """Half a tick of everything that a leader does, some of it failing."""
        world, state = self.world, self.state
        behind = world.feed[state.position : state.position + world.random.randint(0, 400)]
        state.apply(behind)
        self._load()
        try:
            self._carry_out(state.due(world.now, 50), again=True)
            state.members(None if world.chance(0.001) else world.members())
            self._carry_out(state.lost(world.now, 50), again=False)
        except NotLeader:
            self.over = True
            return
        if world.chance(0.3):
            self._save()

    def _load(self) -> None:
        """A load takes several steps, in which events come in."""
        timers = self.state.timers
        if self._loading is not None:
            if self.world.chance(0.02):
                timers.fail_load()
            else:
                timers.end_load(self._loading, len(self._loading))
            self._loading = None
        elif timers.wants_load(self.world.now):
            timers.begin_load(self.world.now + HORIZON, Position(len(self.world.feed)))
            self._loading = self.world.timers(self.world.now + HORIZON, timers.limit)

    def _carry_out(self, decisions: list[Decision], *, again: bool) -> None:
        for job_id, command in decisions:
            try:
                self._append(job_id, command)
            except Conflict:
                continue
            except Unavailable:
                if again:
                    self.state.timers.again(str(job_id), self.world.now)
                continue
            job = self.world.jobs[job_id]
            if job.due_at is not None:
                self.state.timers.add(str(job_id), job.due_at)

    def _append(self, job_id: UUID, command: c.Command) -> None:
        """An outage may come before or behind the commit."""
        if self.world.chance(0.01):
            self.world.outages += 1
            raise Unavailable("before", server="postgres")
        self.world.command(job_id, command, fence=self.term)
        if self.world.chance(0.01):
            self.world.outages += 1
            raise Unavailable("behind", server="postgres")

    def _save(self) -> None:
        world, change = self.world, self.state.take_change()
        if world.checkpoint != self._saved:
            self.over = True
            return
        for job_id in change.ended:
            world.running.pop(job_id, None)
        for attempt in change.started:
            world.running[attempt.job_id] = attempt
        world.queued.update(change.counts)
        world.checkpoint = self._saved = change.position


@dataclass
class Executor:
    """Takes work, runs it for some simulated time, reports; may die, or be cut off and report late."""

    world: World
    name: str
    slots: int = 40
    alive: bool = True
    running: dict[UUID, tuple[int, datetime]] = field(default_factory=dict)

    def step(self) -> None:
        world = self.world
        if not self.alive:
            return
        world.sessions[self.name] = world.now + SESSION
        self._report()
        while world.work and len(self.running) < self.slots:
            job_id, version = world.work.pop(0)
            if world.chance(0.01):
                world.work.append((job_id, version))  # delivered twice
            if world.chance(0.003):
                continue  # taken, then lost by the broker
            self._start(job_id, version)

    def _start(self, job_id: UUID, version: int) -> None:
        try:
            job = self.world.command(job_id, c.StartAttempt(executor=self.name), version=version)
        except Conflict:
            return
        if job.state == "running":
            seconds = self.world.random.expovariate(1.0)
            self.running[job_id] = (job.attempt, self.world.now + timedelta(seconds=seconds))

    def _report(self) -> None:
        world = self.world
        for job_id, (attempt, ends_at) in list(self.running.items()):
            if ends_at > world.now:
                continue
            del self.running[job_id]
            if world.chance(0.85):
                command: c.Command = c.SucceedAttempt(attempt=attempt, executor=self.name, result=None)
            else:
                error = AttemptError(type="Error", message="simulated")
                command = c.FailAttempt(attempt=attempt, executor=self.name, error=error)
            world.command(job_id, command)
