"""A deploy under load: processes of one version are replaced by those of another one, one after the other, and back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from rota import Client, Unreachable
from rota_server.domain.ids import Position
from tests import servers
from tests.chaos.system import RETRY, check_promises
from tests.conftest import RUN
from tests.rolling.fleet import Fleet, Version, environment
from tests.waiting import until_sync

OLD_COMMIT = "2704faccc5b55f770fd6e4341ea2fdbbb69debff"
"""The version that is upgraded from. Raise it with each release."""

CHUNK = 10
PAUSE_SECONDS = 0.2
"""Between two chunks: what is allowed for a deploy comes while it is under way."""


@pytest.fixture
def fleet(postgres_server: str, redis_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """No process yet, on an empty database."""
    name = f"t{servers.next_number(Path(os.environ[RUN]), 'databases')}"
    asyncio.run(_execute(postgres_server, f"create database {name}"))
    owner_url = postgres_server.rpartition("/")[0] + f"/{name}"
    host = postgres_server.rpartition("@")[2].rpartition("/")[0]
    url = f"postgresql://rota_app:{servers.APP_PASSWORD}@{host}/{name}"
    found = Fleet(tmp_path, environment(url, owner_url, redis_url, tmp_path / "trace"))
    yield found
    found.close()
    asyncio.run(_execute(postgres_server, f"drop database {name} with (force)"))


@dataclass
class Checked:
    """What `check_promises` asks of a system."""

    url: str
    trace: Path
    begin: Position

    def database_url(self) -> str:
        return self.url


class Load:
    """Submits jobs from a thread, through whichever store answers, until each is accepted: some for each deploy."""

    def __init__(self, urls: list[str], jobs: int) -> None:
        self._urls = urls
        self._jobs = jobs
        self.ids: list[str] = []
        self._allowed = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._submit, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def allow(self, chunks: int) -> None:
        """Let further jobs come."""
        self._allowed.release(chunks)

    def _submit(self) -> None:
        for start in range(0, self._jobs, CHUNK):
            self._allowed.acquire()
            specs = [
                {
                    "task": "chaos.work",
                    "args": {"number": number},
                    "idempotency_key": f"rolling-{number}",
                    "retry": RETRY,
                    **({"delay": 2.0} if number % 5 == 0 else {}),
                }
                for number in range(start, start + CHUNK)
            ]
            self.ids += until_sync(lambda specs=specs: self._accepted(specs), timeout_seconds=90, what="an acceptance")
            time.sleep(PAUSE_SECONDS)

    def _accepted(self, specs: list[dict[str, object]]) -> list[str] | None:
        for url in list(self._urls):
            try:
                with Client(url, timeout=15) as client:
                    results = client.submit_many(specs)
            except Unreachable:
                continue
            assert all(result["status"] in (200, 201) for result in results), results
            self._urls.append(self._urls.pop(0))
            return [result["id"] for result in results]
        return None

    def join(self) -> list[str]:
        self._thread.join(300)
        assert not self._thread.is_alive(), "the load was never accepted"
        return self.ids


def up_and_down(fleet: Fleet, old: Version, new: Version, *, places: Sequence[str], jobs: int) -> None:
    """Replace each place's process by the new version's, then by the old one's again; check what became of the jobs."""
    migrate(fleet, old)
    for name in places:
        fleet.start(name, old)
    for name in places:
        fleet.await_ready(name)
    load = Load(fleet.urls(), jobs)
    load.start()
    migrate(fleet, new)
    for name, version in (*((name, new) for name in places), *((name, old) for name in reversed(places))):
        load.allow(max(1, jobs // CHUNK // (2 * len(places))))
        before = len(load.ids)
        until_sync(
            lambda before=before: len(load.ids) > before or len(load.ids) == jobs,
            timeout_seconds=90,
            what="jobs during the deploy",
        )
        fleet.replace(name, version)
    load.allow(jobs // CHUNK)
    ids = load.join()
    assert len(set(ids)) == jobs
    checked = Checked(fleet.env["ROTA_DATABASE_URL"], fleet.place / "trace", Position(0))
    types = asyncio.run(check_promises(checked, ids))  # type: ignore[arg-type]
    assert types["AttemptStarted"] - types["AttemptLost"] == jobs
    assert types["AttemptLost"] <= len(places)
    assert "Traceback" not in fleet.text()


def migrate(fleet: Fleet, version: Version) -> None:
    done = subprocess.run(
        [*version.command, "migrate"],
        env={**fleet.env, **version.env},
        cwd=fleet.place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
