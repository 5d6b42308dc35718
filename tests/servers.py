"""The servers that the tests run against: started once a run, shared by all its processes, ended with it.

Whoever needs a server first starts a keeper for it, a process of its own that ends when the run does. Testcontainers
where a Docker engine answers, local servers otherwise; ROTA_TEST_SERVERS=containers or =local decides instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rota_server.adapters.embedded.directory import DataDirectory
from rota_server.adapters.embedded.postgres import SETTINGS, EmbeddedPostgres
from rota_server.adapters.embedded.valkey import EmbeddedValkey
from rota_server.adapters.postgres.migrate import migrate
from rota_server.adapters.postgres.roles import KINDS
from rota_server.adapters.redis.access import RULES, user_line
from tests.waiting import until_sync
from tests.zookeeper_server import ZooKeeperServer

APP_PASSWORD = "tests-only-password"
REDIS_DATABASES = 4096
START_SECONDS = 240.0
_keepers: list[subprocess.Popen[bytes]] = []
"""Kept, since an object that goes away while its process runs warns about that."""

SHORT_LIVED = {"fsync": "off", "full_page_writes": "off"}
"""Of the PostgreSQL of a run: its data are thrown away. With these a test's own database costs a tenth."""

IMAGES = {"postgres": "postgres:15", "redis": "redis:7", "zookeeper": "zookeeper:3.8"}


def use_containers() -> bool:
    """Whether the servers run in containers."""
    wanted = os.environ.get("ROTA_TEST_SERVERS")
    if wanted is not None:
        return wanted == "containers"
    docker = shutil.which("docker")
    if docker is None:
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run([docker, "info"], capture_output=True, timeout=10, check=False).returncode == 0
    return False


def shared(kind: str, run: Path) -> dict[str, Any]:
    """Where the run's server of this kind is; it is started when this is the first to ask."""
    answer = run / f"{kind}.json"
    with (run / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answer.exists():
            _start_keeper(kind, run, answer)
    return json.loads(answer.read_text())


def _start_keeper(kind: str, run: Path, answer: Path) -> None:
    log = run / f"{kind}.log"
    with log.open("wb") as out:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.servers", kind, str(run), os.environ["ROTA_TEST_RUN_PID"]],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=Path(__file__).parents[1],
        )
    _keepers.append(keeper)
    until_sync(
        lambda: answer.exists() or keeper.poll() is not None, timeout_seconds=START_SECONDS, what=f"{kind}'s start"
    )
    if not answer.exists():
        raise RuntimeError(f"the tests' {kind} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def next_number(run: Path, what: str) -> int:
    """A number that nobody in this run has got before."""
    with (run / f"{what}.count").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read() or 0) + 1
        file.seek(0)
        file.truncate()
        file.write(str(number))
        return number


def end_keepers(run: Path) -> None:
    """End this run's servers."""
    for answer in run.glob("*.json"):
        with contextlib.suppress(ProcessLookupError, ValueError, KeyError):
            pid = json.loads(answer.read_text())["keeper"]
            os.kill(pid, signal.SIGTERM)
            until_sync(lambda pid=pid: not _alive(pid), timeout_seconds=60, what="a keeper's end")
    shutil.rmtree(run, ignore_errors=True)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return Path(f"/proc/{pid}").exists()


@contextmanager
def _server(kind: str, place: Path) -> Iterator[dict[str, Any]]:
    if use_containers():
        with _container(kind) as found:
            yield found
        return
    with ExitStack() as stack:
        if kind == "zookeeper":
            zookeeper = ZooKeeperServer(place)
            stack.callback(zookeeper.stop)
            zookeeper.start()
            yield {"hosts": zookeeper.hosts}
            return
        directory = stack.enter_context(DataDirectory(place))
        if kind == "postgres":
            SETTINGS.update(SHORT_LIVED)
            postgres = stack.enter_context(EmbeddedPostgres(directory))
            yield {"url": postgres.url}
        else:
            valkey = stack.enter_context(EmbeddedValkey(directory, databases=REDIS_DATABASES))
            yield {"url": valkey.url.rpartition("/")[0]}


@contextmanager
def _container(kind: str) -> Iterator[dict[str, Any]]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    port = {"postgres": 5432, "redis": 6379, "zookeeper": 2181}[kind]
    container = DockerContainer(IMAGES[kind]).with_exposed_ports(port)
    ready = {"postgres": "ready to accept connections", "redis": "Ready to accept", "zookeeper": "binding to port"}
    if kind == "postgres":
        container = (
            container.with_env("POSTGRES_USER", "rota")
            .with_env("POSTGRES_PASSWORD", APP_PASSWORD)
            .with_env("POSTGRES_DB", "rota")
            .with_command(" ".join(["postgres", *(f"-c {name}={value}" for name, value in SHORT_LIVED.items())]))
        )
    elif kind == "redis":
        container = container.with_command(f"redis-server --databases {REDIS_DATABASES} --save ''")
    with container:
        wait_for_logs(container, ready[kind], timeout=120)
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"
        if kind == "postgres":
            url = f"postgresql://rota:{APP_PASSWORD}@{address}/rota"
            until_sync(lambda: _connects(url), timeout_seconds=60, what="PostgreSQL's answer")
            yield {"url": url}
        else:
            yield {"url": f"redis://{address}"} if kind == "redis" else {"hosts": address}


def _connects(url: str) -> bool:
    import asyncpg

    async def connect() -> None:
        await (await asyncpg.connect(url, timeout=3)).close()

    with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
        asyncio.run(connect())
        return True
    return False


async def make_template(url: str) -> None:
    """A migrated database that each test gets a copy of."""
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("create database rota_template")
    await connection.close()
    await migrate(url.rpartition("/")[0] + "/rota_template", APP_PASSWORD, dict.fromkeys(KINDS, APP_PASSWORD))


def make_redis_users(url: str) -> None:
    """A user for each kind of process that talks to Redis."""
    import redis

    with redis.Redis.from_url(url) as client:
        for kind in RULES:
            _, name, *rules = split_rules(user_line(kind, f"rota_{kind}", APP_PASSWORD))
            client.execute_command("ACL", "SETUSER", name, "reset", *rules)


def split_rules(line: str) -> list[str]:
    """The words of a `user` line; a selector in parentheses is one."""
    return [word for word in re.findall(r"\([^)]*\)|\S+", line) if word]


def keep(kind: str, run: Path, controller: int) -> None:
    """The keeper's life: start the server, say where it is, end it when the run has ended."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    place = Path(tempfile.mkdtemp(prefix=f"rota-tests-{kind}-"))
    place.chmod(0o755)
    try:
        with _server(kind, place) as found:
            if kind == "postgres":
                asyncio.run(make_template(found["url"]))
            elif kind == "redis":
                make_redis_users(found["url"])
            fresh = run / f"{kind}.new"
            fresh.write_text(json.dumps({**found, "keeper": os.getpid()}))
            fresh.replace(run / f"{kind}.json")
            while not stopping and Path(f"/proc/{controller}").exists():
                time.sleep(0.2)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
