"""Schedules and waiting jobs at scale: the leader's memory, ticks on time, and how soon another one takes over."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from rota import Client, Unreachable
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.leader_projection import PostgresRunningAttempts
from rota_server.apps.cli.output import Failure, say
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Meta, RawEvent, StreamWrite, Unit
from rota_server.domain.schedules import changes

TICKS_PER_SECOND = 500
PERIOD_SECONDS = 30
"""Each of the schedules that tick does so once in this time."""

QUEUE = "bench-ticks"
EVENTS_A_CALL = 500
META = Meta(actor="bench")
CATCH_UP_SECONDS = 600.0
TAKEOVER_SECONDS = 60.0
YEAR = timedelta(days=365)


class Scale(NamedTuple):
    """How much of everything there is, and how long ticks are measured."""

    waiting_jobs: int = 1_000_000
    schedules: int = 100_000
    seconds: float = 30.0


class AtScale:
    """A running system with two schedulers under a load of timers."""

    def __init__(self, url: str, database_url: str, scale: Scale) -> None:
        self._url = url
        self._scale = scale
        self._database = Database(database_url, application="rota-bench")
        self._log = PostgresEventLog(self._database)
        self._projection = PostgresRunningAttempts(self._database)

    async def measure(self) -> dict[str, Any]:
        """What the leader needs and does under this load."""
        try:
            return {"schedules": await self._measure()}
        finally:
            await self._log.close()
            await self._database.close()

    async def _measure(self) -> dict[str, Any]:
        scale = self._scale
        ticking = min(scale.schedules, TICKS_PER_SECOND * PERIOD_SECONDS)
        _progress(f"{scale.waiting_jobs} jobs over the coming year")
        await self._append_all(_waiting_jobs(scale.waiting_jobs))
        _progress(f"{scale.schedules} schedules")
        await self._append_all(_schedules(scale.schedules - ticking, ticking))
        _progress("the leader takes it in")
        leader = await self._caught_up()
        _progress("ticks")
        first = await self._log.last_position()
        began = time.monotonic()
        await asyncio.sleep(scale.seconds)
        took = time.monotonic() - began
        late = await self._lateness(first)
        memory = _memory(leader)
        _progress("takeover")
        takeover = await self._takeover(leader)
        successor = await asyncio.to_thread(self._leader)
        return {
            "waiting_jobs": scale.waiting_jobs,
            "schedules": scale.schedules,
            "ticks_per_s": round(len(late) / took, 1),
            "tick_lateness_ms": _percentiles(late),
            "leader_rss_mb": memory["VmRSS"],
            "leader_peak_rss_mb": memory["VmHWM"],
            **takeover,
            "successor_peak_rss_mb": _memory(successor)["VmHWM"],
        }

    async def _append_all(self, units: Iterator[Unit]) -> None:
        batch: list[Unit] = []
        for unit in units:
            batch.append(unit)
            if len(batch) == EVENTS_A_CALL:
                await self._log.append(batch)
                batch = []
        if batch:
            await self._log.append(batch)

    async def _caught_up(self) -> int:
        """Wait until the leader knows all of it; its process."""
        target = await self._log.last_position()
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while await self._projection.checkpoint() < target:
            if time.monotonic() > deadline:
                raise Failure(f"the leader has not taken all of it in after {CATCH_UP_SECONDS:.0f} s")
            await asyncio.sleep(0.2)
        return await asyncio.to_thread(self._leader)

    def _leader(self) -> int:
        """The leader's process."""
        deadline = time.monotonic() + TAKEOVER_SECONDS
        while time.monotonic() < deadline:
            with Client(self._url) as client:
                try:
                    leader = client.call("GET", "/v1/cluster")["leader"]
                except Unreachable:
                    leader = None
            if leader and leader.get("pid"):
                return int(leader["pid"])
            time.sleep(0.1)
        raise Failure("nobody leads")

    async def _lateness(self, after: Position) -> list[float]:
        """How late (ms) each tick since then came to the log."""
        return [late for late, _ in await self._ticks(after)]

    async def _ticks(self, after: Position) -> list[tuple[float, RawEvent]]:
        found = []
        while events := await self._log.read_raw(after, 5000):
            after = events[-1].position
            for event in events:
                if event.type == "ScheduleTicked":
                    nominal = datetime.fromisoformat(orjson.loads(event.data)["nominal"])
                    found.append(((event.recorded_at - nominal).total_seconds() * 1000, event))
            await asyncio.sleep(0)
        return found

    async def _takeover(self, leader: int) -> dict[str, Any]:
        """Kill the leader; its session ends with its connections. How soon another one leads, and ticks."""
        position = await self._log.last_position()
        killed_at = datetime.now(UTC)
        os.kill(leader, signal.SIGKILL)
        elected_at: datetime | None = None
        deadline = time.monotonic() + TAKEOVER_SECONDS
        while time.monotonic() < deadline:
            for event in await self._log.read_raw(position, 5000):
                position = event.position
                if event.type == "LeaderElected":
                    elected_at = event.recorded_at
                elif event.type == "ScheduleTicked" and elected_at is not None:
                    return {
                        "takeover_s": round((event.recorded_at - killed_at).total_seconds(), 2),
                        "elected_s": round((elected_at - killed_at).total_seconds(), 2),
                    }
            await asyncio.sleep(0.02)
        raise Failure(f"no tick by another leader within {TAKEOVER_SECONDS:.0f} s")


def _waiting_jobs(count: int) -> Iterator[Unit]:
    now = datetime.now(UTC)
    chance = random.Random(1)  # noqa: S311 - a load, no secret
    for _ in range(count):
        run_at = now + timedelta(hours=1) + chance.random() * (YEAR - timedelta(hours=1))
        events = decide(None, c.SubmitJob(spec=JobSpec(task="bench.noop", queue=QUEUE, run_at=run_at)), now)
        write, _ = write_for(None, uuid7(), events, META, now)
        yield Unit(id=uuid7(), writes=[write], meta=META)


def _schedules(quiet: int, ticking: int) -> Iterator[Unit]:
    """Schedules that tick once a month, and then those that tick in the measurement."""
    chance = random.Random(2)  # noqa: S311 - a load, no secret
    for number in range(quiet):
        cron = f"{chance.randrange(60)} {chance.randrange(24)} {chance.randrange(1, 29)} * *"
        yield _schedule(f"quiet-{number}", {"cron": cron, "timezone": chance.choice(("UTC", "Europe/Berlin"))})
    begin = datetime.now(UTC)
    for number in range(ticking):
        phase = begin + timedelta(seconds=chance.random() * PERIOD_SECONDS)
        yield _schedule(f"often-{number}", {"every": PERIOD_SECONDS, "phase": phase.isoformat()})


def _schedule(name: str, rule: dict[str, Any]) -> Unit:
    definition = {
        "timezone": "UTC",
        "gap": "shift",
        "fold": "first",
        "start": None,
        "end": None,
        "count": None,
        "jitter": 0.0,
        "calendars": [],
        "overlap": "allow",
        "catch_up": {"policy": "latest", "window": 86_400.0, "maximum": 100},
        "job": asdict(JobSpec(task="bench.noop", queue=QUEUE)),
        "tags": {},
        "owner": None,
        "notes": None,
        **rule,
    }
    written = changes.create(None, name, definition, None, META, datetime.now(UTC))
    write = StreamWrite(
        stream_id=written.schedule.id, expected_version=Version(0), events=written.events, head=written.head
    )
    return Unit(id=UUID(int=uuid7().int), writes=[write], meta=META)


def _memory(pid: int) -> dict[str, float]:
    """What the process holds now (VmRSS) and has held at most (VmHWM), in MB."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found[name] = round(int(rest.split()[0]) / 1024, 1)
    return found


def _percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        raise Failure("nothing ticked")
    ordered = sorted(values)
    return {f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 1) for p in (50, 99, 100)}


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        say(f"  {what} ...", file=sys.stderr)
