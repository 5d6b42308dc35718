"""A leader that sleeps through ten ticks and wakes up again: each nominal time still has exactly one outcome."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from rota import Client
from tests.chaos.system import System
from tests.waiting import until_sync

pytestmark = pytest.mark.chaos

SECOND = timedelta(seconds=1)
SLEEP_TICKS = 10


def outcomes(client: Client, name: str) -> list[dict[str, Any]]:
    """What became of the nominal times, oldest first."""
    return list(client.schedules.ticks(name))[::-1]


def now(client: Client) -> datetime:
    """The time of the log: that of its last event."""
    position = client.call("GET", "/v1/jobs", query={"limit": 1})["position"]
    (last,) = client.log(after=position - 1, limit=1)["items"]
    return datetime.fromisoformat(last["recorded_at"])


def check(client: Client, name: str, begin: datetime, end: datetime) -> int:
    """Every second from `begin` to `end` has one outcome, and each tick its own job; how many ticked."""
    ticks = [tick for tick in outcomes(client, name) if tick.get("cause") != "manual"]
    covered: list[datetime] = []
    for tick in ticks:
        at = datetime.fromisoformat(tick["utc"])
        count = tick.get("count", 1)
        covered += [at + place * SECOND for place in range(count)]
    wanted = [at for at in covered if begin <= at <= end]
    assert wanted == sorted(wanted)
    assert all(b - a == SECOND for a, b in pairwise(wanted)), "a nominal time is missing, or there twice"
    assert wanted[0] == begin
    assert wanted[-1] == end
    jobs = [tick["job_id"] for tick in ticks if tick["outcome"] == "ticked"]
    assert len(set(jobs)) == len(jobs)
    made = {job.id for job in client.list(schedule=name)}
    assert made == set(jobs)
    return len(jobs)


def test_a_leader_that_sleeps_through_ten_ticks_and_is_killed_leaves_one_outcome_for_each(found: System) -> None:
    with Client(found.url, timeout=15) as client:
        made = client.schedules.create("second", {"task": "chaos.work", "args": {"number": 1}}, cron="* * * * * *")
        begin = datetime.fromisoformat(made.next_at)
        until_sync(lambda: len(outcomes(client, "second")) >= 3, what="the first ticks")
        asleep = found.leader()
        pid = found.kill(asleep, signal.SIGSTOP)
        slept_at = now(client)
        try:
            # Another one leads meanwhile, and ticks; the sleeper has missed at least ten of its own.
            until_sync(lambda: now(client) > slept_at + SLEEP_TICKS * SECOND, timeout_seconds=90, what="ten ticks")
        finally:
            os.kill(pid, signal.SIGCONT)
        woken_at = now(client)
        until_sync(lambda: now(client) > woken_at + 2 * SECOND, what="what the sleeper does when it wakes")
        kill_again(found, pid)
        until_sync(lambda: now(client) > woken_at + 5 * SECOND, timeout_seconds=90, what="ticks after its death")
        paused = client.schedules.pause("second")
        end = datetime.fromisoformat(paused.changed_at).replace(microsecond=0)

        def settled() -> bool:
            return datetime.fromisoformat(client.schedules.get("second").settled_until) >= end

        until_sync(settled, timeout_seconds=60, what="the outcome of the last tick")
        assert check(client, "second", begin, end) > SLEEP_TICKS


def kill_again(found: System, pid: int) -> None:
    """Kill the sleeper, if it has not ended by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
