"""Each fault during a run of many jobs; afterwards nothing is lost, nothing ran twice, no service needs help."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rota import Client
from tests.chaos.system import Load, System, jobs_of, run, system
from tests.waiting import until_sync
from tests.zookeeper_server import ZooKeeperServer

pytestmark = pytest.mark.chaos

JOBS = jobs_of("FAULT_JOBS", short=200, whole=1000)
SECONDS = 0.02 if JOBS >= 1000 else 0.3
"""A short run is not over before its fault has come."""

SESSION_SECONDS = 6.0


def kill_store(found: System) -> None:
    found.kill("store")


def kill_relay(found: System) -> None:
    found.kill("relay")


def kill_leader(found: System) -> None:
    found.kill(found.leader())


def kill_executor(found: System) -> None:
    found.kill("executor-1")


def kill_task_process(found: System) -> None:
    pids = until_sync(found.task_processes, what="a task process")
    os.kill(pids[0], signal.SIGKILL)


def flush_redis(found: System) -> None:
    found.redis().flushall()


def kill_redis(found: System) -> None:
    found.kill("valkey")


def stop_postgres_at_once(found: System) -> None:
    found.kill("postgres", signal.SIGQUIT)


def deliver_twice(found: System) -> None:
    """Hand out once more what the executors have been given and not yet answered for."""
    client = found.redis()

    def again() -> int:
        times = 0
        for key in client.keys("rota:work:*"):
            transaction = client.pipeline(transaction=True)
            transaction.xpending(key, "executors")
            transaction.xgroup_setid(key, "executors", "0")
            pending, _ = transaction.execute()
            times += pending["pending"]
        return times

    until_sync(again, what="an entry that is delivered twice")


FAULTS: list[Callable[[System], None]] = [
    kill_store,
    kill_relay,
    kill_leader,
    kill_executor,
    kill_task_process,
    flush_redis,
    kill_redis,
    stop_postgres_at_once,
    deliver_twice,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_nothing_is_lost_and_nothing_runs_twice(fault: Callable[[System], None], found: System) -> None:
    load = Load(found.url, JOBS, seconds=SECONDS)
    load.start()
    assert load.half.wait(120)
    fault(found)
    types = run(found, load.join())
    assert types["AttemptSucceeded"] == JOBS
    assert types["AttemptLost"] > 0 or fault is not kill_executor, "it had nothing to do"


def test_a_frozen_leader_is_replaced_and_refused(found: System) -> None:
    load = Load(found.url, JOBS, seconds=SECONDS)
    load.start()
    pid = found.kill(found.leader(), signal.SIGSTOP)
    thaw = threading.Timer(SESSION_SECONDS * 2, os.kill, (pid, signal.SIGCONT))
    thaw.start()
    try:
        types = run(found, load.join())
    finally:
        thaw.join()
    assert types["AttemptSucceeded"] == JOBS
    assert types["LeaderElected"] >= 1, "nobody followed the frozen one"


def test_zookeeper_gone_for_fifteen_seconds_and_then_a_frozen_leader(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    zookeeper = ZooKeeperServer(tmp_path / "zookeeper")
    zookeeper.start()
    try:
        with system(tmp_path, ROTA_ZOOKEEPER_HOSTS=zookeeper.hosts) as found:
            zookeeper_goes_for_fifteen_seconds(found, zookeeper)
            found.until_whole()
            a_leader_is_frozen(found)
    finally:
        zookeeper.stop()


def zookeeper_goes_for_fifteen_seconds(found: System, zookeeper: ZooKeeperServer) -> None:
    load = Load(found.url, JOBS, seconds=SECONDS)
    load.start()
    assert load.half.wait(120)
    zookeeper.stop()
    gone_long_enough = threading.Event()
    threading.Timer(15.0, gone_long_enough.set).start()
    gone_long_enough.wait()
    zookeeper.start()  # not by the timer: a server dies with the thread that started it
    types = run(found, load.join())
    assert types["AttemptSucceeded"] == JOBS
    assert types["AttemptLost"] == 0, "a living executor was taken for dead"
    found.leader()


def a_leader_is_frozen(found: System) -> None:
    load = Load(found.url, JOBS, seconds=SECONDS)
    load.start()
    assert load.half.wait(120)
    frozen = found.leader()
    pid = found.kill(frozen, signal.SIGSTOP)
    try:
        until_sync(lambda: found.leader() != frozen, timeout_seconds=40, what="another leader")
    finally:
        os.kill(pid, signal.SIGCONT)
    types = run(found, load.join())
    assert types["AttemptSucceeded"] == JOBS
    assert types["LeaderElected"] >= 1, "nobody followed the frozen one"


def test_twenty_running_jobs_of_a_killed_executor_are_lost_and_run_again(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tmp_path.chmod(0o755)
    with system(tmp_path, ROTA_CONCURRENCY="20") as found, Client(found.url) as client:
        retry = {"max_attempts": 3, "initial": 0.5}
        jobs = [{"task": "chaos.plain", "args": {"number": n, "seconds": 25}, "retry": retry} for n in range(20)]
        found.kill("executor-2", signal.SIGSTOP)
        ids = [result["id"] for result in client.submit_many(jobs)]

        def running() -> list[dict[str, object]]:
            return [job.fields for job in client.list(state="running") if job.fields["id"] in ids]

        until_sync(lambda: len(running()) == 20, timeout_seconds=30, what="twenty running jobs")
        found.kill("executor-2", signal.SIGCONT)
        killed_at = time.monotonic()
        found.kill("executor-1")
        again = until_sync(
            lambda: all(job["attempt"] == 2 for job in running()) and len(running()) == 20,
            timeout_seconds=60,
            what="the second attempt of all twenty",
        )
        assert again
        # The promise is fifteen seconds; the figure is reported, since shared machines stretch time.
        record_property("seconds", round(time.monotonic() - killed_at, 1))
        for job_id in ids:
            assert "AttemptLost" in [event["type"] for event in client.events(job_id)]
