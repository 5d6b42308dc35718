"""What an executor does while it cannot tell whether others take it for dead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from rota_server.adapters.proofs import Proofs
from rota_server.apps.executor import attempt_reconciler
from rota_server.domain.jobs import commands as c
from tests.unit.executor_parts import MemoryLog, MemoryQueue, TestExecutor, item_of
from tests.waiting import until


class World:
    def __init__(self) -> None:
        self.log, self.queue = MemoryLog(), MemoryQueue()
        self.parts = TestExecutor(self.log, self.queue)

    def put(self, task: str = "noop") -> UUID:
        job_id = self.log.submit(task)
        self.queue.put(item_of(self.log, job_id))
        return job_id

    async def started(self) -> UUID:
        job_id = self.put("hold")
        await until(lambda: self.parts.runner.running(job_id))
        return job_id

    def doubt(self) -> None:
        self.parts.registration.certain_since = None

    def trust(self) -> None:
        self.parts.registration.certain_since = time.monotonic()


@asynccontextmanager
async def doubting(world: World, monkeypatch: pytest.MonkeyPatch, *, silence: float = 60.0) -> AsyncIterator[None]:
    monkeypatch.setattr(attempt_reconciler, "DOUBT_SECONDS", 0.01)
    monkeypatch.setattr(attempt_reconciler, "SILENCE_SECONDS", silence)
    heeding = asyncio.create_task(world.parts.watcher.heed_doubts())
    async with world.parts.working():
        yield
    heeding.cancel()
    await asyncio.gather(heeding, return_exceptions=True)


async def test_in_doubt_nothing_is_taken_and_beyond_doubt_work_goes_on() -> None:
    world = World()
    async with world.parts.working():
        world.doubt()
        await until(lambda: world.parts.slots.taken == 0)
        asked = len(world.queue.asked)
        job_id = world.put()
        for _ in range(50):
            await asyncio.sleep(0.005)
        assert len(world.queue.asked) <= asked + 1
        world.trust()
        await until(lambda: world.log.job(job_id).state == "succeeded")


async def test_what_was_taken_before_the_doubt_is_claimed_after_it() -> None:
    world = World()
    parts = world.parts
    taken: list[UUID] = []

    async def take(free_slots: int) -> list[object]:
        items = await MemoryQueue.take(world.queue, free_slots)
        if items:
            world.doubt()
            taken.extend(item.job_id for item in items)
        return list(items)

    world.queue.take = take  # type: ignore[method-assign, assignment]
    job_id = world.put()
    async with parts.working():
        await until(lambda: taken)
        for _ in range(50):
            await asyncio.sleep(0.005)
        assert world.log.types(job_id) == ["JobSubmitted"]
        world.queue.take = MemoryQueue.take.__get__(world.queue)  # type: ignore[method-assign]
        world.trust()
        await until(lambda: world.log.job(job_id).state == "succeeded")


@pytest.mark.parametrize("declared_lost", [True, False])
async def test_a_claim_that_met_a_doubt_runs_only_if_the_log_still_has_it(*, declared_lost: bool) -> None:
    world = World()
    world.log.open.clear()
    job_id = world.put("hold")
    async with world.parts.working():
        await until(lambda: world.parts.executor.claiming)
        world.doubt()
        world.log.open.set()
        await until(lambda: world.log.starts(job_id))
        for _ in range(50):
            await asyncio.sleep(0.005)
        assert world.parts.runner.started == []
        if declared_lost:
            world.log.command(job_id, c.LoseAttempt(attempt=1, reason="executor e1 is gone"))
        world.trust()
        if declared_lost:
            await until(lambda: not world.parts.executor.claiming and world.parts.slots.taken == 0)
            assert world.parts.runner.started == []
        else:
            await until(lambda: world.parts.runner.running(job_id))


async def test_in_doubt_an_attempt_ends_as_soon_as_the_log_says_that_it_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    async with doubting(world, monkeypatch):
        lost, kept = await world.started(), await world.started()
        world.doubt()
        world.log.command(lost, c.LoseAttempt(attempt=1, reason="executor e1 is gone"))
        await until(lambda: not world.parts.runner.running(lost), timeout_seconds=5)
        assert world.parts.runner.running(kept)


async def test_who_hears_neither_from_the_log_nor_from_the_broker_ends_what_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    async with doubting(world, monkeypatch, silence=0.2):
        job_id = await world.started()
        world.log.away = True
        for _ in range(60):  # no doubt, no end: while others see it, nobody can take it for dead
            await asyncio.sleep(0.005)
        assert world.parts.runner.running(job_id)
        world.doubt()
        await until(lambda: not world.parts.runner.running(job_id), timeout_seconds=5)
        world.log.away = False
        await until(lambda: world.log.types(job_id)[2:] == ["AttemptLost"])


async def test_an_outage_of_the_log_alone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who still hears the broker would hear from there that an attempt was declared lost."""
    world = World()
    async with doubting(world, monkeypatch, silence=0.2):
        job_id = await world.started()
        world.log.away = True
        world.doubt()
        for _ in range(60):
            world.parts.control.heard_at = time.monotonic()
            await asyncio.sleep(0.01)
        assert world.parts.runner.running(job_id)


def test_a_proof_counts_from_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    proofs = Proofs(4.0)
    assert proofs.since is None
    proofs.add(100.0)
    now = 103.9
    assert proofs.since == 100.0
    proofs.add(101.0)
    now = 104.9
    assert proofs.since == 100.0, "there was no break"
    now = 105.0
    assert proofs.since is None
    proofs.add(104.9)  # asked for before the doubt, answered after it
    assert proofs.since == 100.0
    now = 110.0
    proofs.add(109.0)
    assert proofs.since == 109.0, "there was a break"
    proofs.interrupt()
    assert proofs.since is None
    proofs.add(109.5)
    assert proofs.since is None, "it was asked for before the interruption"
    now = 111.0
    proofs.add(110.5)
    assert proofs.since == 110.5
    proofs.end()
    assert proofs.since is None
