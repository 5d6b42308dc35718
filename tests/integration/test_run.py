"""`rota run`: one task in the foreground."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TASKS = """
from datetime import date
from rota import current_job, task


@task(name="run.greet", queue="mail")
async def greet(name: str, on: date = date(2027, 1, 1)) -> dict:
    current_job().progress(0.5, "half way")
    print("greeting", name)
    return {"name": name, "on": on, "attempt": current_job().attempt, "queue": current_job().queue}


@task(name="run.stop")
def stop(number: int) -> int:
    breakpoint()
    return number // 0
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "run_tasks.py"
    path.write_text(TASKS)
    return path


def rota_run(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rota_server.apps.cli.main", "run", *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)


def test_a_task_runs_in_the_foreground_with_its_job_and_its_types(tasks: Path) -> None:
    done = rota_run("run.greet", "name=5", "on=2027-02-28", "--tasks", str(tasks), "--attempt", "2")
    assert done.stdout == 'greeting 5\n{"name": "5", "on": "2027-02-28", "attempt": 2, "queue": "mail"}\n'
    assert (done.returncode, done.stderr) == (0, "progress: 50% half way\n")


def test_a_debugger_has_the_terminal(tasks: Path) -> None:
    done = rota_run("run.stop", "number=7", "--tasks", str(tasks), given="p number * 6\nc\n")
    assert "42" in done.stdout
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_what_can_not_be_run_is_told_in_a_line(tasks: Path) -> None:
    done = rota_run("run.gret", "--tasks", str(tasks))
    assert done.returncode == 2
    assert done.stderr.endswith("; did you mean 'run.greet'?\n")
    assert "did you mean 'name'" in rota_run("run.greet", "nam=a", "--tasks", str(tasks)).stderr
