"""Runs Python tasks in task processes of the user's own environment.

A process that crashes, blocks or leaks takes its own attempts down and nothing else. What cannot be ended politely is
ended with its whole process: that one takes no new work, its other attempts get a bounded time to finish, then it is
killed and those still running are lost, not failed. Another process takes its place at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any
from uuid import UUID

from rota_server.apps.executor.account import OWN, TaskAccount
from rota_server.apps.executor.attempts import Attempt, AttemptSink, Cancelled, Failed, Lost, Outcome
from rota_server.apps.executor.processes.process import TaskProcess
from rota_server.apps.executor.processes.runs import Patience, Run
from rota_server.apps.settings import PREFIX, SECRET_FIELDS
from rota_server.domain.builtin.tasks import BUILTIN_TASKS

log = logging.getLogger("rota.executor.tasks")

RESTART_SECONDS = (0.2, 10.0)
LIVED_SECONDS = 30.0
"""A process that lived so long did not die of its start: the pauses before a restart begin again."""

READY_SECONDS = 60.0
"""How long a start waits for the processes."""

STOP_SECONDS = 2.0


class TaskProcesses:
    """The Runner of Python tasks: `count` processes that load `targets` (modules or files), `slots` attempts in each.

    `tasks` is the catalogue: for each task its options, parameters and whether it is async. `load_error` says why some
    or all of the targets could not be loaded, None when they could. `files`: what they were loaded from, also in vain.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        count: int,
        slots: int,
        python: str | None = None,
        patience: Patience | None = None,
        account: TaskAccount = OWN,
    ) -> None:
        self._argv = [python or sys.executable, "-m", "rota.worker", *targets]
        self._account = account
        self._count = count
        self._slots = slots
        self._patience = patience or Patience()
        self._processes: list[TaskProcess] = []
        self._runs: dict[tuple[UUID, int], Run] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._change = asyncio.Event()
        self._new_tasks = asyncio.Event()
        self._closing = False
        self._noticed: set[str] = set()
        self._spare: list[TaskProcess] = []
        self.files: frozenset[str] = frozenset(target for target in targets if target.endswith(".py"))
        self.tasks: Mapping[str, Any] = {}
        self.load_error: str | None = None

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that are there."""
        return [process.pid for process in self._processes if process.pid is not None]

    async def start(self) -> None:
        """Start the processes and wait until each has loaded the tasks, or has said why it cannot."""
        first = [TaskProcess(self._patience, self._process_changed) for _ in range(self._count)]
        for process in first:
            self._in_background(self._keep_process(process))
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not all(process.settled for process in first):
                    await self._next_change()
        except TimeoutError:
            self.load_error = f"a task process has not loaded its tasks within {READY_SECONDS:g} s"
            log.error("%s", self.load_error)  # noqa: TRY400 - the traceback would be this line
        self._new_tasks.clear()

    async def reload(self) -> str | None:
        """Load the targets in new processes, which then take the place of the old ones; what runs there ends there.

        When something cannot be loaded everything stays as it was, and why is the answer.
        """
        fresh = [TaskProcess(self._patience, self._process_changed) for _ in range(self._count)]
        for process in fresh:
            process.on_trial = True
            self._processes.append(process)
            self._in_background(self._serve(process))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                while not self._closing and not all(process.settled for process in fresh):
                    await self._next_change()
        self.files = self.files.union(*(process.files for process in fresh))
        problem = next((process.problem for process in fresh if process.problem is not None), None)
        if problem is None and any(process.tasks is None or process.over.is_set() for process in fresh):
            problem = f"a task process has not loaded its tasks within {READY_SECONDS:g} s"
        if problem is not None or self._closing:
            for process in fresh:
                process.kill()
            return problem
        self._spare = list(fresh)
        for process in [one for one in self._processes if one not in fresh]:
            process.retire()
        for process in fresh:
            process.on_trial = False
            self._process_changed(process)
        return None

    async def watch(self) -> None:
        """Raise what has ended the keeping of a process, should that ever happen; forever."""
        raise await asyncio.shield(self._broken)

    async def new_tasks(self) -> None:
        """Wait until the catalogue has changed since the start, or since the last call."""
        await self._new_tasks.wait()
        self._new_tasks.clear()

    async def run(self, attempt: Attempt, sink: AttemptSink) -> Outcome:
        """See Runner."""
        run = Run(attempt, sink, asyncio.get_running_loop().create_future())
        name = (attempt.job_id, attempt.number)
        self._runs[name] = run
        try:
            process = self._choose(attempt.task)
            if process is None:
                waited = await self._wait_for_process(run)
                if not isinstance(waited, TaskProcess):
                    return waited
                process = waited
            process.start(run)
            return await run.future
        except TypeError as error:
            return Failed("WrongArguments", f"the arguments are not JSON: {error}", retryable=False)
        finally:
            del self._runs[name]
            if run.process is not None:
                run.process.end(run, "cancel")  # only if nobody waits for the outcome any more

    def cancel(self, attempt: Attempt) -> None:
        """See Runner."""
        run = self._runs.get((attempt.job_id, attempt.number))
        if run is None:
            return
        if run.process is not None:
            run.process.end(run, "cancel")
        else:
            run.ending = "cancel"
            self._changed()

    async def close(self, *, seconds: float = 0.0) -> None:
        """Give running attempts so many seconds, then end all processes; what still runs is lost."""
        self._closing = True
        self._changed()
        waiting = [run.future for run in self._runs.values()]
        if waiting and seconds > 0:
            await asyncio.wait(waiting, timeout=seconds)
        for process in self._processes:
            process.stop()
        if self._background:
            await asyncio.wait(self._background, timeout=STOP_SECONDS)
        for process in self._processes:
            process.kill()
        await asyncio.gather(*self._background)

    # -- processes ---------------------------------------------------------------------------------------------------

    async def _keep_process(self, process: TaskProcess) -> None:
        """Keep one place filled with a living process, of which this is the first."""
        loop = asyncio.get_running_loop()
        pause, longest = RESTART_SECONDS
        while not self._closing:
            began = loop.time()
            if process not in self._processes:
                self._processes.append(process)
                self._in_background(self._serve(process))
            await process.over.wait()
            if not process.condemned and not process.retired:
                if loop.time() - began > LIVED_SECONDS:
                    pause = RESTART_SECONDS[0]
                await self._pause(pause)
                pause = min(pause * 2, longest)
            process = self._spare_one() or TaskProcess(self._patience, self._process_changed)

    def _spare_one(self) -> TaskProcess | None:
        """One that a reload has started and that nobody keeps yet."""
        while self._spare:
            process = self._spare.pop()
            if not process.over.is_set():
                return process
        return None

    async def _serve(self, process: TaskProcess) -> None:
        try:
            environment = {**task_environment(), **self._account.environment, "ROTA_TASK_SLOTS": str(self._slots)}
            await process.serve(self._argv, environment, self._account.identity)
        finally:
            self._processes.remove(process)
            self._changed()

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not self._closing and (left := end - loop.time()) > 0:
            await self._next_change(left)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._broken.done():
            self._broken.set_result(error)

    def _process_changed(self, process: TaskProcess) -> None:
        if process.on_trial or process.retired:
            self._changed()
            return
        self.files |= frozenset(process.files)
        if process.problem is not None and process.problem != self.load_error:
            self.load_error = process.problem
            log.error("%s", process.problem)
        for notice in set(process.notices) - self._noticed:
            self._noticed.add(notice)
            log.warning("%s", notice)
        if process.tasks is not None and not process.over.is_set():
            if process.problem is None:
                self.load_error = None
            self._use(process.tasks)
        self._changed()

    def _use(self, tasks: Mapping[str, Any]) -> None:
        if tasks != self.tasks:
            for name in sorted(BUILTIN_TASKS & tasks.keys()):
                log.error("the task %s cannot run: it is called as a built-in one", name)
            self.tasks = tasks
            self._new_tasks.set()

    # -- choice ------------------------------------------------------------------------------------------------------

    def _choose(self, task: str) -> TaskProcess | None:
        """The available process with the fewest attempts, of those that have the task if any has."""
        having = [process for process in self._processes if process.tasks is not None and task in process.tasks]
        best = None
        for process in having or self._processes:
            if process.available and (best is None or len(process.runs) < len(best.runs)):
                best = process
        return None if self._closing else best

    async def _wait_for_process(self, run: Run) -> TaskProcess | Outcome:
        limit = self._patience.begin
        while True:
            if run.ending is not None:
                return Cancelled()
            if self._closing:
                return Lost("its executor stops", begun=False)
            if (process := self._choose(run.attempt.task)) is not None:
                return process
            loaded = any(p.tasks is not None for p in self._processes)
            if not loaded and self.load_error is not None:
                return Failed("TasksNotLoaded", self.load_error)
            left = limit - run.attempt.waited_seconds
            if left <= 0:
                return Lost(f"no task process had room for it within {limit:g} s", begun=False)
            await self._next_change(left)

    def _changed(self) -> None:
        event, self._change = self._change, asyncio.Event()
        event.set()

    async def _next_change(self, seconds: float | None = None) -> None:
        """Wait until something has changed, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._change.wait()


def task_environment() -> dict[str, str]:
    """The environment of task processes: our own without Rota's secrets."""
    secrets = {f"{PREFIX}{name.upper()}" for name in SECRET_FIELDS}
    secrets |= {f"{name}_FILE" for name in secrets}
    return {key: value for key, value in os.environ.items() if key.upper() not in secrets}
