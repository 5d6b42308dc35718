"""`ROTA_TASK_USER`: an executor that is root runs tasks and commands as another account, from the start to the end."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import orjson
import pytest

import rota
from rota_server.adapters.embedded.process import can_reach
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.retry import RetryPolicy
from tests.conftest import TestDatabase, as_kind, redis_as
from tests.integration.executor_system import System, children_of, system, wait_gone
from tests.waiting import until

USER = "nobody"
ROOT = Path(__file__).parents[2]
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
ONCE = RetryPolicy(max_attempts=1)
SITE = Path(orjson.__file__).parents[1]

TASKS = """
import os, tempfile, time
from rota import task

def refused(path):
    try:
        with open(path, "rb") as file:
            file.read(1)
    except PermissionError:
        return True
    return False

@task(name="see")
def see(executor):
    with tempfile.NamedTemporaryFile() as own:
        status = os.stat(own.name)
    return {
        "user": os.geteuid(), "real": os.getuid(), "groups": os.getgroups(), "home": os.environ["HOME"],
        "file": [status.st_uid, status.st_mode & 0o777],
        "refused": [name for name in ("environ", "mem", "maps") if refused(f"/proc/{executor}/{name}")],
        "kill": can_signal(executor),
        "secrets": sorted(name for name in os.environ if "DATABASE" in name or "REDIS" in name),
    }

def can_signal(pid):
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    return True

@task(name="nap")
def nap():
    print("napping", flush=True)
    while True:
        time.sleep(0.05)

@task(name="stubborn")
def stubborn():
    import ctypes, signal
    print("holding on", flush=True)
    ctypes.PyDLL(None).sleep(300)  # holds the interpreter's lock: nothing but the end of the process helps
"""


def reachable(*places: Path) -> bool:
    account = pwd.getpwnam(USER)
    return all(can_reach(place, account) and can_reach(place.resolve(), account) for place in places)


def interpreter(place: Path) -> tuple[Path, dict[str, str]]:
    """This interpreter, or a copy of it that the account can reach, and what goes into its environment."""
    if reachable(Path(sys.executable)):
        return Path(sys.executable), {}
    base, home = Path(sys.base_prefix), place / "python"
    unneeded = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "config-*")
    shutil.copytree(base / "lib" / VERSION, home / "lib" / VERSION, ignore=unneeded)
    for library in (base / "lib").glob("libpython3*"):
        shutil.copy(library, home / "lib")
    (home / "bin").mkdir()
    return Path(shutil.copy(base / "bin" / VERSION, home / "bin")), {"LD_LIBRARY_PATH": str(home / "lib")}


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rota-task-user-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def found(database: TestDatabase, redis_url: str, place: Path) -> AsyncIterator[System]:
    if os.geteuid() != 0:
        pytest.skip("only root can run tasks as another account")
    if not reachable(ROOT / "apps" / "x", SITE / "x", Path(rota.__file__)):
        pytest.skip(f"the account {USER} cannot reach the installed packages, or this folder")
    async with system(database.url, redis_url, place) as one:
        yield one


@contextmanager
def executor_of(found: System, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An executor whose interpreter the account can reach."""
    python, environment = interpreter(place)
    (place / "jobs.py").write_text(TASKS)
    code = (ROOT, Path(rota.__file__).parents[1], SITE)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ROTA_")},
        **environment,
        "PYTHONPATH": os.pathsep.join(map(str, code)),
        "ROTA_DATABASE_URL": as_kind(found.database_url, "executor"),
        "ROTA_REDIS_URL": redis_as(found.redis_url, "executor"),
        "ROTA_TASKS": str(place / "jobs.py"),
        "ROTA_TASK_PROCESSES": "1",
        "ROTA_TASK_USER": USER,
        "ROTA_ALLOW_SHELL": "true",
    }
    command = [str(python), "-P", "-m", "rota_server.apps.cli.main", "executor"]
    with (place / "executor.log").open("wb") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as one:
        try:
            yield one
        finally:
            if one.poll() is None:
                one.kill()


async def test_tasks_and_commands_run_as_the_account_and_end_when_they_are_told(found: System, place: Path) -> None:
    with executor_of(found, place) as executor:
        await until(lambda: _registered(found, executor), timeout_seconds=90, what="the executor's registration")
        await _works_as_another_account(found, executor)


async def _registered(found: System, executor: subprocess.Popen[bytes]) -> bool:
    assert executor.poll() is None, (found.directory / "executor.log").read_text()
    return any(member.info["pid"] == executor.pid for member in await found.coordination.members("executor"))


async def _attempted(found: System, job_id: UUID) -> Job:
    """The job once its first attempt has ended."""

    async def ended() -> Job | None:
        job = await found.job(job_id)
        return job if job.state not in ("queued", "running") else None

    job: Job = await until(ended, timeout_seconds=20, what="the end of an attempt")
    return job


async def _works_as_another_account(found: System, executor: subprocess.Popen[bytes]) -> None:
    nobody = pwd.getpwnam(USER)
    workers = children_of(executor.pid)

    (seen,) = await found.submit("see", args={"executor": executor.pid})
    (shown,) = await found.submit("shell.run", args={"command": ["id", "-u"]})
    for job_id in (seen, shown):
        job = await _attempted(found, job_id)
        assert job.state == "succeeded", (job.error, (found.directory / "executor.log").read_text())
    assert (await found.job(seen)).result == {
        "user": nobody.pw_uid,
        "real": nobody.pw_uid,
        "groups": [nobody.pw_gid],
        "home": nobody.pw_dir,
        "file": [nobody.pw_uid, 0o600],
        "refused": ["environ", "mem", "maps"],
        "kill": False,
        "secrets": [],
    }
    assert (await found.printed(shown)).strip() == str(nobody.pw_uid)

    naps = [
        *(await found.submit("nap", retry=ONCE)),
        *(await found.submit("shell.run", args={"command": ["sleep", "300"]})),
    ]
    await found.in_state("running", naps)
    for job_id in naps:
        await found.command(job_id, c.RequestCancel())
    await found.in_state("cancelled", naps)

    late = await found.submit("nap", timeout_seconds=0.5, retry=ONCE)
    await found.in_state("failed", late)
    assert (await found.job(late[0])).error.type == "Timeout"

    stuck = await found.submit("stubborn", timeout_seconds=0.5, retry=ONCE)
    await found.in_state("failed", stuck)

    workers = sorted({*workers, *children_of(executor.pid)})
    executor.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(executor.wait, 30) == 0
    wait_gone(workers)
