"""`rota bench`: what the contract promises to measure, all in one run on the same servers."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rota import Client
from rota_server.adapters.embedded.directory import DataDirectory
from rota_server.adapters.postgres.bench import copy_rate, scratch_database
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.adapters.postgres.leader_projection import PostgresRunningAttempts
from rota_server.adapters.postgres.server_info import database_facts
from rota_server.adapters.redis.server_info import redis_facts
from rota_server.apps.cli.bench_append import append_rate
from rota_server.apps.cli.bench_http import Connection, post_for
from rota_server.apps.cli.bench_schedules import AtScale, Scale
from rota_server.apps.cli.output import Failure, print_json, say
from rota_server.apps.cli.up import running_system
from rota_server.domain.ids import Position
from rota_server.domain.ports.indexes import JobFilter

PARTS = ("append", "end_to_end", "limits", "submit", "latency", "timers")
SCHEDULES = "schedules"
"""Measured only where it is asked for: it takes minutes, and a million jobs."""

BULK_JOBS = 1000
CONNECTIONS = 64
LATENCY_SAMPLES = 200
TIMER_JOBS = 10_000
TIMER_SECONDS = 10.0
WAIT_SECONDS = 300.0
NOOP = b'{"task":"bench.noop","queue":"bench"}'
LIMITED_QUEUE = "bench-limited"
LIMITS = {"concurrency_per_key": 50, "rate": {"limit": 100_000, "per": 1}}
"""On, but not reached: what is measured is what they cost."""

LIMIT_KEYS = 200


def executors_of_machine() -> int:
    """One a core, at most four: an executor uses one core, and on more the database is the limit."""
    return min(os.cpu_count() or 1, 4)


def bench(
    *,
    as_json: bool,
    jobs: int,
    seconds: float,
    executors: int,
    only: tuple[str, ...],
    scale: Scale | None = None,
) -> int:
    """Run it and print the report; status 1 when it could not be measured."""
    unknown = set(only) - {*PARTS, SCHEDULES}
    if unknown:
        raise Failure(f"there is no part {unknown.pop()}; there are {', '.join((*PARTS, SCHEDULES))}", status=2)
    if SCHEDULES in only:
        if only != (SCHEDULES,):
            raise Failure("schedules are measured on a system of their own, without other parts", status=2)
        return _bench_schedules(scale or Scale(), as_json=as_json)
    given = {name: os.environ.get(f"ROTA_{name}") for name in ("DATABASE_URL", "REDIS_URL", "OWNER_DATABASE_URL")}
    if bool(given["DATABASE_URL"]) != bool(given["REDIS_URL"]):
        raise Failure("give both ROTA_DATABASE_URL and ROTA_REDIS_URL, or neither", status=2)
    environment = {
        "ROTA_CONCURRENCY": os.environ.get("ROTA_CONCURRENCY", "1000"),
        "ROTA_TASK_PROCESSES": os.environ.get("ROTA_TASK_PROCESSES", "1"),
        "ROTA_QUEUES": f"default,bench,{LIMITED_QUEUE}",
        "ROTA_LOG_LEVEL": "WARNING",
    }
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rota-bench-")))
        place.chmod(0o755)
        tasks = str(Path(__file__).with_name("bench_tasks.py"))
        options = ("--tasks", tasks, "--executors", str(executors))
        state = stack.enter_context(running_system(place, *options, env=environment))
        urls = _urls(place, given)
        system = System(state["url"], **urls, jobs=jobs, seconds=seconds, executors=executors)
        report = asyncio.run(system.measure(only or PARTS))
    if as_json:
        print_json(report)
    else:
        _show(report)
    return 0


def _bench_schedules(scale: Scale, *, as_json: bool) -> int:
    """Schedules at scale, on embedded servers of their own."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rota-bench-")))
        place.chmod(0o755)
        options = ("--executors", "1", "--schedulers", "2")
        state = stack.enter_context(running_system(place, *options, env={"ROTA_LOG_LEVEL": "WARNING"}))
        database_url = str(_urls(place, {"DATABASE_URL": None})["database_url"])
        report = asyncio.run(AtScale(state["url"], database_url, scale).measure())
    if as_json:
        print_json(report)
    else:
        _show(report)
    return 0


def _urls(place: Path, given: dict[str, str | None]) -> dict[str, str | None]:
    if given["DATABASE_URL"]:
        return {
            "database_url": given["DATABASE_URL"],
            "redis_url": given["REDIS_URL"],
            "owner_url": given["OWNER_DATABASE_URL"],
        }
    known = DataDirectory(place).remembered()
    where = f"127.0.0.1:{known['postgres_port']}/rota"
    return {
        "database_url": f"postgresql://rota_app:{known['app_password']}@{where}",
        "redis_url": f"redis://:{known['valkey_password']}@127.0.0.1:{known['valkey_port']}/0",
        "owner_url": f"postgresql://rota:{known['owner_password']}@{where}",
    }


class System:
    """A running system, and the measurements on it."""

    def __init__(
        self,
        url: str,
        *,
        database_url: str | None,
        redis_url: str | None,
        owner_url: str | None,
        jobs: int,
        seconds: float,
        executors: int,
    ) -> None:
        self._url = url
        self._database_url = database_url or ""
        self._redis_url = redis_url or ""
        self._owner_url = owner_url
        self._jobs = jobs
        self._seconds = seconds
        self._executors = executors
        self._log: PostgresEventLog
        self._index: PostgresJobIndex
        self._projection: PostgresRunningAttempts

    async def measure(self, parts: tuple[str, ...]) -> dict[str, Any]:
        """The contract's object; parts that were not asked for are missing."""
        database = Database(self._database_url, application="rota-bench")
        self._log, self._index = PostgresEventLog(database), PostgresJobIndex(database)
        self._projection = PostgresRunningAttempts(database)
        report: dict[str, Any] = {}
        measures: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
            "append": self._append,
            "end_to_end": self._end_to_end,
            "limits": self._limits,
            "submit": self._submit,
            "latency": self._latency,
            "timers": self._timers,
        }
        try:
            for part in PARTS:
                if part in parts:
                    _progress(part)
                    report |= await measures[part]()
                    await self._rest()
            report["machine"] = await self._machine(database)
        finally:
            await self._log.close()
            await database.close()
        return report

    async def _append(self) -> dict[str, Any]:
        """The raw log alone, on a database of its own on the same server, and a bare COPY of such rows beside it."""
        if self._owner_url is None:
            raise Failure("append needs ROTA_OWNER_DATABASE_URL: it measures on a scratch database")
        async with scratch_database(self._owner_url) as database:
            copied = await copy_rate(database, seconds=min(self._seconds, 3.0))
            appended = await append_rate(database, seconds=self._seconds)
        return {"append": {"events_per_s": round(appended), "copy_events_per_s": round(copied)}}

    async def _end_to_end(self) -> dict[str, Any]:
        """Submit and run at the same time; until all are in `jobs` as succeeded."""
        first = await self._log.last_position()
        lags: list[float] = []
        measuring = asyncio.create_task(self._measure_lag(lags))
        took = await self._run_all(self._jobs, "bench", lambda _: NOOP)
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)
        events = await self._log.last_position() - first
        return {
            "end_to_end": {
                "jobs": self._jobs,
                "jobs_per_s": round(self._jobs / took, 1),
                "events_per_job": round(events / self._jobs, 3),
                "executors": self._executors,
            },
            "projection_lag_ms": _percentiles(lags, (50, 99)),
        }

    async def _run_all(self, jobs: int, queue: str, job: Callable[[int], bytes]) -> float:
        """Submit and run so many jobs on a queue at the same time; seconds until all are in `jobs` as succeeded."""
        where = JobFilter(state="succeeded", queue=queue)
        before = await self._index.count(where)
        began = time.perf_counter()
        submitted = asyncio.create_task(self._submit_bulk(jobs, job))
        deadline = began + WAIT_SECONDS
        while (already := await self._index.count(where) - before) < jobs:
            if time.perf_counter() > deadline:
                raise Failure(f"only {already} of {jobs} jobs had succeeded after {WAIT_SECONDS:.0f} s")
            await asyncio.sleep(0.25)
        took = time.perf_counter() - began
        await submitted
        return took

    async def _limits(self) -> dict[str, Any]:
        """The same jobs without limits, and with a limit for each key and a rate limit on: what limits cost."""

        def limited(number: int) -> bytes:
            return b'{"task":"bench.noop","queue":"%b","key":"k%d"}' % (LIMITED_QUEUE.encode(), number % LIMIT_KEYS)

        await asyncio.to_thread(self._limit, LIMITED_QUEUE)
        jobs = max(1, self._jobs // 2)
        free = jobs / await self._run_all(jobs, "bench", lambda _: NOOP)
        await self._rest()
        first = await self._log.last_position()
        rate = jobs / await self._run_all(jobs, LIMITED_QUEUE, limited)
        events = await self._log.last_position() - first
        return {
            "limits": {
                "jobs": jobs,
                "keys": LIMIT_KEYS,
                "jobs_per_s": round(rate, 1),
                "free_jobs_per_s": round(free, 1),
                "ratio": round(rate / free, 3),
                "events_per_job": round(events / jobs, 3),
            }
        }

    def _limit(self, queue: str) -> None:
        with Client(self._url) as client:
            client.call("PATCH", f"/v1/queues/{queue}", body=LIMITS)

    async def _submit_bulk(self, jobs: int, job: Callable[[int], bytes]) -> None:
        connections = [await Connection.open(self._url, "/v1/jobs/bulk") for _ in range(2)]
        remaining = jobs

        async def load(connection: Connection) -> None:
            nonlocal remaining
            while remaining > 0:
                count = min(BULK_JOBS, remaining)
                remaining -= count
                body = b",".join(job(remaining + n) for n in range(count))
                status, answer = await connection.post(b"[" + body + b"]")
                if status != 200 or b'"problem"' in answer:
                    raise Failure(f"the store answered {status}: {answer[:300]!r}")

        await asyncio.gather(*(load(connection) for connection in connections))
        for connection in connections:
            connection.close()

    async def _measure_lag(self, lags: list[float]) -> None:
        """How long after an event is in the log the leader's projection has it."""
        while True:
            position = await self._log.last_position()
            began = time.perf_counter()
            while await self._projection.checkpoint() < position:  # noqa: ASYNC110 - it moves in another process
                await asyncio.sleep(0.01)
            lags.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.2)

    async def _submit(self) -> dict[str, Any]:
        """Submissions alone: onto a queue that nobody works on, where they expire after an hour."""

        def parked() -> bytes:
            # Far enough behind all measurements: tens of thousands that expire at once would be measured with them.
            expires_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            job = {"task": "bench.noop", "queue": "bench-parked", "expires_at": expires_at}
            return json.dumps(job).encode()

        job = parked()
        bulk = b"[" + b",".join([job] * BULK_JOBS) + b"]"
        single, single_seconds = await post_for(
            self._url, "/v1/jobs", lambda: job, connections=CONNECTIONS, seconds=self._seconds, expected=201
        )
        requests, bulk_seconds = await post_for(
            self._url, "/v1/jobs/bulk", lambda: bulk, connections=2, seconds=self._seconds, expected=200
        )
        return {
            "submit": {
                "http_single_per_s": round(single / single_seconds, 1),
                "http_bulk_jobs_per_s": round(requests * BULK_JOBS / bulk_seconds, 1),
            }
        }

    async def _latency(self) -> dict[str, Any]:
        """From the request's first byte to the recorded start, one job at a time on an idle system."""
        connection = await Connection.open(self._url, "/v1/jobs")
        sent: dict[str, float] = {}
        first = await self._log.last_position()
        for _ in range(LATENCY_SAMPLES):
            at = time.time()
            _, answer = await connection.post(NOOP)
            sent[json.loads(answer)["id"]] = at
            await asyncio.sleep(0.03)
        connection.close()
        started = await self._started_after(first, len(sent))
        return {"start_latency_ms": _percentiles([(started[j] - sent[j]) * 1000 for j in sent], (50, 95, 99))}

    async def _timers(self) -> dict[str, Any]:
        """Many jobs due within ten seconds; how much later than asked each is started."""
        first = await self._log.last_position()
        begin = datetime.now(UTC) + timedelta(seconds=6)
        due = [begin + timedelta(seconds=TIMER_SECONDS * n / TIMER_JOBS) for n in range(TIMER_JOBS)]
        connection = await Connection.open(self._url, "/v1/jobs/bulk")
        wanted: dict[str, float] = {}
        for start in range(0, TIMER_JOBS, BULK_JOBS):
            part = due[start : start + BULK_JOBS]
            specs = [{"task": "bench.noop", "queue": "bench", "run_at": at.isoformat()} for at in part]
            _, answer = await connection.post(json.dumps(specs).encode())
            results = json.loads(answer)["results"]
            wanted |= {result["id"]: at.timestamp() for result, at in zip(results, part, strict=True)}
        connection.close()
        started = await self._started_after(first, TIMER_JOBS)
        return {"timer_lateness_ms": _percentiles([(started[j] - wanted[j]) * 1000 for j in wanted], (50, 99))}

    async def _started_after(self, position: int, count: int) -> dict[str, float]:
        """When each of so many jobs was started, by the log's clock."""
        started: dict[str, float] = {}
        deadline = time.monotonic() + WAIT_SECONDS
        while len(started) < count:
            events = await self._log.read_raw(Position(position), 2000)
            for event in events:
                position = event.position
                if event.type == "AttemptStarted":
                    started[str(event.stream_id)] = event.recorded_at.timestamp()
            if not events:
                if time.monotonic() > deadline:
                    raise Failure(f"only {len(started)} of {count} jobs were started")
                await asyncio.sleep(0.2)
        return started

    async def _rest(self) -> None:
        """Let the system come to rest between two measurements."""
        before = Position(-1)
        deadline = time.monotonic() + 30
        while (position := await self._log.last_position()) != before and time.monotonic() < deadline:
            before = position
            await asyncio.sleep(0.5)

    async def _machine(self, database: Database) -> dict[str, Any]:
        facts = await database_facts(database)
        redis = await redis_facts(self._redis_url)
        return {
            "cores": os.cpu_count(),
            "postgres": facts.version,
            "fsync": facts.fsync,
            "redis": f"{redis['server']} {redis['version']}",
            "python": platform.python_version(),
        }


def _percentiles(values: list[float], wanted: tuple[int, ...]) -> dict[str, float]:
    if len(values) < 2:
        return {f"p{p}": round(values[0], 2) if values else 0.0 for p in wanted}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {f"p{p}": round(cuts[p - 1], 2) for p in wanted}


def _progress(part: str) -> None:
    if sys.stderr.isatty():
        say(f"measuring {part} ...", file=sys.stderr, flush=True)


def _show(report: dict[str, Any]) -> None:
    for part, values in report.items():
        say(f"{part}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
