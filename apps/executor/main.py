"""The executor's composition root."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from rota_server.adapters.group_commit import GroupCommit
from rota_server.adapters.postgres.clock import PostgresClock
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.adapters.postgres.job_logs import PostgresJobLogs
from rota_server.adapters.postgres.leader_projection import PostgresRunningAttempts
from rota_server.adapters.postgres.results import PostgresResults
from rota_server.adapters.postgres.sessions import SESSIONS
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.adapters.redis.connection import connect, prove_access
from rota_server.adapters.redis.control import RedisControlChannel
from rota_server.adapters.redis.work_queue import RedisWorkQueue
from rota_server.apps.connections import CONNECTIONS
from rota_server.apps.coordination import coordination_for
from rota_server.apps.executor.account import TaskAccount, task_account, warn_of_root
from rota_server.apps.executor.announcing import tell_of_alerts
from rota_server.apps.executor.attempt_reconciler import AttemptReconciler
from rota_server.apps.executor.attempt_runs import AttemptRuns
from rota_server.apps.executor.builtin.email_send import SmtpSettings
from rota_server.apps.executor.builtin.runner import BuiltinTasks
from rota_server.apps.executor.claiming import Claimer
from rota_server.apps.executor.masking import SecretFilter
from rota_server.apps.executor.metrics import AttemptMetrics
from rota_server.apps.executor.output import OutputKeeper
from rota_server.apps.executor.predecessors import Predecessors
from rota_server.apps.executor.processes.pool import TaskProcesses
from rota_server.apps.executor.publishing import EventPublisher
from rota_server.apps.executor.reloading import Reloading
from rota_server.apps.executor.reporting import Reporter
from rota_server.apps.executor.secret_sources import PREFIX, SecretSources, parse_grants, taken_from
from rota_server.apps.executor.service import Executor
from rota_server.apps.executor.slots import Slots
from rota_server.apps.secrecy import withdraw_secrets
from rota_server.apps.service import (
    STOP_SECONDS,
    admitted,
    keep_running,
    run_service,
    run_until,
    unless_stopped,
    until_done,
)
from rota_server.apps.settings import Settings
from rota_server.apps.version import VERSION
from rota_server.domain.builtin.tasks import BUILTIN_TASKS
from rota_server.domain.errors import Unavailable
from rota_server.domain.ports.coordination import Coordination, Registration
from rota_server.observability import metrics

log = logging.getLogger("rota.executor")

SHELL = "shell.run"
"""The one built-in task that an executor has only by its settings."""

SIGNATURE = ("parameters", "any_keyword", "types")
"""What task processes say of a task's arguments, as far as their version of the package `rota` does."""


def main(settings: Settings, *, reload: bool = False, notes: Path | None = None) -> int:
    """Run the executor until it is told to stop, drained; the exit status.

    With `reload` tasks are loaded again when their files change, and `notes` is told how that went.
    """
    settings = withdraw_secrets(settings)
    settings.require("database_url")
    settings.require("redis_url")
    return run_service(
        "executor",
        lambda stop: _run(settings, stop, reload=reload, notes=notes),
        log_level=settings.log_level,
        stop_seconds=settings.drain_seconds + STOP_SECONDS,
    )


def new_identity() -> str:
    """A name that no other executor has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


async def _run(settings: Settings, stop: asyncio.Event, *, reload: bool, notes: Path | None) -> None:
    if reload:
        # Compiled files are told apart by the second and the size: too coarse for one who saves often.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    async with AsyncExitStack() as stack:
        parts = ExecutorComposition(settings, stack)
        metrics.serve(settings.metrics_port)
        metrics.gauge("rota_executor_slots", "Slots of this executor", lambda: parts.slots.total)
        metrics.gauge("rota_executor_slots_taken", "Slots that are claimed for or run in", lambda: parts.slots.taken)
        metrics.gauge("rota_executor_running", "Attempts not yet reported", lambda: len(parts.runs.running))
        redis_url = settings.require("redis_url")
        await admitted(stop, parts.database.prove_access, lambda: prove_access(parts.redis, redis_url))
        warn_of_root(settings.task_user)
        await unless_stopped(stop, until_done("clock", parts.clock.sample))
        if parts.python is not None:
            await _load_tasks(parts.python)
            parts.serve_queues()
            parts.reloading = Reloading(parts.python, notes) if reload else None
            await unless_stopped(stop, until_done("catalogue", parts.announce))
        log.info("serving the queues %s with %d slots", ", ".join(parts.queue.queues), parts.slots.total)
        coordination = await stack.enter_async_context(coordination_for(settings, parts.database))
        if not stop.is_set():
            await _serve(settings, stop, parts, coordination)


class ExecutorComposition:
    """The concrete parts of one executor; what has to be closed is on the stack."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self.reloading: Reloading | None = None
        self._builtin = BUILTIN_TASKS if settings.allow_shell else BUILTIN_TASKS - {SHELL}
        self.identity = new_identity()
        self.registration: Registration | None = None
        self.database = Database(
            settings.require("database_url"),
            pool_size=CONNECTIONS["executor"].pool,
            overflow=CONNECTIONS["executor"].overflow,
            application="rota-executor",
            direct_url=settings.listen_database_url,
            session=SESSIONS["executor"],
        )
        stack.push_async_callback(self.database.close)
        self.event_log = PostgresEventLog(self.database, writer="executor")
        stack.push_async_callback(self.event_log.close)
        self.redis = connect(settings.require("redis_url"))
        stack.push_async_callback(self.redis.aclose)
        self.blocking_redis = connect(settings.require("redis_url"))
        stack.push_async_callback(self.blocking_redis.aclose)
        self.clock = PostgresClock(self.database)
        self._catalog = PostgresTaskCatalog(self.database)
        commit = GroupCommit(self.event_log)
        account = task_account(settings.task_user, settings.python)
        builtin = BuiltinTasks(
            EventPublisher(commit).publish,
            allow_shell=settings.allow_shell,
            refuse_private=settings.http_refuse_private,
            smtp=_smtp(settings),
            account=account,
        )
        stack.push_async_callback(builtin.close)
        self.python = _python_tasks(settings, account)
        stack.push_async_callback(self.kill)
        counters = AttemptMetrics()
        self.slots = Slots(settings.concurrency)
        self.output = OutputKeeper(PostgresJobLogs(self.database))
        reporter = Reporter(self.event_log, commit, self.clock.now)
        self.runs = AttemptRuns(
            slots=self.slots,
            reporter=reporter,
            output=self.output,
            builtin=dict.fromkeys(BUILTIN_TASKS, builtin),
            python=self.python,
            predecessors=Predecessors(PostgresResults(self.database)),
            secrets=_secrets(settings),
            metrics=counters,
        )
        self.queue = RedisWorkQueue(self.redis, settings.queues, self.identity, tasks=self.tasks)
        for handler in logging.getLogger().handlers:
            handler.addFilter(SecretFilter(self.runs.secrets_in_use))
        self.executor = Executor(
            identity=self.identity,
            slots=self.slots,
            queue=self.queue,
            claimer=Claimer(self.event_log, commit, self.clock.now, self.knows),
            runs=self.runs,
            metrics=counters,
        )
        self.watcher = AttemptReconciler(
            control=RedisControlChannel(self.blocking_redis),
            executor=self.executor,
            runs=self.runs,
            reporter=reporter,
            index=PostgresJobIndex(self.database),
            event_log=self.event_log,
            attempts=PostgresRunningAttempts(self.database),
        )

    def knows(self, task: str) -> bool:
        """Whether the task can run here now."""
        return task in self._builtin or (self.python is not None and task in self.python.tasks)

    def tasks(self) -> list[str]:
        """The names of all tasks that can run here now."""
        return sorted([*self._builtin, *(self.python.tasks if self.python is not None else ())])

    def info(self) -> dict[str, Any]:
        """What this executor says of itself among the members."""
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": VERSION,
            "queues": self.queue.queues,
            "slots": self.slots.total,
            "tasks": self.tasks(),
            "draining": self.executor.draining,
        }

    def serve_queues(self) -> None:
        """Work on the queues that are asked for, or that the tasks are declared with."""
        if self.python is not None:
            self.queue.serve(served_queues(self._settings, self.python.tasks))

    async def reload(self) -> None:
        """Load the tasks again when their files change, if that is asked for, forever."""
        if self.reloading is None:
            await asyncio.Event().wait()
        else:
            await self.reloading.watch()

    async def announce(self) -> None:
        """Enter the Python tasks that run here into the catalogue."""
        if self.python is not None:
            tell_of_alerts(self.python.tasks)
            await self._catalog.announce(
                {
                    # Task processes of other versions of the package `rota` do not say everything.
                    name: {**about["options"], **{key: about[key] for key in SIGNATURE if key in about}}
                    for name, about in self.python.tasks.items()
                }
            )

    async def announce_changes(self) -> None:
        """Do it again whenever the task processes have loaded other tasks, forever."""
        if self.python is None:
            await asyncio.Event().wait()
            return
        while True:
            await self.python.new_tasks()
            self.serve_queues()
            await self.announce()
            await self.tell_members()

    async def tell_members(self) -> None:
        """Say again among the members what this executor can do. Raises Unavailable."""
        if self.registration is not None and not self.registration.lost:
            await self.registration.update(self.info())

    async def drain(self, seconds: float) -> None:
        """Take nothing more, and say so; end what runs, at the latest after so many seconds."""
        self.executor.draining = True
        telling = asyncio.create_task(self._tell_of_drain())
        try:
            await self.executor.drain(seconds, kill=self.kill)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _tell_of_drain(self) -> None:
        # Only told: whoever does not hear it finds the executor gone soon.
        with contextlib.suppress(Unavailable):
            await self.tell_members()

    async def watch_tasks(self) -> None:
        """End this process when nobody keeps its task processes any more, forever."""
        if self.python is None:
            await asyncio.Event().wait()
        else:
            await self.python.watch()

    async def kill(self) -> None:
        """End the task processes by force."""
        if self.python is not None:
            await self.python.close()


async def _serve(
    settings: Settings, stop: asyncio.Event, parts: ExecutorComposition, coordination: Coordination
) -> None:
    executor, output, runs, watcher = parts.executor, parts.output, parts.runs, parts.watcher
    await run_until(
        stop,
        liveness=keep_running("liveness", lambda: _stay_alive(parts, coordination)),
        clock=keep_running("clock", parts.clock.keep),
        work=keep_running("work", executor.take_work),
        reclaim=keep_running("reclaim", executor.reclaim_work),
        output=keep_running("output", output.write_output),
        progress=keep_running("progress", lambda: output.report_progress(runs.report_progress)),
        notices=keep_running("notices", watcher.heed_notices),
        doubts=keep_running("doubts", watcher.heed_doubts),
        comparison=keep_running("comparison", watcher.compare),
        catalogue=keep_running("catalogue", parts.announce_changes),
        reload=keep_running("reload", parts.reload),
        tasks=parts.watch_tasks(),
        finish=lambda: parts.drain(settings.drain_seconds),
        keep={"liveness", "clock", "work", "output", "progress", "notices", "doubts", "comparison"},
    )


async def _stay_alive(parts: ExecutorComposition, coordination: Coordination) -> None:
    """Be registered forever; when a registration is lost, stop what runs and come back under another name."""
    while True:
        async with coordination.register("executor", parts.executor.identity, parts.info()) as registration:
            parts.registration = registration
            parts.executor.registered(registration)
            await registration.wait_lost()
            log.warning("the registration of executor %s is lost", parts.executor.identity)
            parts.executor.lost(new_identity())


def served_queues(settings: Settings, tasks: Mapping[str, Any]) -> list[str]:
    """Return the queues to work on: those that the settings name; if they name none, `default` and the tasks' own."""
    named = list(settings.queues)
    if "queues" in settings.model_fields_set:
        return named
    own = {about["options"].get("queue") for about in tasks.values()}
    return [*named, *sorted(queue for queue in own if queue is not None and queue not in named)]


async def _load_tasks(python: TaskProcesses) -> None:
    """Start the task processes. Tasks that cannot be loaded are a mistake in the settings, not work that fails."""
    await python.start()
    if python.load_error is not None:
        log.error("the tasks cannot be loaded")
        raise SystemExit(2)


def _python_tasks(settings: Settings, account: TaskAccount) -> TaskProcesses | None:
    if not settings.tasks:
        return None
    count = settings.task_processes or os.cpu_count() or 1
    return TaskProcesses(
        settings.tasks, count=count, slots=settings.concurrency, python=settings.python, account=account
    )


def _secrets(settings: Settings) -> SecretSources:
    """Where secrets come from. Those in the environment are moved out of it before anything is started."""
    try:
        grants = parse_grants(settings.secrets_allow)
    except ValueError as error:
        log.error("ROTA_SECRETS_ALLOW: %s", error)  # noqa: TRY400 - a setting is wrong, nothing else
        raise SystemExit(2) from None
    in_file = {name: value for name, value in dotenv_values(".env").items() if name.startswith(PREFIX) and value}
    return SecretSources(
        {**in_file, **taken_from(os.environ)},
        directory=settings.secrets_dir,
        command=settings.secrets_command,
        grants=grants,
    )


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
