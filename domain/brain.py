"""The scheduler's brain: what has to be decided by the clock, or because an executor is gone. A pure state machine.

Events, members and time in; decisions out. It knows only what it needs: timers up to a horizon, attempts that run
(bounded by the slots of all executors), and how many jobs are queued; nothing grows with the number of waiting jobs.

A decision names a job and a command. Whether the command still makes sense is decided on the job's own stream when it
is carried out, so a decision that is made twice, or too late, is harmless.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from domain import commands as c
from domain import events as e
from domain.ids import Position, Version
from domain.log import Recorded
from domain.ports import HeadRow

HORIZON = timedelta(seconds=60)
"""How far ahead timers are held in memory."""

TIMERS_LIMIT = 20_000
"""Timers loaded at once; more of them are loaded when these are done."""

GONE_GRACE = timedelta(seconds=1)
"""How long an executor is missing among the members before its attempts are declared lost."""

DEADLINE_GRACE = timedelta(seconds=30)
"""How long behind its timeout an attempt is declared lost, whose executor should have ended it."""

REPEAT = timedelta(seconds=5)
"""When a decision about a running attempt is made again if nothing has come of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningAttempt:
    """An attempt that stands in the log as running."""

    job_id: UUID
    attempt: int
    version: Version
    executor: str
    started_at: datetime
    timeout_seconds: float | None


class Decision(NamedTuple):
    """What is to be done with a job."""

    job_id: UUID
    command: c.Command


class Change(NamedTuple):
    """What has changed since the last `take_change`, for the projection."""

    position: Position
    started: list[RunningAttempt]
    ended: list[UUID]
    counts: dict[tuple[str, str], int]


class Brain:
    """The state behind `position`, and what follows from it."""

    def __init__(
        self, position: Position, running: Iterable[RunningAttempt], queued: Mapping[tuple[str, str], int]
    ) -> None:
        self.position = position
        self.running = {attempt.job_id: attempt for attempt in running}
        self.queued = dict(queued)
        self.known_until: datetime | None = None
        self._timers: list[tuple[datetime, UUID]] = []
        self._due: dict[UUID, datetime] = {}
        self._members: frozenset[str] | None = None
        self._missing_since: dict[str, datetime] = {}
        self._decided_at: dict[UUID, datetime] = {}
        self._saved = set(self.running)
        self._started: dict[UUID, RunningAttempt] = {}
        self._ended: set[UUID] = set()
        self._counted: set[tuple[str, str]] = set()

    # -- what happens ------------------------------------------------------------------------------------------------

    def apply(self, events: Sequence[Recorded]) -> None:
        """Take in events, in order and without a gap."""
        for recorded in events:
            if recorded.position != self.position + 1:
                raise ValueError(f"position {recorded.position} does not follow {self.position}")
            self.position = recorded.position
            self._apply(recorded)

    def _apply(self, recorded: Recorded) -> None:
        event, job_id = recorded.event, recorded.stream_id
        match event:
            case e.JobSubmitted(spec=spec):
                if spec.run_at is None:
                    self._count(spec.queue, spec.priority, 1)
                times = [t for t in (spec.run_at, spec.expires_at) if t is not None]
                if times:
                    self._near(job_id, min(times))
            case e.AttemptStarted():
                self._count(event.queue, event.priority, -1)
                self._start(recorded, event)
            case e.AttemptSucceeded() | e.JobDead():
                self._end(job_id)
            case e.AttemptFailed(retry_at=retry_at) | e.AttemptLost(retry_at=retry_at):
                self._end(job_id)
                if retry_at is not None:
                    self._near(job_id, retry_at)
            case e.JobDispatched(queue=queue, priority=priority, reason=reason):
                if reason != "missing":
                    self._count(queue, priority, 1)
            case e.JobRequeued(queue=queue, priority=priority):
                self._count(queue, priority, 1)
            case e.JobCancelled() | e.JobExpired() | e.JobRescheduled():
                self._end(job_id)
                if event.was == "queued":
                    self._count(event.queue, event.priority, -1)
                if isinstance(event, e.JobRescheduled):
                    self._near(job_id, event.run_at)

    def _count(self, queue: str, priority: str, change: int) -> None:
        key = (queue, priority)
        self.queued[key] = self.queued.get(key, 0) + change
        self._counted.add(key)

    def _start(self, recorded: Recorded, event: e.AttemptStarted) -> None:
        attempt = RunningAttempt(
            job_id=recorded.stream_id,
            attempt=event.attempt,
            version=recorded.version,
            executor=event.executor,
            started_at=recorded.recorded_at,
            timeout_seconds=event.timeout_seconds,
        )
        self.running[attempt.job_id] = attempt
        self._started[attempt.job_id] = attempt
        self._ended.discard(attempt.job_id)

    def _end(self, job_id: UUID) -> None:
        if self.running.pop(job_id, None) is None:
            return
        self._decided_at.pop(job_id, None)
        self._started.pop(job_id, None)
        if job_id in self._saved:
            self._ended.add(job_id)

    def take_change(self) -> Change:
        """What the projection has to save now. What started and ended in between leaves no trace."""
        counts = {key: self.queued[key] for key in self._counted}
        change = Change(self.position, list(self._started.values()), list(self._ended), counts)
        self._saved.difference_update(self._ended)
        self._saved.update(self._started)
        self._started, self._ended, self._counted = {}, set(), set()
        for key in [key for key, count in self.queued.items() if count == 0]:
            del self.queued[key]
        return change

    # -- timers ------------------------------------------------------------------------------------------------------

    def load_timers(self, rows: Sequence[HeadRow], until: datetime) -> None:
        """Take in the jobs that are due up to `until`, earliest first; `TIMERS_LIMIT` of them may not be all."""
        for row in rows:
            if row.due_at is not None:
                self.schedule(row.id, row.due_at)
        complete = len(rows) < TIMERS_LIMIT
        last = rows[-1].due_at if rows else None
        self.known_until = until if complete or last is None else last

    def wants_timers(self, now: datetime) -> bool:
        """Whether timers have to be loaded: the known ones end soon."""
        if self.known_until is None:
            return True
        if self.known_until < now + HORIZON / 2:
            return self.known_until >= now or not self._timers or self._timers[0][0] > self.known_until
        return False

    def schedule(self, job_id: UUID, due_at: datetime) -> None:
        """Look at the job at `due_at`; a later timer of the same job is replaced."""
        if self._due.get(job_id) == due_at:
            return
        self._due[job_id] = due_at
        heapq.heappush(self._timers, (due_at, job_id))

    def _near(self, job_id: UUID, due_at: datetime) -> None:
        if self.known_until is not None and due_at <= self.known_until:
            self.schedule(job_id, due_at)

    def next_timer(self) -> datetime | None:
        """When the next timer is due."""
        while self._timers and self._due.get(self._timers[0][1]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    # -- who is alive ------------------------------------------------------------------------------------------------

    def members(self, alive: Iterable[str] | None) -> None:
        """The executors that are alive; None: nobody can say, so nobody is dead."""
        self._members = None if alive is None else frozenset(alive)
        if alive is None:
            self._missing_since.clear()

    def _gone(self, now: datetime) -> set[str]:
        """Executors that have been missing for longer than the grace."""
        if self._members is None:
            return set()
        executors = {attempt.executor for attempt in self.running.values()}
        missing = executors - self._members
        for executor in list(self._missing_since):
            if executor not in missing:
                del self._missing_since[executor]
        for executor in missing:
            self._missing_since.setdefault(executor, now)
        return {executor for executor, since in self._missing_since.items() if now - since >= GONE_GRACE}

    # -- what follows ------------------------------------------------------------------------------------------------

    def due(self, now: datetime, limit: int) -> list[Decision]:
        """Jobs whose time has come, at most `limit`; each is named once."""
        decisions: list[Decision] = []
        while len(decisions) < limit and (at := self.next_timer()) is not None and at <= now:
            _, job_id = heapq.heappop(self._timers)
            del self._due[job_id]
            decisions.append(Decision(job_id, c.ActOnTime()))
        return decisions

    def lost(self, now: datetime, limit: int) -> list[Decision]:
        """Attempts that nobody runs any more, at most `limit`."""
        gone = self._gone(now)
        decisions = []
        for attempt in self.running.values():
            reason = None
            if attempt.executor in gone:
                reason = f"executor {attempt.executor} is gone"
            elif attempt.timeout_seconds is not None:
                deadline = attempt.started_at + timedelta(seconds=attempt.timeout_seconds) + DEADLINE_GRACE
                if deadline <= now:
                    reason = "its timeout has passed and its executor has not ended it"
            if reason is None:
                continue
            decided_at = self._decided_at.get(attempt.job_id)
            if decided_at is not None and now - decided_at < REPEAT:
                continue
            self._decided_at[attempt.job_id] = now
            decisions.append(Decision(attempt.job_id, c.LoseAttempt(attempt=attempt.attempt, reason=reason)))
            if len(decisions) >= limit:
                break
        return decisions
