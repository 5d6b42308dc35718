"""A whole system of real processes for the failure drills, its victims by name, and the checks that always hold."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import redis

from rota import Client, RotaError, Unreachable
from rota_server.adapters.embedded.directory import DataDirectory
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.apps.cli.up import running_system
from rota_server.domain.ids import Position
from rota_server.domain.jobs.events import AttemptStarted, AttemptSucceeded, JobSubmitted
from rota_server.domain.jobs.job import ENDED, evolve, head_of
from rota_server.domain.log import Recorded
from tests.waiting import until_sync

WHOLE = os.environ.get("ROTA_DRILLS") == "whole"
"""`./dev chaos` says so. The suite runs each drill short: the same checks with fewer jobs."""

CHUNK = 50
END_SECONDS = 120.0
RETRY = {"max_attempts": 10, "initial": 0.2, "maximum": 2}


def jobs_of(drill: str, *, short: int, whole: int) -> int:
    """How many jobs a drill has; ROTA_DRILL_<its name> says otherwise."""
    return int(os.environ.get(f"ROTA_DRILL_{drill}", whole if WHOLE else short))


class System:
    """A running system under `place`."""

    def __init__(self, place: Path, state: dict[str, Any]) -> None:
        self.place = place
        self.given_database_url: str | None = None
        self.url = str(state["url"])
        self._roles = len(state["processes"])
        self.trace = place / "trace"
        self.begin = Position(0)
        """Where in the log the present drill begins."""

    def until_whole(self) -> None:
        """Wait until every process has its place and somebody leads; the next drill begins here."""

        def whole() -> bool:
            processes = self.state()["processes"]
            try:
                cluster = client.call("GET", "/v1/cluster")
            except (RotaError, OSError):
                return False
            pids = {member.get("pid") for members in cluster["members"].values() for member in members}
            return bool(cluster["leader"]) and len(processes) == self._roles and set(processes.values()) <= pids

        with Client(self.url, timeout=5) as client:
            until_sync(whole, timeout_seconds=90, what="a whole system")
            self.begin = Position(client.call("GET", "/v1/jobs", query={"limit": 1})["position"])

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.place / "up.json").read_text()))

    def pid(self, name: str) -> int:
        """The process of a role or server, as the supervisor knows it now."""
        state = self.state()
        return int(state["processes"].get(name) or state["servers"][name])

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def task_processes(self) -> list[int]:
        """The task processes of this system's executors."""
        executors = {pid for name, pid in self.state()["processes"].items() if name.startswith("executor")}
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if parent in executors and "rota.worker" in command:
                found.append(int(entry.name))
        return found

    def redis(self) -> redis.Redis:
        known = DataDirectory(self.place).remembered()
        return redis.Redis(port=known["valkey_port"], password=known["valkey_password"])

    def redis_url(self) -> str:
        known = DataDirectory(self.place).remembered()
        return f"redis://:{known['valkey_password']}@127.0.0.1:{known['valkey_port']}/0"

    def database_url(self) -> str:
        return self.given_database_url or self._embedded_url("rota_app", "app_password")

    def owner_url(self) -> str:
        return self._embedded_url("rota", "owner_password")

    def _embedded_url(self, role: str, password: str) -> str:
        known = DataDirectory(self.place).remembered()
        return f"postgresql://{role}:{known[password]}@127.0.0.1:{known['postgres_port']}/rota"

    def leader(self) -> str:
        """The role name of the scheduler that leads."""

        def find() -> str | None:
            with Client(self.url, timeout=5) as client:
                try:
                    leader = client.call("GET", "/v1/cluster")["leader"]
                except Unreachable:
                    return None
            processes = self.state()["processes"]
            return next((n for n, pid in processes.items() if leader and leader.get("pid") == pid), None)

        return str(until_sync(find, timeout_seconds=30, what="a leader"))


@contextmanager
def system(place: Path, *, executors: int = 2, **env: str) -> Iterator[System]:
    tasks = str(Path(__file__).with_name("chaos_tasks.py"))
    environment = {"CHAOS_TRACE": str(place / "trace"), "ROTA_TASK_PROCESSES": "1", **env}
    options = ("--tasks", tasks, "--executors", str(executors), "--schedulers", "2")
    with running_system(place, *options, env=environment) as state:
        yield System(place, state)


class Load:
    """Submits jobs from a thread, again and again until each was accepted; ids in order of submission."""

    def __init__(self, url: str, jobs: int, *, seconds: float = 0.02) -> None:
        self._name = secrets.token_hex(4)
        self._url = url
        self._jobs = jobs
        self._seconds = seconds
        self.ids: list[str] = []
        self.half = threading.Event()
        self._thread = threading.Thread(target=self._submit, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _submit(self) -> None:
        with Client(self._url, timeout=15) as client:
            for start in range(0, self._jobs, CHUNK):
                numbers = range(start, min(start + CHUNK, self._jobs))
                specs = [
                    {
                        "task": "chaos.work",
                        "args": {"number": number, "seconds": self._seconds},
                        "idempotency_key": f"chaos-{self._name}-{number}",
                        "retry": RETRY,
                        **({"delay": 1.0} if number % 10 == 0 else {}),
                    }
                    for number in numbers
                ]
                self.ids += self._accepted(client, specs)
                if len(self.ids) >= self._jobs // 3:
                    self.half.set()

    @staticmethod
    def _accepted(client: Client, specs: list[dict[str, Any]]) -> list[str]:
        def attempt() -> list[str] | None:
            try:
                results = client.submit_many(specs)
            except Unreachable:
                return None
            assert all(result["status"] in (200, 201) for result in results), results
            return [result["id"] for result in results]

        return list(until_sync(attempt, timeout_seconds=90, what="the acceptance of a chunk"))

    def join(self) -> list[str]:
        self._thread.join(180)
        assert not self._thread.is_alive(), "the load was never accepted"
        assert len(set(self.ids)) == self._jobs, "a submission got no id, or another job's"
        return self.ids


async def check_promises(found: System, ids: list[str]) -> Counter[str]:
    """Every accepted job has ended, no attempt ran twice, each result is recorded once, status equals the fold."""
    database = Database(found.database_url())
    log = PostgresEventLog(database)
    index = PostgresJobIndex(database)
    try:
        await _wait_for_ends(index, ids)
        jobs, types = await _read_from(log, found.begin)
        for job_id in ids:
            job = jobs[job_id]
            assert job.state == "succeeded", f"{job_id} ended as {job.state}: {job.error}"
        rows = await index.get([jobs[i].id for i in ids])
        for row in rows.values():
            head = head_of(jobs[str(row.id)])
            assert (row.state, row.attempt, row.due_at) == (head.state, head.attempt, head.due_at)
            assert (row.version, row.position) == (jobs[str(row.id)].version, jobs[str(row.id)].position)
    finally:
        await log.close()
        await database.close()
    ran = Counter(found.trace.read_text().split("\n")) if found.trace.exists() else Counter()
    twice = [line for line, times in ran.items() if line and times > 1]
    assert not twice, f"attempts that ran twice: {twice[:5]}"
    return types


async def _wait_for_ends(index: PostgresJobIndex, ids: list[str]) -> None:
    from tests.waiting import until

    left = [UUID(job_id) for job_id in ids]

    async def all_ended() -> bool:
        rows = await index.get(left)
        left[:] = [job_id for job_id in left if job_id not in rows or rows[job_id].state not in ENDED]
        return not left

    await until(all_ended, timeout_seconds=END_SECONDS, what="the end of every accepted job")


async def _read_from(log: PostgresEventLog, position: Position) -> tuple[dict[str, Any], Counter[str]]:
    """The fold of every job that was submitted after the position, the log checked on the way."""
    jobs: dict[str, Any] = {}
    types: Counter[str] = Counter()
    started: set[tuple[str, int]] = set()
    succeeded: set[str] = set()
    while events := await log.read(position, 2000):
        for recorded in events:
            _check_event(recorded, started, succeeded)
            types[type(recorded.event).__name__] += 1
            stream = str(recorded.stream_id)
            if stream not in jobs and type(recorded.event) is not JobSubmitted:
                continue  # a schedule, a queue, an election, a job of an earlier drill ...
            jobs[stream] = evolve(jobs.get(stream), recorded)
        position = events[-1].position
    return jobs, types


def _check_event(recorded: Recorded, started: set[tuple[str, int]], succeeded: set[str]) -> None:
    stream = str(recorded.stream_id)
    if isinstance(recorded.event, AttemptStarted):
        attempt = (stream, recorded.event.attempt)
        assert attempt not in started, f"attempt {attempt} was started twice"
        started.add(attempt)
    if isinstance(recorded.event, AttemptSucceeded):
        assert stream not in succeeded, f"the result of {stream} is recorded twice"
        succeeded.add(stream)


def run(found: System, ids: list[str]) -> Counter[str]:
    return asyncio.run(check_promises(found, ids))
