"""The executor's composition root."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from typing import Any

from adapters.group_commit import GroupCommit
from adapters.postgres.clock import PostgresClock
from adapters.postgres.connection import Database
from adapters.postgres.event_log import PostgresEventLog
from adapters.postgres.job_index import PostgresJobIndex
from adapters.postgres.job_logs import PostgresJobLogs
from adapters.postgres.running_attempts import PostgresRunningAttempts
from adapters.postgres.task_catalog import PostgresTaskCatalog
from adapters.redis.connection import connect
from adapters.redis.control import RedisControlChannel
from adapters.redis.work_queue import RedisWorkQueue
from apps.coordination import coordination_for
from apps.executor.builtin.email_send import SmtpSettings
from apps.executor.builtin.runner import BuiltinTasks
from apps.executor.claiming import Claimer
from apps.executor.output import OutputKeeper
from apps.executor.publishing import EventPublisher
from apps.executor.reporting import Reporter
from apps.executor.service import Executor
from apps.executor.task_processes import TaskProcesses
from apps.executor.watching import compare, heed_cancels
from apps.service import keep_running, run_service, run_until, until_done
from apps.settings import Settings
from domain.builtin_tasks import BUILTIN_TASKS
from domain.ports import Coordination
from observability import metrics

VERSION = "0.1.0"


def main(settings: Settings) -> int:
    """Run the executor until it is told to stop, drained; the exit status."""
    settings.require("database_url")
    settings.require("redis_url")
    return run_service("executor", lambda stop: _run(settings, stop), log_level=settings.log_level)


def new_identity() -> str:
    """A name that no other executor has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


async def _run(settings: Settings, stop: asyncio.Event) -> None:
    database = Database(settings.require("database_url"), application="rota-executor")
    event_log = PostgresEventLog(database)
    clock = PostgresClock(database)
    redis, blocking_redis = connect(settings.require("redis_url")), connect(settings.require("redis_url"))
    commit = GroupCommit(event_log)
    reporter = Reporter(event_log, commit, clock.now)
    index, attempts = PostgresJobIndex(database), PostgresRunningAttempts(database)
    python = _python_tasks(settings)
    builtin = BuiltinTasks(
        EventPublisher(commit).publish,
        allow_shell=settings.allow_shell,
        refuse_private=settings.http_refuse_private,
        smtp=_smtp(settings),
    )
    identity = new_identity()
    executor: Executor

    async def report_progress(*arguments: Any) -> None:
        await executor.report_progress(*arguments)

    output = OutputKeeper(PostgresJobLogs(database), report_progress)
    executor = Executor(
        identity=identity,
        slots=settings.concurrency,
        queue=RedisWorkQueue(redis, settings.queues, identity),
        claimer=Claimer(event_log, commit, clock.now),
        reporter=reporter,
        output=output,
        builtin=dict.fromkeys(BUILTIN_TASKS, builtin),
        python=python,
        metrics=metrics.AttemptMetrics(),
    )
    metrics.serve(settings.metrics_port)
    metrics.gauge("rota_executor_slots", "Slots of this executor", lambda: executor.slots)
    metrics.gauge("rota_executor_running", "Attempts not yet reported", lambda: len(executor.running))

    async def kill() -> None:
        if python is not None:
            await python.close()

    try:
        await until_done("clock", clock.sample)
        if python is not None:
            await python.start()
        await until_done("catalogue", lambda: _announce(database, python))
        async with coordination_for(settings, database) as coordination:
            await run_until(
                stop,
                liveness=keep_running("liveness", lambda: _stay_alive(executor, coordination, settings, python)),
                clock=keep_running("clock", clock.keep),
                work=keep_running("work", executor.take_work),
                reclaim=keep_running("reclaim", executor.reclaim_work),
                output=keep_running("output", output.write_output),
                progress=keep_running("progress", output.report_progress),
                cancels=keep_running("cancels", lambda: heed_cancels(executor, RedisControlChannel(blocking_redis))),
                comparison=keep_running("comparison", lambda: compare(executor, index, event_log, attempts, reporter)),
                finish=lambda: executor.drain(settings.drain_seconds, kill=kill),
                keep={"liveness", "work", "reclaim", "output", "cancels", "clock"},
            )
    finally:
        await kill()
        await builtin.close()
        await event_log.close()
        await database.close()
        await redis.aclose()
        await blocking_redis.aclose()


async def _stay_alive(
    executor: Executor, coordination: Coordination, settings: Settings, python: TaskProcesses | None
) -> None:
    """Be registered for ever; when a registration is lost, stop what runs and come back under another name."""
    while True:
        info = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": VERSION,
            "queues": list(settings.queues),
            "slots": executor.slots,
            "tasks": sorted([*BUILTIN_TASKS, *(python.tasks if python is not None else ())]),
        }
        async with coordination.register("executor", executor.identity, info) as registration:
            await registration.wait_lost()
            executor.abandon_all("its executor lost its session")
            executor.identity = new_identity()


def _python_tasks(settings: Settings) -> TaskProcesses | None:
    if not settings.tasks:
        return None
    count = settings.task_processes or os.cpu_count() or 1
    return TaskProcesses(settings.tasks, count=count, slots=settings.concurrency, python=settings.python)


def _smtp(settings: Settings) -> SmtpSettings | None:
    if settings.smtp_host is None:
        return None
    return SmtpSettings(
        host=settings.smtp_host,
        port=settings.smtp_port,
        username=settings.smtp_username,
        password=settings.smtp_password,
        tls=settings.smtp_tls,
        sender=settings.smtp_from,
    )


async def _announce(database: Database, python: TaskProcesses | None) -> None:
    if python is not None:
        await PostgresTaskCatalog(database).announce(
            {name: {**about["options"], "parameters": about["parameters"]} for name, about in python.tasks.items()}
        )
