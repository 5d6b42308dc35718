"""`rota up`, `rota demo` and the command line, as a user runs them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from rota import Client
from rota_server.apps.cli.up import running_system
from tests import role_processes
from tests.waiting import until_sync

HELLO = Path(__file__).parents[2] / "examples" / "hello.py"


def rota(*arguments: str, env: dict[str, str] | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return role_processes.run(arguments, {**os.environ, **(env or {})}, Path.cwd(), timeout=timeout)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    return tmp_path / "data"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def members_of(url: str) -> dict[str, list[int]]:
    with Client(url) as client:
        members = client.call("GET", "/v1/cluster")["members"]
    return {role: [member["pid"] for member in found] for role, found in members.items()}


def pids_by_role(state: dict[str, Any]) -> dict[str, list[int]]:
    return {role: [state["processes"][role]] for role in ("store", "relay", "scheduler", "executor")}


def database_users(place: Path) -> dict[str, set[str]]:
    """The roles in the database as which each kind of process is connected."""
    known = json.loads((place / "embedded.json").read_text())

    async def ask() -> dict[str, set[str]]:
        owner = await asyncpg.connect(
            f"postgresql://rota:{known['owner_password']}@127.0.0.1:{known['postgres_port']}/rota"
        )
        try:
            rows = await owner.fetch("select application_name, usename from pg_stat_activity where usename <> 'rota'")
        finally:
            await owner.close()
        found: dict[str, set[str]] = {}
        for application, user in rows:
            found.setdefault(application.removeprefix("rota-"), set()).add(user)
        return found

    return asyncio.run(ask())


def listening(pid: int) -> set[str]:
    """The addresses on which this process and its children accept connections."""
    process = psutil.Process(pid)
    found = set()
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            connections = one.net_connections(kind="inet")
            found |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def test_up_runs_jobs_survives_deaths_refuses_a_twin_and_leaves_nothing(place: Path) -> None:
    with running_system(place, "--tasks", str(HELLO)) as state:
        env = {"ROTA_URL": state["url"]}
        done = rota("submit", "hello.greet", "name=Ada", "--wait", env=env)
        assert (done.returncode, json.loads(done.stdout)["result"]) == (0, "Hello, Ada!")
        job_id = json.loads(done.stdout)["id"]
        assert rota("jobs", "logs", job_id, env=env).stdout == "greeting Ada\n"
        shown = rota("jobs", "events", job_id, "--json", env=env)
        types = [event["type"] for event in json.loads(shown.stdout)]
        assert [t for t in types if t != "ProgressReported"] == ["JobSubmitted", "AttemptStarted", "AttemptSucceeded"]
        assert rota("submit", "no.such.task", env=env).returncode == 1
        assert "Rota is up" in until_sync((place / "up.log").read_text, what="the banner")

        until_sync(lambda: members_of(state["url"]) == pids_by_role(state), what="one member of each role")

        assert database_users(place) == {role: {f"rota_{role}"} for role in pids_by_role(state)}

        everything = [*state["processes"].values(), *state["servers"].values()]
        assert {address for pid in everything for address in listening(pid)} == {"127.0.0.1"}

        twin = rota("up", "--data-dir", str(place), "--port", "0")
        assert twin.returncode == 1
        assert "is in use by another rota" in twin.stderr

        for role in ("store", "executor"):
            os.kill(state["processes"][role], signal.SIGKILL)
        until_sync(lambda: _pids(place).get("store") not in (None, state["processes"]["store"]), what="a new store")
        until_sync(lambda: rota("jobs", "list", env=env).returncode == 0, what="answers of the new store")
        again = rota("submit", "hello.greet", "name=Bob", "--wait", env=env)
        assert (again.returncode, again.stderr) == (0, "")
        assert json.loads(again.stdout)["result"] == "Hello, Bob!"
        pids = [*json.loads((place / "up.json").read_text())["processes"].values(), *state["servers"].values()]
    assert not [pid for pid in pids if alive(pid)]

    with running_system(place) as state, Client(state["url"]) as client:
        assert client.get(job_id).result == "Hello, Ada!"


def _pids(place: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((place / "up.json").read_text())["processes"]
    return found


def test_nothing_outlives_a_supervisor_that_is_killed(place: Path) -> None:
    with running_system(place) as state:
        pids = [*state["processes"].values(), *state["servers"].values()]
        os.kill(state["supervisor"], signal.SIGKILL)
        until_sync(lambda: not [pid for pid in pids if alive(pid)], timeout_seconds=30, what="the end of all")
    with running_system(place) as state, Client(state["url"]) as client:
        assert client.call("GET", "/readyz")["status"] == "ready"


def test_the_demo_comes_out_as_it_must(place: Path) -> None:
    done = rota("demo", "--json", "--data-dir", str(place), timeout=240)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["files"] > 300
    assert report["states"] == {"succeeded": report["jobs"] - 2, "failed": 1, "cancelled": 1}
    types = [event["type"] for event in report["history"]]
    assert types.count("AttemptStarted") == 3
    assert types[-1] == "AttemptSucceeded"


def test_the_bench_measures_all_that_the_contract_names() -> None:
    done = rota("bench", "--json", "--jobs", "500", "--seconds", "0.5", "--only", "append", "--only", "end_to_end")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) == {"append", "end_to_end", "projection_lag_ms", "machine"}
    assert report["end_to_end"]["events_per_job"] == pytest.approx(3, abs=0.1)
    assert report["append"]["events_per_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("submit",), 2, "requires an argument"),
        (("submit", "shell.run", "command"), 2, "not name=value"),
        (("bench", "--only", "nothing"), 2, "there is no part"),
        (("jobs", "list"), 1, "cannot be reached"),
        (("store",), 2, "ROTA_DATABASE_URL is not set"),
        (("up", "--tasks", "no-such-file.py"), 2, "there is no file"),
    ],
)
def test_wrong_usage_is_told_apart_from_failure(arguments: tuple[str, ...], status: int, said: str) -> None:
    done = rota(*arguments, env={"ROTA_URL": "http://127.0.0.1:9"})
    assert (done.returncode, said in done.stderr + done.stdout) == (status, True), done.stderr


def test_up_beyond_loopback_needs_tokens(place: Path) -> None:
    done = rota("up", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(place))
    assert done.returncode == 2
    assert "ROTA_API_TOKENS" in done.stderr


def test_a_store_beyond_loopback_needs_tokens() -> None:
    env = {"ROTA_DATABASE_URL": "postgresql://x:y@127.0.0.1:9/z"}
    done = rota("store", "--host", "0.0.0.0", env=env)
    assert done.returncode == 2
    assert "ROTA_API_TOKENS" in done.stderr


def test_the_doctor_names_what_is_wrong_and_masks_secrets() -> None:
    env = {
        "ROTA_DATABASE_URL": "postgresql://rota:sesame@127.0.0.1:9/rota",
        "ROTA_REDIS_URL": "redis://:sesame@127.0.0.1:9/0",
    }
    done = rota("doctor", "--json", env=env)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert not report["checks"]["postgres"]["ok"]
    assert "sesame" not in done.stdout + done.stderr
