"""Tasks whose files change while they are worked on: loaded again, without a restart and without cost."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from rota import Client, NotFound
from rota_server.apps.cli.up import running_system
from rota_server.apps.executor.attempts import Succeeded
from rota_server.apps.executor.processes.pool import TaskProcesses
from tests.integration.task_harness import Harness
from tests.waiting import until, until_sync

TASKS = """
import time
from pathlib import Path
from rota import task
from helping import WORD


@task(name="reloaded.say")
def say():
    return "WORD " + WORD


@task(name="reloaded.wait")
def wait(until):
    print("waiting", flush=True)
    while not Path(until).exists():
        time.sleep(0.02)
    return "WORD " + WORD
"""
STAYING = """

@task(name="reloaded.stay", cancel_grace=60)
def stay(until):
    print("staying", flush=True)
    while not Path(until).exists():
        time.sleep(0.02)
"""
PICTURES = """

@task(name="reloaded.shrink", queue="pictures")
def shrink(name: str):
    return name.lower()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    write(tmp_path / "helping.py", 'WORD = "helped"\n')
    write(tmp_path / "reloaded.py", TASKS.replace("WORD ", "first "))
    return tmp_path


def write(path: Path, text: str) -> None:
    """As editors do: another file takes the name."""
    path.with_suffix(".tmp").write_text(text)
    path.with_suffix(".tmp").replace(path)


@pytest.fixture
async def harness(project: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    processes = TaskProcesses([str(project / "reloaded.py")], count=2, slots=8)
    await processes.start()
    yield Harness(processes, "reloaded")
    await processes.close()


async def said(harness: Harness) -> object:
    outcome = await harness.run("say")
    assert isinstance(outcome, Succeeded), outcome
    return outcome.result


async def test_new_processes_take_the_place_of_the_old_and_what_runs_ends_where_it_is(project: Path, harness: Harness):
    before = set(harness.processes.pids)
    _, running = await harness.begun("wait", "waiting", until=str(project / "over"))
    write(project / "helping.py", 'WORD = "again"\n')
    assert await harness.processes.reload() is None
    assert [await said(harness) for _ in range(4)] == ["first again"] * 4
    (project / "over").touch()
    outcome = await running
    assert isinstance(outcome, Succeeded)
    assert outcome.result == "first helped"
    await until(lambda: len(harness.processes.pids) == 2, what="the end of the old process")
    assert not before & set(harness.processes.pids)


@pytest.mark.parametrize(
    "wrong", ["def broken(:\n", "import nowhere_to_be_found\n", "raise SystemExit(3)\n", "x = 1\n"]
)
async def test_what_cannot_be_loaded_leaves_everything_as_it_was(project: Path, harness: Harness, wrong: str):
    before = harness.processes.pids
    write(project / "reloaded.py", wrong)
    problem = await harness.processes.reload()
    assert problem is not None
    assert "reloaded.py" in problem
    assert await said(harness) == "first helped"
    await until(lambda: harness.processes.pids == before, what="the end of the new processes")
    write(project / "reloaded.py", TASKS.replace("WORD ", "second "))
    assert await harness.processes.reload() is None
    assert await said(harness) == "second helped"


async def test_a_retired_process_leaves_though_nobody_waits_for_what_ran_there(harness: Harness, project: Path):
    write(project / "reloaded.py", TASKS.replace("WORD ", "first ") + STAYING)
    assert await harness.processes.reload() is None
    before = {process.pid for process in harness.processes._processes if not process.retired}
    assert len(before) == 2
    _, running = await harness.begun("stay", "staying", until=str(project / "over"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await harness.processes.reload() is None
    (project / "over").touch()
    await until(lambda: not any(psutil.pid_exists(pid) for pid in before), what="the end of the old processes")


async def test_reloads_one_after_the_other_leave_as_many_processes_as_there_were(harness: Harness):
    for _ in range(3):
        assert await harness.processes.reload() is None
    await until(lambda: len(harness.processes.pids) == 2, what="the end of the old processes")
    killed = harness.processes.pids[0]
    os.kill(killed, 9)
    await until(lambda: killed not in harness.processes.pids, what="its end")
    await until(lambda: len(harness.processes.pids) == 2, what="the process in its place")
    assert await asyncio.wait_for(said(harness), 30) == "first helped"


def test_a_changed_file_is_used_by_the_next_job_and_a_mistake_is_told_on_the_terminal(project: Path):
    file, terminal = project / "reloaded.py", project / "data" / "up.log"
    options = ("--tasks", str(file), "--reload")
    env = {"ROTA_TASK_PROCESSES": "1"}
    with running_system(project / "data", *options, env=env) as state, Client(str(state["url"])) as client:
        assert client.submit("reloaded.say").wait(60).result == "first helped"
        running = client.submit("reloaded.wait", until=str(project / "over"))
        until_sync(lambda: running.refresh().state == "running", what="the start of the job")

        def shown(text: str) -> None:
            until_sync(lambda: text in terminal.read_text(), what=f"{text!r} on the terminal")

        write(file, TASKS.replace("WORD ", "second "))
        shown("tasks loaded again: reloaded.say, reloaded.wait")
        assert client.submit("reloaded.say").wait(60).result == "second helped"
        write(file, TASKS + "def broken(:\n")
        shown("SyntaxError: invalid syntax")
        assert "the change is not used, the tasks of before go on" in terminal.read_text()
        assert client.submit("reloaded.say").wait(60).result == "second helped"
        write(file, TASKS.replace("WORD ", "third ") + PICTURES)
        shown("tasks loaded again: reloaded.say, reloaded.shrink, reloaded.wait")

        def announced() -> bool:
            try:
                return bool(client.task("reloaded.shrink"))
            except NotFound:
                return False

        until_sync(announced, what="the new task")
        shrunk = client.submit("reloaded.shrink", name="ADA").wait(60)
        assert (shrunk.result, shrunk.queue) == ("ada", "pictures")
        assert "pictures" in client.call("GET", "/v1/executors")["items"][0]["queues"]
        (project / "over").touch()
        ended = running.wait(60)
        assert (ended.result, ended.attempt) == ("first helped", 1)
        now = json.loads((project / "data" / "up.json").read_text())
        assert now["processes"] == state["processes"]
