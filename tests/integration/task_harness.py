"""Task processes without servers, and what their attempts print and report."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from rota_server.apps.executor.attempts import Attempt, Failed, Outcome
from rota_server.apps.executor.processes.pool import TaskProcesses
from tests.waiting import until


class Recorder:
    """An AttemptSink that remembers, by the attempt's job."""

    def __init__(self) -> None:
        self.printed: dict[tuple[Any, str], str] = {}
        self.reported: list[tuple[float | None, str | None]] = []

    def output(self, attempt: Attempt, stream: str, text: str) -> None:
        name = (attempt.job_id, stream)
        self.printed[name] = self.printed.get(name, "") + text

    def progress(self, attempt: Attempt, fraction: float | None, message: str | None) -> None:
        self.reported.append((fraction, message))

    def of(self, attempt: Attempt, stream: str = "stdout") -> str:
        return self.printed.get((attempt.job_id, stream), "")


class Harness:
    """Task processes and what their attempts printed."""

    def __init__(self, processes: TaskProcesses, module: str = "process_tasks") -> None:
        self.processes = processes
        self.module = module
        self.sink = Recorder()

    def attempt(self, task: str, timeout_seconds: float | None = None, **args: Any) -> Attempt:
        return Attempt(
            job_id=uuid4(), number=1, task=f"{self.module}.{task}", args=args, timeout_seconds=timeout_seconds
        )

    def begin(self, attempt: Attempt) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.processes.run(attempt, self.sink))

    async def run(self, task: str, timeout_seconds: float | None = None, **args: Any) -> Outcome:
        return await self.processes.run(self.attempt(task, timeout_seconds, **args), self.sink)

    async def begun(self, task: str, said: str, **args: Any) -> tuple[Attempt, asyncio.Task[Outcome]]:
        """An attempt that has printed something and goes on."""
        attempt = self.attempt(task, **args)
        running = self.begin(attempt)
        await until(lambda: said in self.sink.of(attempt), what=f"{task} printing {said!r}")
        return attempt, running


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome
