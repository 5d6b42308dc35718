"""`shell.run` with real programs: what they see, how they fail, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest
import uvloop

from rota_server.apps.executor.attempts import Cancelled, Failed
from rota_server.apps.executor.builtin.runner import BuiltinTasks
from tests.integration.builtin_tasks import Kept, attempt_of, failure, nowhere, run, success
from tests.waiting import until


async def test_a_command_runs_only_where_that_is_allowed() -> None:
    failed = failure(await run("shell.run", {"command": ["true"]}))
    assert failed.type == "NotAllowed"


async def test_a_command_gets_its_input_directory_and_environment_and_none_of_rotas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROTA_DATABASE_URL", "postgresql://rota:sesame@host/rota")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    kept = Kept()
    code = "import os,sys; print(sys.stdin.read(), os.getcwd(), dict(os.environ)); print('bad', file=sys.stderr)"
    args = {"command": [sys.executable, "-c", code], "stdin": "in", "cwd": str(tmp_path), "env": {"GIVEN": "value"}}
    assert success(await run("shell.run", args, kept, allow_shell=True)) == {"exit_status": 0}
    assert kept.text["stdout"].startswith(f"in {tmp_path} ")
    assert "'GIVEN': 'value'" in kept.text["stdout"]
    assert "sesame" not in kept.text["stdout"]
    assert kept.text["stderr"] == "bad\n"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["sh", "-c", "exit 3"], "ExitStatus"),
        (["sh", "-c", "kill -9 $$"], "Signal"),
        (["no-such-program"], "CommandNotStarted"),
    ],
)
async def test_a_command_that_fails_says_how(command: list[str], kind: str) -> None:
    failed = failure(await run("shell.run", {"command": command}, allow_shell=True))
    assert (failed.type, failed.retryable) == (kind, kind != "CommandNotStarted")


async def test_no_shell_reads_the_command() -> None:
    kept = Kept()
    await run("shell.run", {"command": ["echo", "$HOME; `id`"]}, kept, allow_shell=True)
    assert kept.text["stdout"] == "$HOME; `id`\n"


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
async def test_an_ended_command_takes_its_children_along(tmp_path: Path, how: str) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 1000 & echo $$ $! > {pids}; wait; sleep 1000"
    attempt = attempt_of(
        "shell.run", {"command": ["sh", "-c", script]}, timeout_seconds=None if how == "cancelled" else 1.0
    )
    tasks = BuiltinTasks(nowhere, allow_shell=True)
    running = asyncio.ensure_future(tasks.run(attempt, Kept()))
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 2, what="the command's children")
    group = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    if how == "cancelled":
        tasks.cancel(attempt)
    outcome = await asyncio.wait_for(running, 30)
    assert isinstance(outcome, Cancelled if how == "cancelled" else Failed)
    await until(lambda: not [p for p in group if lives(p)], what="the group's end")
    await tasks.close()


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir("/")
        if {closes}:
            for fd in range(3):
                os.close(fd)
        with open({pid!r} + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename({pid!r} + ".new", {pid!r})
        time.sleep(1000)
    os._exit(0)
os.wait()
while not os.path.exists({pid!r}):
    time.sleep(0.01)
time.sleep({goes_on})
"""
"""As daemons are made: a session of its own, and no parent that lives."""


@pytest.mark.parametrize("closes", [True, False])
async def test_a_daemon_that_stays_behind_ends_with_its_job_and_holds_no_pipes(tmp_path: Path, *, closes: bool) -> None:
    pid = tmp_path / "pid"
    before = psutil.Process().num_fds()
    command = [sys.executable, "-c", DAEMON.format(pid=str(pid), goes_on=0, closes=closes)]
    assert success(await asyncio.wait_for(run("shell.run", {"command": command}, allow_shell=True), 30))
    assert not psutil.pid_exists(int(pid.read_text()))
    await until(lambda: psutil.Process().num_fds() <= before, what="the pipes' end")


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
async def test_a_daemon_ends_with_a_job_that_is_ended(tmp_path: Path, how: str) -> None:
    pid = tmp_path / "pid"
    command = [sys.executable, "-c", DAEMON.format(pid=str(pid), goes_on=1000, closes=True)]
    limit = None if how == "cancelled" else 3.0
    attempt = attempt_of("shell.run", {"command": command}, timeout_seconds=limit)
    tasks = BuiltinTasks(nowhere, allow_shell=True)
    running = asyncio.ensure_future(tasks.run(attempt, Kept()))
    await until(pid.exists, what="the daemon")
    daemon = psutil.Process(int(pid.read_text()))
    if how == "cancelled":
        tasks.cancel(attempt)
    assert isinstance(await asyncio.wait_for(running, 30), Cancelled if how == "cancelled" else Failed)
    assert not lives(daemon)
    await tasks.close()


async def test_many_daemons_that_start_others_all_end(tmp_path: Path) -> None:
    marker = f"1000.77{os.getpid()}"
    script = f"""
    for i in 1 2 3 4 5; do
        (setsid sh -c 'trap "" TERM HUP; while :; do setsid sleep {marker} & sleep 0.01; done' &)
    done
    while [ $(ps -ef | grep -c "[s]leep {marker}") -lt 20 ]; do sleep 0.05; done
    """
    args = {"command": ["sh", "-c", script], "cwd": str(tmp_path)}
    assert success(await asyncio.wait_for(run("shell.run", args, allow_shell=True), 60))
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if marker in " ".join(p.info["cmdline"] or ())]
    assert left == []


async def test_a_command_is_asked_to_end_before_it_is_killed(tmp_path: Path) -> None:
    kept = Kept()
    attempt = attempt_of(
        "shell.run", {"command": ["sh", "-c", "trap 'echo cleaned; exit 0' TERM; echo up; sleep 1000 & wait"]}
    )
    tasks = BuiltinTasks(nowhere, allow_shell=True)
    running = asyncio.ensure_future(tasks.run(attempt, kept))
    await until(lambda: "up" in kept.text["stdout"], what="the command")
    tasks.cancel(attempt)
    assert isinstance(await asyncio.wait_for(running, 30), Cancelled)
    assert kept.text["stdout"] == "up\ncleaned\n"
    await tasks.close()


async def test_nothing_lives_on_when_the_executor_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = [sys.executable, "-c", DAEMON.format(pid=str(pid), goes_on=1000, closes=True)]
    code = (
        "import asyncio; from tests.integration.builtin_tasks import run; "
        f"asyncio.run(run('shell.run', {{'command': {command!r}}}, allow_shell=True))"
    )
    executor = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await until(pid.exists, what="the daemon")
    daemon = psutil.Process(int(pid.read_text()))
    executor.kill()
    await executor.wait()
    await until(lambda: not lives(daemon), what="the daemon's end")


async def test_a_cancelled_command_that_prints_more_than_anybody_reads_ends() -> None:
    attempt = attempt_of("shell.run", {"command": ["yes"]})
    tasks = BuiltinTasks(nowhere, allow_shell=True)
    kept = Kept()
    running = asyncio.ensure_future(tasks.run(attempt, kept))
    await until(lambda: len(kept.text["stdout"]) > 1_000_000, what="some output")
    tasks.cancel(attempt)
    assert isinstance(await asyncio.wait_for(running, 30), Cancelled)
    await tasks.close()


def test_commands_end_alike_on_the_loop_that_executors_run_on(tmp_path: Path) -> None:
    async def all_of_them() -> None:
        kept = Kept()
        args = {"command": ["cat"], "stdin": "ü" * 300_000}
        assert success(await asyncio.wait_for(run("shell.run", args, kept, allow_shell=True), 30))
        assert kept.text["stdout"] == "ü" * 300_000
        await test_an_ended_command_takes_its_children_along(tmp_path, "cancelled")
        await test_a_daemon_that_stays_behind_ends_with_its_job_and_holds_no_pipes(tmp_path, closes=False)
        await test_a_cancelled_command_that_prints_more_than_anybody_reads_ends()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_them())


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8])
async def test_a_command_that_is_cancelled_while_it_starts_leaves_nothing(turns: int) -> None:
    """The program may have children before asyncio knows of it; they hold its pipes open."""
    marker = f"1000.{turns}{os.getpid()}"
    tasks = BuiltinTasks(nowhere, allow_shell=True)
    attempt = attempt_of("shell.run", {"command": ["sh", "-c", f"trap '' TERM; sleep {marker} & sleep {marker}; wait"]})
    running = asyncio.ensure_future(tasks.run(attempt, Kept()))
    for _ in range(turns):
        await asyncio.sleep(0)
    tasks.cancel(attempt)
    assert isinstance(await asyncio.wait_for(running, 30), Cancelled)
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if marker in " ".join(p.info["cmdline"] or ())]
    assert left == []
