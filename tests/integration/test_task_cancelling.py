"""A task that is asked to end may end by itself, and protect what must not be torn apart; not forever."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rota_server.apps.executor.attempts import Cancelled, Succeeded
from rota_server.apps.executor.processes.pool import TaskProcesses
from rota_server.apps.executor.processes.runs import Patience
from tests.integration.task_harness import Harness, failed
from tests.waiting import until

TASKS = Path(__file__).with_name("process_tasks.py")


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    patience = Patience(cancel=2, timeout=2, neighbours=0.6, begin=30)
    processes = TaskProcesses([str(TASKS)], count=1, slots=16, patience=patience)
    await processes.start()
    yield Harness(processes)
    await processes.close()


async def test_a_plain_function_that_heeds_the_flag_ends_by_itself_before_the_exception(harness: Harness) -> None:
    attempt, running = await harness.begun("heed_the_flag", "begun")
    harness.processes.cancel(attempt)
    assert await running == Succeeded("ended by itself")


async def test_a_timeout_gives_the_same_grace_and_is_a_timeout_all_the_same(harness: Harness) -> None:
    assert failed(await harness.run("heed_the_flag", 0.1)).type == "Timeout"


@pytest.mark.parametrize(("task", "left"), [("shielded", "whole cleaned"), ("shielded_async", "whole")])
async def test_what_is_shielded_is_not_torn_apart_and_the_cancellation_comes_once(
    harness: Harness, tmp_path: Path, task: str, left: str
) -> None:
    path = tmp_path / "done"
    attempt, running = await harness.begun(task, "begun", path=str(path))
    harness.processes.cancel(attempt)
    harness.processes.cancel(attempt)
    assert await running == Cancelled(forced=False)
    assert path.read_text() == left


async def test_a_shield_does_not_hold_for_ever(harness: Harness) -> None:
    attempt, running = await harness.begun("shielded_for_ever", "begun")
    harness.processes.cancel(attempt)
    assert await running == Cancelled(forced=True)


async def test_bytes_in_pieces_are_whole_characters(harness: Harness) -> None:
    attempt = harness.attempt("write_bytes_in_pieces", text="grün 漢字 🙂\n", rest="ü")
    assert await harness.begin(attempt) == Succeeded(None)
    assert harness.sink.of(attempt) == "grün 漢字 🙂\n\ufffd"


async def test_what_a_thread_prints_after_its_task_stands_in_the_executors_log(
    harness: Harness, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    attempt = harness.attempt("leave_a_thread", path=str(tmp_path / "end"))
    assert await harness.begin(attempt) == Succeeded(None)
    (tmp_path / "end").touch()
    await until(lambda: "said too late" in caplog.text)
    assert f"job {attempt.job_id} printed on stdout after its task had ended" in caplog.text


async def test_what_a_module_prints_while_it_is_imported_stands_in_the_executors_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "talkative.py"
    path.write_text("from rota import task\nprint('reading the settings')\n@task\ndef one():\n    return 1\n")
    processes = TaskProcesses([str(path)], count=1, slots=1)
    await processes.start()
    await until(lambda: "while it loaded the tasks: reading the settings" in caplog.text)
    await processes.close()
