"""Records how attempts ended, exactly once each, whatever happened to the job meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import orjson

from adapters.group_commit import GroupCommit
from apps.executor.attempts import Cancelled, Failed, Lost, Outcome, Succeeded
from apps.executor.units import unit_for
from domain import commands as c
from domain.decisions import decide
from domain.errors import Corruption, Unavailable
from domain.events import AttemptError
from domain.jobs import Job, fold
from domain.log import Appended
from domain.ports import EventLog

RESULT_LIMIT_BYTES = 256 * 1024
MAX_ROUNDS = 20
"""How often a report is decided anew because somebody else wrote to the stream."""


class Reporter:
    """Reports for one executor process."""

    def __init__(self, log: EventLog, commit: GroupCommit, now: Callable[[], datetime]) -> None:
        self._log = log
        self._commit = commit
        self._now = now

    async def report(self, job: Job, outcome: Outcome, executor: str, traceparent: str | None) -> str:
        """Append what the outcome means for the job; the type of the event that says so.

        `job` is the job as it was when the attempt started. Returns "" when nothing was left to say.
        """
        attempt = job.attempt
        outcome = _writable(outcome)
        if isinstance(outcome, Cancelled | Lost):
            # Whether it ended because somebody asked for that, only the log knows.
            job = await self._reload(job)
        for _ in range(MAX_ROUNDS):
            events = decide(job, _command(job, attempt, outcome, executor), self._now())
            if not events:
                return ""
            unit, _ = unit_for(job, events, f"executor:{executor}", self._now(), traceparent)
            if isinstance(await self._commit.append(unit), Appended):
                return type(events[0]).__name__
            job = await self._reload(job)
        raise Unavailable(f"job {job.id} changed in every round", server="postgres")

    async def command(self, job: Job, command: c.Command, executor: str, traceparent: str | None) -> Job | None:
        """Append what a command leads to, once; the job after it, None when it lost or had no point."""
        events = decide(job, command, self._now())
        if not events:
            return None
        unit, after = unit_for(job, events, f"executor:{executor}", self._now(), traceparent)
        return after if isinstance(await self._commit.append(unit), Appended) else None

    async def _reload(self, job: Job) -> Job:
        reloaded = fold(await self._log.read_stream(job.id))
        if reloaded is None:
            raise Corruption(f"job {job.id} is not in the log any more")
        return reloaded


def _command(job: Job, attempt: int, outcome: Outcome, executor: str) -> c.Command:
    match outcome:
        case Succeeded(result):
            return c.SucceedAttempt(attempt=attempt, executor=executor, result=result)
        case Failed(kind, message, trace, retryable):
            error = AttemptError(type=kind, message=message, traceback=trace)
            return c.FailAttempt(attempt=attempt, executor=executor, error=error, retryable=retryable)
        case Cancelled(forced):
            if job.cancel_requested:
                return c.ConfirmCancel(attempt=attempt, executor=executor, forced=forced)
            return c.LoseAttempt(attempt=attempt, reason="its executor stopped")
        case Lost(reason):
            return c.LoseAttempt(attempt=attempt, reason=reason)


def _writable(outcome: Outcome) -> Outcome:
    """The outcome as JSON can hold it: results within the limit, texts that are text."""
    if isinstance(outcome, Succeeded):
        try:
            size = len(orjson.dumps(outcome.result))
        except (TypeError, ValueError) as error:
            return Failed("ResultNotJson", f"the result can not be written as JSON: {error}", retryable=False)
        if size > RESULT_LIMIT_BYTES:
            message = f"the result has {size} bytes as JSON; the limit is {RESULT_LIMIT_BYTES}"
            return Failed("ResultTooLarge", message, retryable=False)
    if isinstance(outcome, Failed):
        trace = None if outcome.traceback is None else _text(outcome.traceback)
        return Failed(_text(outcome.type), _text(outcome.message), trace, outcome.retryable)
    return outcome


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
