"""Limits are never exceeded, as counted from the log, while executors and leaders come and go and limits change."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from rota import Client
from rota.client import JobHandle
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.domain.admission.queues import QueueChanged
from rota_server.domain.ids import Position
from rota_server.domain.log import RawEvent
from tests.chaos.system import System, jobs_of, run, system
from tests.waiting import until_sync

pytestmark = pytest.mark.chaos

JOBS = jobs_of("JOBS", short=600, whole=20_000)
KEYS = 200
QUEUE = "limited"
LIMITS = {"concurrency": 60, "concurrency_per_key": 3, "rate": {"limit": 400, "per": 1}}
TIGHTER = {"concurrency": 30, "concurrency_per_key": 2}
OVER = ("AttemptSucceeded", "AttemptFailed", "AttemptLost", "JobCancelled")
CHUNK = 500


def submit(client: Client, jobs: int) -> list[str]:
    retry = {"max_attempts": 20, "initial": 0.2, "maximum": 1}
    priorities = ("high", "normal", "normal", "low")
    ids: list[str] = []
    for start in range(0, jobs, CHUNK):
        specs = [
            {
                "task": "chaos.plain",
                "args": {"number": number, "seconds": 0.02},
                "queue": QUEUE,
                "key": f"tenant-{number % KEYS}",
                "priority": priorities[number % 4],
                "retry": retry,
            }
            for number in range(start, min(start + CHUNK, jobs))
        ]
        ids += [result["id"] for result in client.submit_many(specs)]
    return ids


def ended(client: Client) -> int:
    return int(client.call("POST", "/v1/jobs/actions", body={
        "action": "cancel", "filter": {"state": "succeeded", "queue": QUEUE}, "dry_run": True
    })["matched"])  # fmt: skip


def test_limits_hold_while_executors_and_leaders_come_and_go(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tmp_path.chmod(0o755)
    env = {"ROTA_QUEUES": f"default,{QUEUE}", "ROTA_CONCURRENCY": "40"}
    with system(tmp_path, executors=4, **env) as found, Client(found.url, timeout=30) as client:
        client.call("PATCH", f"/v1/queues/{QUEUE}", body=LIMITS)
        ids = submit(client, JOBS)
        _disturb(found, client)
        types = run(found, ids)
        checked = asyncio.run(_check_limits(found))
        record_property("figures", checked)
        assert types["AttemptSucceeded"] == JOBS
        assert checked["most_running"] > TIGHTER["concurrency"], "the limits were never near"


def _disturb(found: System, client: Client) -> None:
    """Kill executors and the leader in turn, drain one, and tighten the limits half-way, each at a number of ends."""
    steps: list[Callable[[], object]] = [
        lambda: found.kill("executor-1"),
        lambda: found.kill("executor-2", signal.SIGTERM),
        lambda: found.kill(found.leader()),
        lambda: client.call("PATCH", f"/v1/queues/{QUEUE}", body={**TIGHTER, "reason": "half-way"}),
        lambda: found.kill("executor-3"),
        lambda: found.kill("executor-4"),
        lambda: client.call("PATCH", f"/v1/queues/{QUEUE}", body={"paused": True, "reason": "a look"}),
        lambda: client.call("PATCH", f"/v1/queues/{QUEUE}", body={"paused": False}),
    ]
    for number, step in enumerate(steps, start=1):
        wanted = JOBS * number // (len(steps) + 2)
        until_sync(
            lambda wanted=wanted: ended(client) >= wanted or client.call("GET", f"/v1/queues/{QUEUE}")["paused"],
            timeout_seconds=300,
            what=f"{wanted} ends",
        )
        step()


LEARNED_SECONDS = 2.0


class Counts:
    """What runs at each position, and what was allowed when it was dispatched.

    A leader learns of a change by the feed. When it does it takes back what has not started: from then on, or after two
    seconds when there was nothing to take back, whatever it dispatches has to fit the new limits.
    """

    def __init__(self) -> None:
        self.limits: dict[str, Any] = {}
        self.limits_at = 0
        self.changed_at = 0.0
        self.running: dict[str, str] = {}
        self.of_key: Counter[str] = Counter()
        self.dispatched_at: dict[str, int] = {}
        self.starts: deque[float] = deque()
        self.most_running = self.most_of_key = self.most_starts = 0

    def take(self, event: RawEvent, data: dict[str, Any]) -> None:
        stream = str(event.stream_id)
        if event.type == QueueChanged.__name__:
            self.limits, self.limits_at = data, 2**62
            self.changed_at = event.recorded_at.timestamp()
        elif event.type == "JobHeld" and data["reason"] == "settings":
            self.limits_at = min(self.limits_at, event.position)
        elif event.type == "JobDispatched":
            self.dispatched_at[stream] = event.position
            if event.recorded_at.timestamp() > self.changed_at + LEARNED_SECONDS:
                self.limits_at = min(self.limits_at, event.position - 1)
            known = event.position > self.limits_at
            assert not (known and self.limits["paused"]), f"position {event.position}: dispatched in a pause"
        elif event.type == "AttemptStarted":
            self._start(event, stream, data["key"])
        elif event.type in OVER and stream in self.running:
            self.of_key[self.running.pop(stream)] -= 1

    def _start(self, event: RawEvent, stream: str, key: str) -> None:
        self.running[stream] = key
        self.of_key[key] += 1
        at = event.recorded_at.timestamp()
        self.starts.append(at)
        per = self.limits["rate"]["per"]
        while self.starts[0] <= at - per:
            self.starts.popleft()
        assert len(self.starts) <= self.limits["rate"]["limit"], f"position {event.position}: too many starts"
        if self.dispatched_at[stream] > self.limits_at:
            assert len(self.running) <= self.limits["concurrency"], f"position {event.position}: too many run"
            assert self.of_key[key] <= self.limits["concurrency_per_key"], f"position {event.position}: {key}"
        self.most_running = max(self.most_running, len(self.running))
        self.most_of_key = max(self.most_of_key, self.of_key[key])
        self.most_starts = max(self.most_starts, len(self.starts))


async def _check_limits(found: System) -> dict[str, int]:
    import orjson

    database = Database(found.database_url())
    log = PostgresEventLog(database)
    counts = Counts()
    position = Position(0)
    try:
        while events := await log.read_raw(position, 2000):
            for event in events:
                counts.take(event, orjson.loads(event.data))
            position = events[-1].position
    finally:
        await log.close()
        await database.close()
    assert not counts.running
    return {
        "events": position,
        "most_running": counts.most_running,
        "most_of_a_key": counts.most_of_key,
        "most_starts_a_second": counts.most_starts,
    }


FAIR_JOBS = jobs_of("FAIR_JOBS", short=2_000, whole=50_000)

AHEAD_AT_MOST = 1_000
"""How many jobs of a large key may start before the last of ten of a small key that came behind all of them."""


def test_a_small_key_does_not_wait_behind_a_large_one(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tmp_path.chmod(0o755)
    with system(tmp_path, executors=1, ROTA_CONCURRENCY="50") as found, Client(found.url, timeout=60) as client:
        work = {"task": "chaos.work", "retry": {"max_attempts": 3}}
        for start in range(0, FAIR_JOBS, 2_500):
            numbers = range(start, min(start + 2_500, FAIR_JOBS))
            client.submit_many([{**work, "args": {"number": n}, "key": "large"} for n in numbers])
        small = client.submit_many([{**work, "args": {"number": n}, "key": "small"} for n in range(10)])
        ids = [result["id"] for result in small]
        ended = [JobHandle(client, job_id).wait(timeout=120) for job_id in ids]
        waited = max((_instant(job.fields["started_at"]) - _instant(job.fields["submitted_at"])) for job in ended)
        ahead = asyncio.run(_starts_ahead(found, ids))
        record_property("figures", {"seconds": waited, "ahead": ahead})
        assert ahead <= AHEAD_AT_MOST


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def _starts_ahead(found: System, ids: list[str]) -> int:
    """How many other jobs started between the submission of these and the last of their starts."""
    database = Database(found.database_url())
    log = PostgresEventLog(database)
    left, submitted, others = set(ids), 0, 0
    position = Position(0)
    try:
        while left and (events := await log.read_raw(position, 2000)):
            for event in events:
                stream = str(event.stream_id)
                if event.type == "JobSubmitted" and stream in left:
                    submitted += 1
                elif event.type == "AttemptStarted" and stream in left:
                    left.discard(stream)
                elif event.type == "AttemptStarted" and submitted == len(ids) and left:
                    others += 1
            position = events[-1].position
    finally:
        await log.close()
        await database.close()
    assert not left
    return others
