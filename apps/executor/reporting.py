"""Records how attempts ended, exactly once each, whatever happened to the job meanwhile.

Never gives a result up because the log is away: it is kept and tried again. Never lets through what JSON or PostgreSQL
cannot hold: one such text would take down the whole group commit that it travels in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import orjson

from rota_server.adapters.group_commit import GroupCommit
from rota_server.apps.executor.attempts import Cancelled, Failed, Lost, Outcome, Succeeded
from rota_server.apps.executor.patience import until_available
from rota_server.apps.executor.units import unit_for
from rota_server.apps.histories import job_since, jobs_of
from rota_server.apps.service import Backoff
from rota_server.domain.errors import Conflict, Corruption, Unexpected, Unreadable
from rota_server.domain.events import Event
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide
from rota_server.domain.jobs.events import AttemptError
from rota_server.domain.jobs.job import Job
from rota_server.domain.log import Appended, Unit
from rota_server.domain.ports.event_log import EventLog
from rota_server.observability import unreadable

log = logging.getLogger("rota.executor")

RESULT_LIMIT_BYTES = 256 * 1024
MESSAGE_LIMIT_CHARS = 8_000
TRACEBACK_LIMIT_CHARS = 64_000
TYPE_LIMIT_CHARS = 200
MAX_REFUSALS = 8
"""How often a report is tried as it is while the log refuses it with errors that nobody expected: 20 s or so."""

MAX_ROUNDS = 20
"""How often a report is decided again because somebody else wrote to the stream."""


class Reporter:
    """Reports for one executor process. `now` is PostgreSQL's time."""

    def __init__(self, event_log: EventLog, commit: GroupCommit, now: Callable[[], datetime]) -> None:
        self._log = event_log
        self._commit = commit
        self._now = now

    async def report(self, job: Job, outcome: Outcome, executor: str, traceparent: str | None) -> str:
        """Append what the outcome means for the job; the type of the event that says so.

        `job` is the job as this executor knows it since the attempt started. "" when nothing was left to say.

        Raises:
            Conflict: the job moved in every round.
        """
        attempt = job.attempt
        outcome = writable(outcome)
        if isinstance(outcome, Cancelled | Lost):
            # Whether it ended because somebody asked for that, only the log knows.
            job = await self.reload(job)
        actor = f"executor:{executor}"
        backoff = Backoff()
        rounds = refusals = 0
        while rounds < MAX_ROUNDS:
            now = self._now()
            events = decide(job, _command(job, attempt, outcome, executor), now)
            if not events:
                return ""
            unit, _ = unit_for(job, events, actor, now, traceparent)
            try:
                result = await self._commit.append(unit)
            except Unexpected as error:
                refusals += 1
                log.error("the report of attempt %d of job %s is kept: %s", attempt, job.id, error)  # noqa: TRY400
                if refusals == MAX_REFUSALS:
                    outcome = Failed("ReportRefused", f"the log did not take how the attempt ended: {error}"[:500])
                await backoff.pause()
                continue
            if isinstance(result, Appended):
                return type(events[0]).__name__
            job = await self._anew(job)
            rounds += 1
        raise Conflict(f"job {job.id} changed in every round", streams=[str(job.id)])

    async def commands(self, wanted: Sequence[tuple[Job, c.Command, str | None]], executor: str) -> list[Job | None]:
        """Append what commands for different jobs lead to, together and once each.

        Each is a job, a command and a `traceparent`. Answers each job as it is afterwards; None when it had moved, or
        the command had no point.
        """
        now = self._now()
        actor = f"executor:{executor}"
        units: list[Unit] = []
        afters: list[Job] = []
        places: list[int | None] = []
        for job, command, traceparent in wanted:
            events = _decided(job, command, now)
            places.append(len(units) if events else None)
            if events:
                unit, after = unit_for(job, events, actor, now, traceparent)
                units.append(unit)
                afters.append(after)
        results = await self._commit.append_all(units)
        return [
            afters[place] if place is not None and isinstance(results[place], Appended) else None for place in places
        ]

    async def reload(self, job: Job) -> Job:
        """The job as the log has it now; only what is new is read."""
        return await until_available("reporting", lambda: job_since(self._log, job))

    async def _anew(self, job: Job) -> Job:
        """The job after the log has refused what was decided about it."""
        reloaded = await self.reload(job)
        if reloaded.version > job.version:
            return reloaded
        # Refused, and yet nothing is new: the log is not the one that this job was read from (a restored copy).
        whole = (await until_available("reporting", lambda: jobs_of(self._log, [job.id]))).get(job.id)
        if isinstance(whole, Unreadable):
            raise whole
        if whole is None:
            raise Corruption(f"job {job.id} is not in the log any more")
        return whole


def _decided(job: Job, command: c.Command, now: datetime) -> Sequence[Event]:
    """As `decide`; nothing for a job whose stream cannot be read."""
    try:
        return decide(job, command, now)
    except Unreadable as error:
        unreadable.note("executor", job.id, error)
        return ()


def _command(job: Job, attempt: int, outcome: Outcome, executor: str) -> c.Command:
    match outcome:
        case Succeeded(result):
            return c.SucceedAttempt(attempt=attempt, executor=executor, result=result)
        case Failed(kind, message, trace, retryable, again):
            error = AttemptError(type=kind, message=message, traceback=trace)
            return c.FailAttempt(attempt=attempt, executor=executor, error=error, retryable=retryable, again=again)
        case Cancelled(forced):
            if job.cancel_requested:
                return c.ConfirmCancel(attempt=attempt, executor=executor, forced=forced)
            return c.LoseAttempt(attempt=attempt, reason="it was ended although nobody had asked for that")
        case Lost(reason, handed_back, begun):
            return c.LoseAttempt(attempt=attempt, reason=reason, handed_back=handed_back, begun=begun)


def writable(outcome: Outcome) -> Outcome:
    """The outcome as the log can hold it: results that are JSON and within the limit, texts that are text."""
    if isinstance(outcome, Succeeded):
        try:
            size = len(orjson.dumps(outcome.result))
        except (TypeError, ValueError) as error:
            return Failed("ResultNotJson", f"the result cannot be written as JSON: {error}", retryable=False)
        if size > RESULT_LIMIT_BYTES:
            message = f"the result has {size} bytes as JSON; the limit is {RESULT_LIMIT_BYTES}"
            return Failed("ResultTooLarge", message, retryable=False)
    elif isinstance(outcome, Failed):
        trace = None if outcome.traceback is None else text(outcome.traceback[-TRACEBACK_LIMIT_CHARS:])
        kind = text(outcome.type[:TYPE_LIMIT_CHARS])
        return Failed(kind, text(outcome.message[:MESSAGE_LIMIT_CHARS]), trace, outcome.retryable, outcome.again)
    return outcome


def text(given: str) -> str:
    """The text with everything replaced that UTF-8 does not have (lone surrogates)."""
    return given.encode("utf-8", "replace").decode()
