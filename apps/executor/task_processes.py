"""Runs Python tasks in task processes of the user's own environment.

A process that crashes, blocks or leaks takes its own attempts down and nothing else. What can not be ended politely is
ended with its whole process: that one takes no new work, its other attempts get a bounded time to finish, then it is
killed and those still running are lost, not failed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from apps.executor.attempts import Attempt, AttemptSink, Cancelled, Failed, Lost, Outcome, Succeeded
from apps.executor.task_channel import TaskChannel

log = logging.getLogger("rota.executor.tasks")

CANCEL_GRACE_SECONDS = 5.0
"""How long a task may go on after its cancellation was asked for."""

TIMEOUT_GRACE_SECONDS = 2.0
NEIGHBOUR_GRACE_SECONDS = 10.0
"""How long the other attempts of a process that has to be killed may still finish."""

RESTART_SECONDS = (0.2, 10.0)
READY_SECONDS = 60.0
SECRETS = ("DATABASE_URL", "REDIS_URL", "API_TOKENS", "OWNER_DATABASE_URL", "SMTP_PASSWORD", "ZOOKEEPER_AUTH")


class _Run:
    """One attempt on its way through a task process."""

    __slots__ = ("attempt", "ending", "future", "process", "sink", "timer")

    def __init__(self, attempt: Attempt, sink: AttemptSink, future: asyncio.Future[Outcome]) -> None:
        self.attempt = attempt
        self.sink = sink
        self.future = future
        self.process: TaskProcess | None = None
        self.ending: str | None = None
        self.timer: asyncio.TimerHandle | None = None


class TaskProcess:
    """One task process and the attempts that run in it."""

    def __init__(self, channel: TaskChannel) -> None:
        self.channel = channel
        self.runs: dict[int, _Run] = {}
        self.condemned = False
        self.ready = False


class TaskProcesses:
    """The Runner of Python tasks: `count` processes that load `targets` (modules or files)."""

    def __init__(
        self,
        targets: Sequence[str],
        *,
        count: int,
        slots: int,
        python: str | None = None,
        cancel_grace_seconds: float = CANCEL_GRACE_SECONDS,
        timeout_grace_seconds: float = TIMEOUT_GRACE_SECONDS,
        neighbour_grace_seconds: float = NEIGHBOUR_GRACE_SECONDS,
    ) -> None:
        self._targets = list(targets)
        self._count = count
        self._slots = slots
        self._python = python or sys.executable
        self._cancel_grace = cancel_grace_seconds
        self._timeout_grace = timeout_grace_seconds
        self._neighbour_grace = neighbour_grace_seconds
        self._processes: list[TaskProcess] = []
        self._by_attempt: dict[tuple[Any, int], _Run] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._next_key = 0
        self._closing = False
        self.tasks: Mapping[str, Any] = {}
        self.load_error: str | None = None

    async def start(self) -> None:
        """Start the processes and wait until the first has loaded the tasks, or has said why it can not."""
        for _ in range(self._count):
            self._keep_one()
        async with asyncio.timeout(READY_SECONDS):
            while not self.tasks and self.load_error is None:
                self._changed.clear()
                await self._changed.wait()

    async def run(self, attempt: Attempt, sink: AttemptSink) -> Outcome:
        """See Runner."""
        run = _Run(attempt, sink, asyncio.get_running_loop().create_future())
        name = (attempt.job_id, attempt.number)
        self._by_attempt[name] = run
        try:
            process = self._choose() or await self._wait_for_process(run)
            if process is None:
                return Failed("TasksNotLoaded", self.load_error or "no task process is ready")
            if run.ending is not None:
                return Cancelled()
            self._send(run, process)
            return await run.future
        finally:
            self._forget(run)
            self._by_attempt.pop(name, None)

    def cancel(self, attempt: Attempt) -> None:
        """See Runner."""
        run = self._by_attempt.get((attempt.job_id, attempt.number))
        if run is not None and run.ending is None:
            self._end(run, "cancel", self._cancel_grace)

    async def close(self, *, seconds: float = 0.0) -> None:
        """Give running attempts so many seconds, then end all processes."""
        self._closing = True
        waiting = [run.future for run in self._by_attempt.values()]
        if waiting and seconds > 0:
            await asyncio.wait(waiting, timeout=seconds)
        for process in list(self._processes):
            process.channel.kill()
        for keeper in list(self._keepers):
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    # -- processes ---------------------------------------------------------------------------------------------------

    def _keep_one(self) -> None:
        keeper = asyncio.get_running_loop().create_task(self._keep_process())
        self._keepers.add(keeper)
        keeper.add_done_callback(self._keepers.discard)

    async def _keep_process(self) -> None:
        """Keep one process running until it is condemned (its replacement has a keeper of its own) or we close."""
        pause, longest = RESTART_SECONDS
        while not self._closing:
            process = TaskProcess(await self._start_process())
            self._processes.append(process)
            began = asyncio.get_running_loop().time()
            try:
                status = await process.channel.serve(partial(self._received, process))
            finally:
                self._processes.remove(process)
                process.channel.kill()
            self._died(process, status)
            if process.condemned or self._closing:
                return
            if asyncio.get_running_loop().time() - began > 30:
                pause = RESTART_SECONDS[0]
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    async def _start_process(self) -> TaskChannel:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not any(key in (f"ROTA_{secret}", f"ROTA_{secret}_FILE") for secret in SECRETS)
        }
        environment["ROTA_TASK_SLOTS"] = str(self._slots)
        return await TaskChannel.start([self._python, "-m", "rota.worker", *self._targets], environment)

    def _choose(self) -> TaskProcess | None:
        """The process with the fewest attempts."""
        best = None
        for process in self._processes:
            if process.ready and not process.condemned and (best is None or len(process.runs) < len(best.runs)):
                best = process
        return best

    async def _wait_for_process(self, run: _Run) -> TaskProcess | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_SECONDS
        while loop.time() < deadline and not self._closing:
            if run.ending is not None:
                return next(iter(self._processes), None)
            found = self._choose()
            if found is not None or (self.load_error is not None and not self._processes):
                return found
            self._changed.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return None

    # -- attempts ----------------------------------------------------------------------------------------------------

    def _send(self, run: _Run, process: TaskProcess) -> None:
        self._next_key += 1
        key = self._next_key
        attempt = run.attempt
        run.process = process
        process.runs[key] = run
        process.channel.send(
            [
                "run", key, str(attempt.job_id), attempt.number, attempt.task, attempt.args, attempt.queue,
                attempt.tags, attempt.traceparent,
            ]
        )  # fmt: skip
        if attempt.timeout_seconds is not None:
            loop = asyncio.get_running_loop()
            run.timer = loop.call_later(attempt.timeout_seconds, self._end, run, "timeout", self._timeout_grace)

    def _end(self, run: _Run, why: str, grace_seconds: float) -> None:
        """Ask the task to end; condemn its process when it has not after the grace."""
        if run.future.done():
            return
        if run.timer is not None:
            run.timer.cancel()
        run.ending = why
        if run.process is None:
            self._changed.set()
            return
        key = next((k for k, r in run.process.runs.items() if r is run), None)
        if key is not None:
            run.process.channel.send(["cancel", key])
        run.timer = asyncio.get_running_loop().call_later(grace_seconds, self._condemn, run.process)

    def _condemn(self, process: TaskProcess) -> None:
        if process.condemned:
            return
        process.condemned = True
        if not self._closing:
            self._keep_one()
        neighbours = [run.future for run in process.runs.values() if run.ending is None]
        log.warning("a task does not end: its process will be killed, %d neighbours may finish", len(neighbours))
        if not neighbours:
            process.channel.kill()
            return
        killer = asyncio.get_running_loop().create_task(self._kill_later(process, neighbours))
        self._keepers.add(killer)
        killer.add_done_callback(self._keepers.discard)

    async def _kill_later(self, process: TaskProcess, neighbours: list[asyncio.Future[Outcome]]) -> None:
        await asyncio.wait(neighbours, timeout=self._neighbour_grace)
        process.channel.kill()

    def _forget(self, run: _Run) -> None:
        if run.timer is not None:
            run.timer.cancel()

    # -- messages ----------------------------------------------------------------------------------------------------

    def _received(self, process: TaskProcess, message: list[Any]) -> None:
        kind = message[0]
        if kind == "hello":
            self._hello(process, message[1])
            return
        if kind == "raw":
            self._unattributed(process, message[1], message[2])
            return
        key = message[1]
        if kind == "out":
            run = process.runs.get(key)
            if run is not None:
                run.sink.output(run.attempt, message[2], message[3])
        elif kind == "progress":
            run = process.runs.get(key)
            if run is not None:
                run.sink.progress(run.attempt, message[2], message[3])
        else:
            run = process.runs.pop(key, None)
            if run is not None and not run.future.done():
                run.future.set_result(_outcome(run, message))

    def _hello(self, process: TaskProcess, hello: Mapping[str, Any]) -> None:
        if hello["error"] is not None:
            self.load_error = str(hello["error"])
            log.error("%s", self.load_error)
        process.ready = bool(hello["tasks"]) or hello["error"] is None
        if process.ready:
            self.tasks = hello["tasks"]
        self._changed.set()

    def _unattributed(self, process: TaskProcess, stream: str, text: str) -> None:
        """Output of subprocesses and C code: the job's if there is only one, else Rota's own log."""
        if len(process.runs) == 1:
            (run,) = process.runs.values()
            run.sink.output(run.attempt, "stderr" if stream == "stderr" else "stdout", text)
        else:
            log.info("a task process printed: %s", text.rstrip()[:2000])

    def _died(self, process: TaskProcess, status: int) -> None:
        if not process.ready and self.load_error is None:
            self.load_error = f"the task process ended while it loaded the tasks ({_ending(status)})"
            log.error("%s", self.load_error)
        for run in process.runs.values():
            if run.future.done():
                continue
            if run.ending == "timeout":
                run.future.set_result(_timed_out(run.attempt))
            elif run.ending == "cancel":
                run.future.set_result(Cancelled(forced=True))
            elif process.condemned or self._closing:
                run.future.set_result(Lost("its task process was killed for another attempt's sake"))
            else:
                run.future.set_result(Failed("ProcessCrashed", f"the task process ended ({_ending(status)})"))
        process.runs.clear()
        self._changed.set()


def _outcome(run: _Run, message: list[Any]) -> Outcome:
    kind = message[0]
    if run.ending == "timeout":
        return _timed_out(run.attempt)
    if kind == "ok":
        return Succeeded(message[2])
    if kind == "cancelled":
        if run.ending == "cancel":
            return Cancelled()
        return Failed("CancelledError", "the task cancelled itself")
    _, _, error_type, text, trace, retryable = message
    return Cancelled() if run.ending == "cancel" else Failed(error_type, text, trace, retryable)


def _timed_out(attempt: Attempt) -> Failed:
    return Failed("Timeout", f"the attempt did not end within {attempt.timeout_seconds} s")


def _ending(status: int) -> str:
    if status < 0:
        try:
            return f"signal {signal.Signals(-status).name}"
        except ValueError:
            return f"signal {-status}"
    return f"exit status {status}"
