"""Ten thousand jobs in a world where leaders and executors die, work gets lost and answers do not arrive."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.retry import RetryPolicy
from tests.simulation.world import STEP, Executor, Leader, World

JOBS = 10_000
MAX_STEPS = 20_000


class Simulation:
    """Plays a world until all its jobs have ended."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.leaders: list[Leader] = []
        self.executors = [Executor(self.world, f"e{n}") for n in range(4)]
        self.zombies: list[Executor] = []
        self.to_submit = JOBS
        self.leaderless_until = self.world.now
        self.faults = 0

    def run(self) -> None:
        for _ in range(MAX_STEPS):
            self._submit()
            calm = self.to_submit == 0 and self.world.now.minute >= 4
            if not calm:
                self._make_trouble()
            self._lead()
            for executor in self.executors:
                executor.step()
            self._find_missing_work()
            self.world.now += STEP
            if calm and self._over():
                return
        raise AssertionError(f"after {MAX_STEPS} steps these are left: {self._left()[:5]}")

    def _over(self) -> bool:
        leader = self.leaders[-1] if self.leaders else None
        done = leader is not None and leader.state.position == len(self.world.feed) == self.world.checkpoint
        return done and not self._left()

    def _left(self) -> list[Job]:
        return [job for job in self.world.jobs.values() if not job.ended]

    def _submit(self) -> None:
        world = self.world
        for _ in range(min(self.to_submit, world.random.randint(0, 5))):
            self.to_submit -= 1
            spec: dict[str, Any] = {"retry": RetryPolicy(max_attempts=20, max_losses=20, maximum_seconds=20)}
            if world.chance(0.4):
                seconds = world.random.choice([0.01, 1, 5, 30, 90])
                spec["run_at"] = world.now + timedelta(seconds=seconds * world.random.random())
            if world.chance(0.1):
                spec["expires_at"] = world.now + timedelta(seconds=100 * world.random.random())
            if world.chance(0.3):
                spec["timeout_seconds"] = 20.0
            world.submit(**spec)

    def _make_trouble(self) -> None:
        world = self.world
        if world.chance(0.002) and self.leaders:
            self.faults += 1
            self.leaders.pop()  # killed, in the middle of whatever it did
            self.leaderless_until = world.now + timedelta(seconds=world.random.choice([0.1, 6, 12]))
        if world.chance(0.002) and self.leaders:
            self.faults += 1
            self.leaders.append(Leader(world))  # the old one does not know yet
        if world.chance(0.002):
            self.faults += 1
            number = world.random.randrange(len(self.executors))
            self.zombies.append(self.executors[number])
            self.executors[number] = Executor(world, f"e{self.faults + 10}")
        if world.chance(0.01) and self.zombies:
            zombie = self.zombies.pop(0)  # thought dead, comes back once, and reports
            zombie.slots = 0
            zombie.running = {job: (attempt, world.now) for job, (attempt, _) in zombie.running.items()}
            zombie._report()
        if world.chance(0.0005):
            self.faults += 1
            world.work.clear()

    def _lead(self) -> None:
        for leader in self.leaders:
            leader.step()
        self.leaders = [leader for leader in self.leaders if not leader.over]
        if not self.leaders and self.world.now >= self.leaderless_until:
            self.leaders.append(Leader(self.world))

    def _find_missing_work(self) -> None:
        """What the shell does, with the broker's content and the index at hand."""
        world = self.world
        if not self.leaders or world.now.microsecond or world.now.second % 10:
            return
        known = set(world.work)
        for job in list(world.jobs.values()):
            if job.state == "queued" and (job.id, job.version) not in known:
                world.command(job.id, c.DispatchJob(reason="missing"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_job_ends_however_often_leaders_and_executors_die(seed: int):
    simulation = Simulation(seed)
    simulation.run()
    world = simulation.world
    assert len(world.jobs) == JOBS
    assert simulation.faults > 5
    assert world.outages > 20
    # The projection is what the log says: nothing runs, nothing is queued any more.
    assert world.running == {}
    assert set(world.queued.values()) <= {0}
    # Late only while there was no leader (twice 12 s may follow each other), was far behind, or a load had failed.
    late = sorted(world.lateness)
    assert late[len(late) // 2] <= 3 * STEP
    assert late[-1] <= timedelta(seconds=30)
    assert sum(event.type == "AttemptLost" for event in world.feed) > 20


def test_a_seed_plays_the_same_story_again():
    first, second = World(7), World(7)
    for world in (first, second):
        leader = Leader(world)
        for _ in range(50):
            world.submit(run_at=world.now + timedelta(seconds=world.random.random()))
            leader.step()
            world.now += STEP
    assert first.feed == second.feed


def test_an_old_leader_decides_nothing_any_more():
    world = World(1)
    old = Leader(world)
    job_id = world.submit(run_at=world.now + STEP)
    new = Leader(world)
    world.now += 2 * STEP
    for _ in range(20):
        old.step()
    assert old.over
    assert world.refusals == 1
    assert world.jobs[job_id].state == "scheduled"
    for _ in range(20):
        new.step()
    assert world.jobs[job_id].state == "queued"
