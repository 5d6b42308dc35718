"""Runs the built-in tasks on the executor's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from rota_server.apps.executor.account import OWN, TaskAccount
from rota_server.apps.executor.attempts import Attempt, AttemptSink, Cancelled, Failed, Outcome, Succeeded
from rota_server.apps.executor.builtin.email_send import SmtpSettings, send_email
from rota_server.apps.executor.builtin.errors import TaskFailed
from rota_server.apps.executor.builtin.http_request import HttpRequests
from rota_server.apps.executor.builtin.shell_run import run_command
from rota_server.domain.builtin.tasks import EmailSend, EventPublish, HttpRequest, ShellRun, parse_arguments
from rota_server.domain.errors import Rejected

Publish = Callable[[EventPublish, Attempt], Awaitable[dict[str, Any]]]


class BuiltinTasks:
    """The Runner of the built-in tasks. `publish` writes an event to the log, once per job."""

    def __init__(
        self,
        publish: Publish,
        *,
        allow_shell: bool = False,
        refuse_private: bool = False,
        smtp: SmtpSettings | None = None,
        account: TaskAccount = OWN,
    ) -> None:
        self._account = account
        self._publish = publish
        self._allow_shell = allow_shell
        self._smtp = smtp
        self._http = HttpRequests(refuse_private=refuse_private)
        self._running: dict[tuple[UUID, int], asyncio.Task[Any]] = {}

    async def run(self, attempt: Attempt, sink: AttemptSink) -> Outcome:
        """See Runner."""
        name = (attempt.job_id, attempt.number)
        # A task of its own: cancelling the attempt must not look like cancelling the executor.
        work = self._running[name] = asyncio.ensure_future(self._dispatch(attempt, sink))
        try:
            done, _ = await asyncio.wait([work], timeout=attempt.timeout_seconds)
            if not done:
                work.cancel()
                await asyncio.wait([work])
                return Failed("Timeout", f"the attempt did not end within {attempt.timeout_seconds} s")
            return _outcome(work)
        finally:
            work.cancel()
            self._running.pop(name, None)

    def cancel(self, attempt: Attempt) -> None:
        """See Runner."""
        work = self._running.get((attempt.job_id, attempt.number))
        if work is not None:
            work.cancel()

    async def close(self) -> None:
        """Close kept connections."""
        await self._http.close()

    async def _dispatch(self, attempt: Attempt, sink: AttemptSink) -> Any:
        arguments = parse_arguments(attempt.task, attempt.args)
        match arguments:
            case HttpRequest():
                return await self._http.run(arguments, attempt)
            case ShellRun():
                if not self._allow_shell:
                    raise TaskFailed("NotAllowed", "this executor does not run shell.run (ROTA_ALLOW_SHELL)")
                return await run_command(arguments, attempt, sink, self._account)
            case EmailSend():
                return await send_email(arguments, attempt, self._smtp)
            case EventPublish():
                return await self._publish(arguments, attempt)
        raise TaskFailed("UnknownTask", f"there is no built-in task {attempt.task}", retryable=False)


def _outcome(work: asyncio.Task[Any]) -> Outcome:
    if work.cancelled():
        return Cancelled()
    error = work.exception()
    if error is None:
        return Succeeded(work.result())
    if isinstance(error, TaskFailed):
        return Failed(error.kind, str(error), retryable=error.retryable)
    if isinstance(error, Rejected):
        return Failed("InvalidArguments", error.message, retryable=False)
    return Failed(type(error).__name__, str(error) or type(error).__name__)
