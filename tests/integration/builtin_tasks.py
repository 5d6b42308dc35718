"""Runs built-in tasks on their own, for their tests."""

from __future__ import annotations

from typing import Any

from uuid_utils.compat import uuid7

from rota_server.apps.executor.attempts import Attempt, Failed, Outcome, Succeeded
from rota_server.apps.executor.builtin.runner import BuiltinTasks
from rota_server.domain.builtin.tasks import EventPublish


class Kept:
    """A sink that keeps what is printed."""

    def __init__(self) -> None:
        self.text: dict[str, str] = {"stdout": "", "stderr": ""}

    def output(self, attempt: Attempt, stream: str, text: str) -> None:
        self.text[stream] += text

    def progress(self, attempt: Attempt, fraction: float | None, message: str | None) -> None:
        raise AssertionError("built-in tasks report no progress")


async def nowhere(arguments: EventPublish, attempt: Attempt) -> dict[str, Any]:
    raise AssertionError("nothing is published here")


def attempt_of(task: str, args: dict[str, Any], **options: Any) -> Attempt:
    return Attempt(job_id=uuid7(), number=1, task=task, args=args, **options)


async def run(task: str, args: dict[str, Any], sink: Kept | None = None, **settings: Any) -> Outcome:
    tasks = BuiltinTasks(settings.pop("publish", nowhere), **settings)
    try:
        return await tasks.run(attempt_of(task, args), sink or Kept())
    finally:
        await tasks.close()


def failure(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def success(outcome: Outcome) -> Any:
    assert isinstance(outcome, Succeeded), outcome
    return outcome.result
