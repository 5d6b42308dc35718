"""The first steps of somebody new: a folder with tasks, the command line, what is said when something goes wrong."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from rota import Client
from rota.discovery import default_token, default_url, url_of_running
from rota_server.apps.cli.up import running_system
from tests.waiting import until_sync

ROTA = Path(sys.executable).with_name("rota")

SHOP = """
from rota import task

@task(queue="pictures")
def shrink(name: str) -> str:
    return name.lower()

@task(name="shop.broken", retry={"max_attempts": 1})
def broken() -> None:
    raise ValueError("no such picture")
"""


def rota(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROTA_")}
    return subprocess.run(
        [ROTA, *arguments], capture_output=True, text=True, check=False, timeout=120, cwd=folder, env={**kept, **env}
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose folders have the names of Rota's own packages, with a system that runs in it."""
    folder = tmp_path_factory.mktemp("project")
    for reachable in (folder, folder.parent):
        reachable.chmod(0o755)
    for name in ("domain", "apps", "adapters"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('the project, not Rota')\n")
    (folder / "shop.py").write_text(SHOP)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with running_system(folder / ".rota", "--tasks", "shop.py"):
            yield folder
    finally:
        os.chdir(before)


def test_the_command_line_finds_the_system_that_runs_in_the_folder(project: Path) -> None:
    done = rota(project, "submit", "shop.shrink", "name=ADA", "--wait")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["result"], job["queue"]) == ("ada", "pictures")


def test_the_queues_of_the_tasks_are_served_and_named(project: Path) -> None:
    assert "Queues served: default, pictures" in (project / ".rota" / "up.log").read_text()
    assert "serving the queues default, pictures" in (project / ".rota" / "logs" / "executor.log").read_text()


def test_the_package_finds_the_system_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.delenv("ROTA_URL", raising=False)
    with Client() as client:
        assert client.call("GET", "/healthz")["status"] == "alive"


def test_up_refuses_a_port_that_somebody_else_has(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        done = rota(tmp_path, "up", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"rota up: port {port} on 127.0.0.1 is in use by process {os.getpid()} (")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".rota" / "postgres").exists()  # it had not begun to start anything


def test_a_second_system_does_not_take_the_first_ones_store_for_its_own(project: Path, tmp_path: Path) -> None:
    port = default_port(project)
    done = rota(tmp_path, "up", "--port", port)
    assert (done.returncode, f"port {port}" in done.stderr) == (1, True)


def default_port(project: Path) -> str:
    url = url_of_running(str(project / ".rota"))
    assert url is not None
    return url.rpartition(":")[2]


def test_a_state_file_of_one_that_was_killed_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for content in (
        json.dumps({"url": "http://127.0.0.1:9", "supervisor": ended.pid}),
        json.dumps({"url": "http://127.0.0.1:9", "supervisor": -1}),
        json.dumps({"url": 7, "supervisor": os.getpid()}),
        json.dumps([1]),
        "{",
        "",
    ):
        (tmp_path / "up.json").write_text(content)
        assert url_of_running(str(tmp_path)) is None, content
    (tmp_path / "up.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "supervisor": os.getpid()}))
    assert url_of_running(str(tmp_path)) == "http://127.0.0.1:9"
    monkeypatch.setenv("ROTA_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("ROTA_URL", raising=False)
    assert default_url() == "http://127.0.0.1:9"
    monkeypatch.setenv("ROTA_URL", "http://127.0.0.1:10")
    assert default_url() == "http://127.0.0.1:10"


def test_a_token_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROTA_TOKEN", raising=False)
    monkeypatch.setenv("ROTA_TOKEN_FILE", str(tmp_path / "token"))
    (tmp_path / "token").write_text("open-sesame\n")
    assert default_token() == "open-sesame"
    monkeypatch.setenv("ROTA_TOKEN", "of-the-environment")
    assert default_token() == "of-the-environment"


def test_the_command_line_takes_the_address_from_a_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ROTA_URL=http://127.0.0.1:9\n")
    done = rota(tmp_path, "jobs", "list")
    assert (done.returncode, "127.0.0.1:9" in done.stderr) == (1, True), done.stderr


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    version = re.search(r'^version = "(.+)"$', (Path(__file__).parents[2] / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert rota(tmp_path, "--version").stdout.strip() == version[1]


def test_why_shows_where_a_job_failed(project: Path) -> None:
    job = rota(project, "submit", "shop.broken").stdout.strip()
    ended = until_sync(
        lambda: (said := rota(project, "why", job)).stdout.startswith(f"{job} is failed") and said.stdout,
        what="the job's end",
    )
    assert "ValueError: no such picture" in ended
    assert "in broken" in ended
    assert rota(project, "why", str(UUID(int=7))).stderr == (
        f"rota: there is no job, workflow, batch, inbox row or schedule '{UUID(int=7)}'\n"
    )


def test_why_explains_a_workflow_by_the_jobs_that_decide(project: Path) -> None:
    flow = {
        "name": "w",
        "jobs": {"a": {"task": "shop.broken"}, "b": {"task": "shop.shrink", "args": {"name": "B"}, "after": ["a"]}},
    }

    (project / "flow.json").write_text(json.dumps(flow))
    done = rota(project, "workflows", "submit", "flow.json", "--wait", "--json")
    assert done.returncode == 1
    said = rota(project, "why", json.loads(done.stdout)["id"]).stdout
    assert "The workflow ended as failed" in said
    assert "Job a is failed: It failed for good after 1 attempts" in said
    assert "ValueError: no such picture" in said
    assert "Job b is cancelled" in said


def test_a_slip_in_a_queues_name_makes_no_queue(project: Path) -> None:
    done = rota(project, "queues", "pause", "picture")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "rota: nothing is known of a queue picture yet. Did you mean pictures? --new gives it settings all the same\n"
    )
    assert rota(project, "queues", "resume", "picture").returncode == 1
    assert rota(project, "queues", "pause", "picture", "--new").returncode == 0
    assert "picture" in rota(project, "queues", "list").stdout.split()
    assert rota(project, "queues", "resume", "picture").returncode == 0
    assert "picture" not in rota(project, "queues", "list").stdout.split()


def on_terminal(folder: Path, columns: int, *arguments: str) -> str:
    """What the command prints on a terminal of this width."""
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ROTA_", "COLUMNS"))}
    with subprocess.Popen(
        [ROTA, *arguments], stdin=terminal, stdout=terminal, stderr=terminal, cwd=folder, env={**env, "TERM": "dumb"}
    ) as process:
        os.close(terminal)
        said = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(controller, 65536):
                said += piece
    os.close(controller)
    assert process.returncode in (0, 1)
    return said.decode().replace("\r\n", "\n")


def test_a_narrow_terminal_cuts_nothing(project: Path) -> None:
    job = rota(project, "submit", "shop.shrink", "name=ADA", "--wait")
    job_id = json.loads(job.stdout)["id"]
    assert job_id in on_terminal(project, 80, "jobs", "list")
    events = on_terminal(project, 40, "jobs", "events", job_id)
    assert {"JobSubmitted", "AttemptStarted", "AttemptSucceeded"} <= set(events.split())


def test_waiting_on_a_terminal_prints_the_result_and_little_else(project: Path) -> None:
    said = on_terminal(project, 80, "submit", "shop.shrink", "name=ADA", "--wait").splitlines()
    assert said[0].endswith(" succeeded in attempt 1")
    assert said[1:] == ["ada"]
    failed = on_terminal(project, 80, "submit", "shop.broken", "--wait")
    assert "ValueError: no such picture" in failed
    assert len(failed.splitlines()) < 15
