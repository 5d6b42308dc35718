"""The first steps of somebody new: a folder with tasks, the command line, what is said when something goes wrong."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.cli.up import running_system
from rota import Client
from rota.discovery import default_token, default_url, url_of_running

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
