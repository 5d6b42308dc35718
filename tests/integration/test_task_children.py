"""What a task starts is an ordinary process: it ends when told to, with its own status, and speaks for itself only."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rota_server.apps.executor.attempts import Succeeded
from rota_server.apps.executor.processes.pool import TaskProcesses
from tests.integration.task_harness import Harness, failed

TASKS = Path(__file__).with_name("child_tasks.py")
RESULTS = {"terminate": -15, "end": 0, "pool": [1, 4, 9], "executor": [1, 4, 9]}


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    processes = TaskProcesses([str(TASKS)], count=1, slots=16)
    await processes.start()
    yield Harness(processes, "child_tasks")
    await processes.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kind", ["plain", "async", "to_thread"])
async def test_children_end_as_they_are_told_and_with_their_own_status(
    harness: Harness, kind: str, method: str
) -> None:
    for way, result in RESULTS.items():
        assert await harness.run(f"children_{kind}", 30, way=way, method=method) == Succeeded(result), way


async def test_a_subprocess_can_be_terminated(harness: Harness) -> None:
    assert await harness.run("stop_subprocess", 30) == Succeeded(-15)


@pytest.mark.parametrize("task", ["fork_and_leave", "fork_and_leave_async"])
async def test_a_forked_child_that_leaves_the_task_function_ends_there(harness: Harness, task: str) -> None:
    for how, status in (("exit", 7), ("raise", 1), ("return", 0)):
        attempt = harness.attempt(task, 30, how=how)
        assert await harness.begin(attempt) == Succeeded(status), how
        assert f"printed by {attempt.job_id}" in harness.sink.of(attempt)
        assert ("raised in a child" in harness.sink.of(attempt, "stderr")) == (how == "raise")
    assert harness.sink.reported == []


async def test_a_forked_child_can_not_go_on_with_the_event_loop(harness: Harness) -> None:
    attempt = harness.attempt("fork_and_leave_async", 30, how="await")
    assert await harness.begin(attempt) == Succeeded(70)
    assert "cannot await" in harness.sink.of(attempt, "stderr")
    assert await harness.run("stop_subprocess", 30) == Succeeded(-15)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_forked_child_does_not_hold_the_pipes_to_the_executor(harness: Harness, tmp_path: Path) -> None:
    outcome = await harness.run("pipes_of_a_child", 30, path=str(tmp_path / "pipes"))
    assert isinstance(outcome, Succeeded), failed(outcome)
    assert len(outcome.result) == 2
