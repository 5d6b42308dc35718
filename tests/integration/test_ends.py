"""Every role, in every phase of its life, ends within its deadline and with status 0 when it is told to."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, urlsplit

import httpx
import pytest

from rota import Client
from rota_server.adapters.embedded.directory import usable_port
from rota_server.apps.executor.service import GIVE_BACK_SECONDS
from rota_server.apps.service import STOP_SECONDS
from tests import role_processes
from tests.conftest import TestDatabase
from tests.freezing_proxy import FreezingProxy
from tests.role_processes import ROLES, RoleProcess
from tests.waiting import until_sync

TASKS = Path(__file__).parents[1] / "chaos" / "chaos_tasks.py"
DRAIN_SECONDS = 2
ALL = ("postgres", "redis", "zookeeper")


class Ways:
    """Ways to the three servers that can be frozen, and the settings of processes that take them."""

    def __init__(self, database_url: str, redis_url: str, zookeeper_hosts: str) -> None:
        self._places = {
            "postgres": urlsplit(database_url),
            "redis": urlsplit(redis_url),
            "zookeeper": urlsplit(f"zookeeper://{zookeeper_hosts}"),
        }
        self._stack = ExitStack()
        self.proxies: dict[str, FreezingProxy] = {}

    def __enter__(self) -> Self:
        for name, place in self._places.items():
            proxy = FreezingProxy(str(place.hostname), place.port or 0)
            self.proxies[name] = self._stack.enter_context(proxy)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def freeze(self, names: Sequence[str]) -> None:
        for name in names:
            self.proxies[name].freeze()

    def settings(self, *, zookeeper: bool, away: bool = False) -> dict[str, str]:
        """Of a process of its own. `away`: nobody listens where it looks."""
        ports = {name: usable_port(0) if away else proxy.port for name, proxy in self.proxies.items()}
        found = {
            "ROTA_DATABASE_URL": _at(self._places["postgres"], ports["postgres"]),
            "ROTA_REDIS_URL": _at(self._places["redis"], ports["redis"]),
            "ROTA_PORT": str(usable_port(0)),
            "ROTA_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "ROTA_TASK_PROCESSES": "1",
        }
        if zookeeper:
            found["ROTA_ZOOKEEPER_HOSTS"] = f"127.0.0.1:{ports['zookeeper']}{self._places['zookeeper'].path}"
        return found


def _at(url: SplitResult, port: int) -> str:
    identity = url.netloc.rpartition("@")[0]
    return url._replace(netloc=f"{identity}@127.0.0.1:{port}").geturl()


@contextlib.contextmanager
def ways_to(database: TestDatabase, redis_url: str, zookeeper_hosts: str) -> Iterator[Ways]:
    with Ways(database.url, redis_url, zookeeper_hosts) as ways:
        yield ways


def one_of_each(ways: Ways, place: Path, name: str, *, zookeeper: bool, away: bool = False) -> list[RoleProcess]:
    place.mkdir(exist_ok=True)
    found = []
    for role in ROLES:
        words = [role, "--tasks", str(TASKS)] if role == "executor" else [role]
        settings = ways.settings(zookeeper=zookeeper, away=away)
        found.append(role_processes.start(words, settings, place, f"{role} {name}"))
    return found


def signal_alternately(processes: Sequence[RoleProcess]) -> None:
    for number, one in enumerate(processes):
        one.send((signal.SIGTERM, signal.SIGINT)[(number + number // len(ROLES)) % 2])


def check_ends(processes: Sequence[RoleProcess]) -> None:
    """Each has the deadline that the documents tell; the time is measured from now on."""
    deadline = DRAIN_SECONDS + STOP_SECONDS
    found = role_processes.ends(processes, deadline + 2)
    wrong = {}
    for one in processes:
        status, seconds = found.get(one.name, (None, deadline + 2))
        most = deadline if one.name.startswith("executor") else STOP_SECONDS
        if status != 0 or seconds > most or "Traceback" in one.said():
            wrong[one.name] = f"status {status} after {seconds:.1f} s: {one.said()[-2000:]}"
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())


def until_all_serve(processes: Sequence[RoleProcess]) -> None:
    """Wait until each is a member and somebody leads."""
    url = f"http://127.0.0.1:{processes[0].port}"

    def all_there() -> bool:
        for one in processes:
            assert one.status is None, f"{one.name} has ended: {one.said()}"
        try:
            cluster = httpx.get(f"{url}/v1/cluster", timeout=5).json()
        except httpx.HTTPError:
            return False
        pids = {member.get("pid") for members in cluster.get("members", {}).values() for member in members}
        return bool(cluster.get("leader")) and {one.pid for one in processes} <= pids

    until_sync(all_there, timeout_seconds=90, what="a member of each role")


@contextlib.contextmanager
def at_work(processes: Sequence[RoleProcess]) -> Iterator[None]:
    """Jobs run that do not end in time, and somebody follows the log at each store."""
    stores = [one.port for one in processes if one.name.startswith("store")]
    job = {"task": "chaos.plain", "args": {"number": 1, "seconds": 60}}
    with Client(f"http://127.0.0.1:{stores[0]}") as client, ExitStack() as stack:
        client.submit_many([job] * 4)
        until_sync(lambda: len(list(client.list(state="running"))) == 4, what="running jobs")
        for port in stores:
            url = f"http://127.0.0.1:{port}/v1/events/stream"
            answer = stack.enter_context(httpx.stream("GET", url, timeout=60))
            assert answer.headers["content-type"].startswith("text/event-stream")
        yield


@contextlib.contextmanager
def half_a_request(store: RoleProcess) -> Iterator[None]:
    """Somebody has begun to send something and never goes on."""
    with socket.create_connection(("127.0.0.1", store.port)) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Content-Length: 100\r\n\r\n{")
        yield


def test_roles_that_never_reach_their_servers_end_when_told_to(
    database: TestDatabase, redis_url: str, zookeeper_hosts: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        processes: list[RoleProcess] = []
        reached = []
        for frozen in (("postgres",), ("redis",), ("zookeeper",), ALL):
            ways = stack.enter_context(ways_to(database, redis_url, zookeeper_hosts))
            ways.freeze(frozen)
            name = "frozen " + "+".join(frozen)
            processes += one_of_each(ways, tmp_path / name, name, zookeeper="zookeeper" in frozen)
            reached.append((ways.proxies[frozen[0]], 3 if frozen == ("redis",) else 4))
        nowhere = one_of_each(ways, tmp_path / "away", "away", zookeeper=True, away=True)
        processes += nowhere
        stack.enter_context(role_processes.killed_at_the_end(processes))
        for proxy, most in reached:
            until_sync(lambda p=proxy, n=most: p.accepted >= n, timeout_seconds=60, what="an attempt to connect")
        for one in nowhere:
            until_sync(lambda o=one: "starting all the same" in o.said(), what=f"{one.name} going without servers")
        signal_alternately(processes)
        check_ends(processes)


@pytest.mark.parametrize("frozen", [(), ("postgres",), ("redis", "zookeeper"), ALL], ids="+".join)
def test_roles_at_work_end_when_told_to(
    frozen: Sequence[str],
    database: TestDatabase,
    redis_url: str,
    zookeeper_hosts: str,
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        ways = stack.enter_context(ways_to(database, redis_url, zookeeper_hosts))
        zookeeper = frozen != ("postgres",)
        processes = [one for name in ("1", "2") for one in one_of_each(ways, tmp_path, name, zookeeper=zookeeper)]
        stack.enter_context(role_processes.killed_at_the_end(processes))
        until_all_serve(processes)
        stack.enter_context(at_work(processes))
        if not frozen:
            stack.enter_context(half_a_request(processes[0]))
        ways.freeze(frozen)
        signal_alternately(processes)
        check_ends(processes)


def test_further_signals_change_nothing(
    database: TestDatabase, redis_url: str, zookeeper_hosts: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        ways = stack.enter_context(ways_to(database, redis_url, zookeeper_hosts))
        processes = one_of_each(ways, tmp_path, "", zookeeper=False)
        stack.enter_context(role_processes.killed_at_the_end(processes))
        until_all_serve(processes)
        stack.enter_context(at_work(processes))

        def again() -> bool:
            for one in processes:
                one.send(signal.SIGTERM)
                one.send(signal.SIGINT)
            return all(one.status is not None for one in processes)

        until_sync(again, timeout_seconds=DRAIN_SECONDS + STOP_SECONDS, what="the end of all")
        check_ends(processes)


def test_rota_up_ends_while_its_servers_start_or_are_away(
    database: TestDatabase, redis_url: str, zookeeper_hosts: str, tmp_path: Path
) -> None:
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    with ExitStack() as stack:
        ways = stack.enter_context(ways_to(database, redis_url, zookeeper_hosts))
        data = {name: tmp_path / name for name in ("embedded", "away")}
        settings = {"embedded": {}, "away": ways.settings(zookeeper=True, away=True)}
        processes = [
            role_processes.start(["up", "--data-dir", str(place), "--port", "0"], settings[name], tmp_path, name)
            for name, place in data.items()
        ]
        stack.enter_context(role_processes.killed_at_the_end(processes))
        until_sync((data["embedded"] / "embedded.json").exists, what="the beginning of a database")
        until_sync((data["away"] / "logs" / "store.log").exists, what="the start of the roles")
        signal_alternately(processes)
        found = role_processes.ends(processes, 60)
        assert {name: status for name, (status, _) in found.items()} == {"embedded": 0, "away": 0}
        assert all(one.said() == "Everything has stopped.\n" for one in processes)


def test_what_hangs_in_spite_of_everything_is_ended_and_named(tmp_path: Path) -> None:
    program = tmp_path / "hangs.py"
    program.write_text(
        "import asyncio, os, signal, sys, time\n"
        "from rota_server.apps.service import run_service\n"
        "async def main(stop):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await stop.wait()\n"
        "    await asyncio.gather(asyncio.create_task(asyncio.to_thread(time.sleep, 100), name='a frozen server'))\n"
        "sys.exit(run_service('hanging', main, stop_seconds=0.2))\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "hanging has not stopped within 0.2 s and is ended; unfinished: Task-1, a frozen server" in done.stderr


def test_the_deadlines_have_room_for_what_is_waited_for_on_purpose() -> None:
    from rota_server.adapters.postgres.connecting import CLOSE_SECONDS
    from rota_server.apps.store.http.server import CUT_OFF_SECONDS, SHUTDOWN_SECONDS

    assert SHUTDOWN_SECONDS + CUT_OFF_SECONDS + CLOSE_SECONDS < STOP_SECONDS
    assert GIVE_BACK_SECONDS + 2 * CLOSE_SECONDS < STOP_SECONDS
