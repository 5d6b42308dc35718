"""Whatever a result or an exception raises when it is turned into a report is that attempt's failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rota_server.apps.executor.attempts import Succeeded
from rota_server.apps.executor.processes.pool import TaskProcesses
from tests.integration.hostile_tasks import HOW, RAISED
from tests.integration.task_harness import Harness, failed

TASKS = Path(__file__).with_name("hostile_tasks.py")
TYPES = {
    "items": "ResultNotJson",
    "message": "_message.<locals>.Mute",
    "cause": "ValueError",
    "group": "BaseExceptionGroup",
    "traceback": "_traceback.<locals>.Traceless",
    "metaclass": "_metaclass.<locals>.Nameless",
    "text": "_text.<locals>.Odd",
}


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    processes = TaskProcesses([str(TASKS)], count=1, slots=64)
    await processes.start()
    yield Harness(processes, "hostile_tasks")
    await processes.close()


@pytest.mark.parametrize("task", ["hostile_plain", "hostile_async"])
async def test_every_hostile_end_is_one_failure_of_its_own_attempt(harness: Harness, task: str) -> None:
    pids = harness.processes.pids
    cases = [(how, what) for how in HOW for what in RAISED]
    running = [harness.run(task, how=how, what=what) for how, what in cases]
    outcomes = await asyncio.wait_for(asyncio.gather(*running), 60)
    for case, outcome in zip(cases, outcomes, strict=True):
        assert failed(outcome).type == TYPES[case[0]], (case, outcome)
        assert failed(outcome).message, case
    assert harness.processes.pids == pids
    assert await harness.run("healthy") == Succeeded(1)


async def test_what_a_failing_result_raised_can_be_read(harness: Harness) -> None:
    outcome = failed(await harness.run("hostile_plain", how="items", what="exit"))
    assert outcome.message.endswith("SystemExit when it was written as JSON: said by items")
    assert "in items" in str(outcome.traceback)
    assert not outcome.retryable


async def test_a_mute_exception_is_told_with_its_place(harness: Harness) -> None:
    outcome = failed(await harness.run("hostile_async", how="message", what="exit"))
    assert outcome.message == "(its text cannot be had: SystemExit)"
    assert "hostile_tasks.py" in str(outcome.traceback)
    caused = failed(await harness.run("hostile_plain", how="cause", what="interrupt"))
    assert caused.message == "has a mute cause"
    assert "hostile_tasks.py" in str(caused.traceback)


async def test_a_result_is_judged_by_the_text_that_it_gives(harness: Harness) -> None:
    outcome = failed(await harness.run("liar"))
    assert outcome.type == "ResultNotJson"
    assert "64 bits" in outcome.message


async def test_a_returned_coroutine_is_told(harness: Harness) -> None:
    outcome = failed(await harness.run("returns_a_coroutine"))
    assert "a coroutine that nobody awaits" in outcome.message
