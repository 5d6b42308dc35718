"""A leader's state: what has to be decided by the clock, or because an executor is gone. A pure state machine.

Events, members and time in; decisions out. It knows only what it needs: timers up to a horizon, attempts that run
(bounded by the slots of all executors), and how many jobs are queued; nothing grows with the number of waiting jobs.

A decision names a job and a command. Whether the command still makes sense is decided on the job's own stream when it
is carried out, so a decision that is made twice, or too late, is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from rota_server.domain.admission.admission import Admission, AdmissionChange, AdmittedJob
from rota_server.domain.admission.flow import Flow
from rota_server.domain.admission.queues import QueueSettings, settings_from_json
from rota_server.domain.errors import Corruption, Unreadable
from rota_server.domain.executors import Abilities
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.messaging import FeedEvent
from rota_server.domain.timers import HORIZON, TIMERS_LIMIT, Timers

__all__ = ["HORIZON", "TIMERS_LIMIT", "Change", "Decision", "LeaderState", "RunningAttempt"]

GONE_GRACE = timedelta(seconds=1)
"""How long an executor that was seen alive is missing before its attempts are declared lost."""

UNSEEN_GRACE = timedelta(seconds=8)
"""The same for one that was not seen since this leader began, or since nobody could say who is alive.

At least a session timeout: after an outage the living need some time to say so.
"""

BEGIN_LIMIT = timedelta(seconds=30)
"""How long an attempt waits between its claim and its beginning at most; then its executor gives it back."""

DEADLINE_GRACE = BEGIN_LIMIT + timedelta(seconds=30)
"""How long after its timeout, counted from its claim, an attempt is declared lost.

Its executor counts from its beginning, and has some time left to end what does not end politely, and to say so.
"""

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
    queue: str | None = None
    priority: str | None = None
    key: str | None = None
    origin: str | None = None


class Running(NamedTuple):
    """What the leader's state keeps of an attempt that runs."""

    attempt: int
    version: Version
    executor: str
    started_at: datetime
    timeout_seconds: float | None
    queue: str | None = None
    priority: str | None = None
    key: str | None = None
    origin: str | None = None


class End(NamedTuple):
    """A job has ended. `origin` is the id of what made it, if anything did; `at` is the log's time."""

    job_id: str
    state: str
    origin: str | None
    position: Position
    at: str


Handler = Callable[[FeedEvent], None]


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
    admission: AdmissionChange


class LeaderState:
    """The state behind `position`, and what follows from it."""

    def __init__(
        self, position: Position, running: Iterable[RunningAttempt], queued: Mapping[tuple[str, str], int]
    ) -> None:
        self.position = position
        self._running = {
            str(a.job_id): Running(
                a.attempt, a.version, a.executor, a.started_at, a.timeout_seconds, a.queue, a.priority, a.key, a.origin
            )
            for a in running
        }
        self.queued = dict(queued)
        self.timers = Timers()
        self.admission = Admission()
        self.capacity: dict[str, int] = {}
        """How many slots the living executors have for each queue."""
        self.abilities = Abilities()
        """Which tasks the living executors can run."""
        self.unreadable: list[tuple[FeedEvent, str]] = []
        """Events that do not say what they should, and why they could not be taken in; who applies tells of them."""
        self.flow = Flow()
        self._just_ended: list[str] = []
        self._handlers: dict[str, list[Handler]] = {}
        self._end_handlers: list[Callable[[End], None]] = []
        self._members: frozenset[str] | None = None
        self._seen: set[str] = set()
        self._missing_since: dict[str, datetime] = {}
        self._decided_at: dict[str, datetime] = {}
        self._saved = set(self._running)
        self._started: dict[str, Running] = {}
        self._ended: set[str] = set()
        self._counted: set[tuple[str, str]] = set()

    # -- what happens ------------------------------------------------------------------------------------------------

    def apply(self, events: Sequence[FeedEvent]) -> None:
        """Take in events, in order and without a gap. One that does not say what it should is set aside."""
        for event in events:
            if event.position != self.position + 1:
                raise Corruption(f"position {event.position} does not follow {self.position}", position=event.position)
            self.position = event.position
            try:
                effect = _EFFECTS.get(event.type)
                if effect is not None:
                    effect(self, event, event.data)
                for handler in self._handlers.get(event.type, ()):
                    handler(event)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, Unreadable) as error:
                self.unreadable.append((event, repr(error)))
        if self._just_ended:
            at = datetime.fromisoformat(events[-1].recorded_at).timestamp()
            for queue in self._just_ended:
                self.flow.ended(queue, at)
            self._just_ended.clear()

    def attach(self, event_type: str, handler: Handler) -> None:
        """Have `handler` see every event of this type, once it has taken effect here. It must be quick and pure."""
        self._handlers.setdefault(event_type, []).append(handler)

    def attach_to_ends(self, handler: Callable[[End], None]) -> None:
        """Have `handler` see every end of a job. It must be quick and pure."""
        self._end_handlers.append(handler)

    @property
    def managed(self) -> set[str]:
        """Queues whose jobs the leader dispatches, because they have limits or are paused."""
        return self.admission.managed

    def begin_admission(
        self,
        settings: Mapping[str, tuple[QueueSettings, Position]],
        lanes: Iterable[str],
        admitted: Mapping[str, AdmittedJob],
        limiters: Mapping[tuple[str, str], Mapping[str, Any]],
    ) -> None:
        """Let the lines go on from what the last leader kept; see Admission.begin."""
        counting = {
            job_id: place
            for job_id, place in self._running_places().items()
            if place.key is not None or (place.queue in settings and settings[place.queue][0].managed)
        }
        self.admission.begin(settings, lanes, admitted, counting, limiters)

    def _running_places(self) -> dict[str, AdmittedJob]:
        return {
            job_id: AdmittedJob(running.queue, running.priority or "normal", running.key, started=True)
            for job_id, running in self._running.items()
            if running.queue is not None
        }

    def _queue_changed(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        name = data["name"]
        self.admission.configure(name, settings_from_json(data), event.position)
        if name in self.admission.managed:
            self.admission.count_running(name, self._running_places())

    def _ended_as(self, state: str, event: FeedEvent, origin: str | None) -> None:
        for handler in self._end_handlers:
            handler(End(event.stream_id, state, origin, event.position, event.recorded_at))

    def _submitted(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        spec = data["spec"]
        waits = data.get("waits") is not None
        if data.get("waits") == "limits":
            self.admission.join(event.stream_id, spec["queue"], spec["priority"], spec.get("key"), event.position)
        run_at = None if waits else spec["run_at"]
        if run_at is None:
            if not waits:
                self._count(spec["queue"], spec["priority"], 1)
            if spec["expires_at"] is None:
                return
        times = [datetime.fromisoformat(t) for t in (run_at, spec["expires_at"]) if t is not None]
        self.timers.add(event.stream_id, min(times), event.position)

    def _attempt_started(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        self._count(data["queue"], data["priority"], -1)
        self.timers.drop(event.stream_id)
        started_at = datetime.fromisoformat(event.recorded_at)
        attempt = Running(
            data["attempt"],
            event.version,
            data["executor"],
            started_at,
            data["timeout_seconds"],
            data["queue"],
            data["priority"],
            data.get("key"),
            data.get("origin"),
        )
        at = started_at.timestamp()
        self.flow.started(data["queue"], at)
        if attempt.key is not None or self.admission:
            self.admission.started(event.stream_id, data["queue"], data["priority"], attempt.key, at)
        self._running[event.stream_id] = attempt
        self._started[event.stream_id] = attempt
        self._ended.discard(event.stream_id)

    def _attempt_over(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        ended = self._end(event.stream_id)
        if self.admission:
            self.admission.over(event.stream_id)
        if event.type == "AttemptSucceeded":
            self._ended_as("succeeded", event, None if ended is None else ended.origin)
            return
        retry_at = data.get("retry_at")
        if retry_at is not None:
            self.timers.add(event.stream_id, datetime.fromisoformat(retry_at), event.position)

    def _dispatched(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        if data.get("reason") != "missing":
            self._count(data["queue"], data["priority"], 1)
        if data.get("key") is not None or self.admission:
            self.admission.dispatched(event.stream_id, data["queue"], data["priority"], data.get("key"))

    def _requeued(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        waits = data.get("waits")
        if waits is None:
            self._count(data["queue"], data["priority"], 1)
        elif waits == "limits":
            self._join(event, data)

    def _held(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        if data["was"] == "queued":
            self._count(data["queue"], data["priority"], -1)
        self._join(event, data)

    def _met(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        if data["run_at"] is not None:
            self.timers.add(event.stream_id, datetime.fromisoformat(data["run_at"]), event.position)
        elif data["state"] == "waiting":
            self._join(event, data)

    def _join(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        self.admission.join(event.stream_id, data["queue"], data["priority"], data.get("key"), event.position)

    def _dead(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        self._ended_as("failed", event, data.get("origin"))

    def _left(self, event: FeedEvent, data: Mapping[str, Any]) -> None:
        """Cancelled, expired or given another time."""
        self._end(event.stream_id)
        self.timers.drop(event.stream_id)
        if data["was"] == "waiting" or self.admission:
            self.admission.leave(event.stream_id, data["queue"], data["priority"], data.get("key"))
        if data["was"] == "queued":
            self._count(data["queue"], data["priority"], -1)
        if event.type == "JobRescheduled":
            self.timers.add(event.stream_id, datetime.fromisoformat(data["run_at"]), event.position)
            return
        self._ended_as("cancelled" if event.type == "JobCancelled" else "expired", event, data.get("origin"))

    def _count(self, queue: str, priority: str, change: int) -> None:
        key = (queue, priority)
        self.queued[key] = self.queued.get(key, 0) + change
        self._counted.add(key)

    def _end(self, job_id: str) -> Running | None:
        ended = self._running.pop(job_id, None)
        if ended is None:
            return None
        self._decided_at.pop(job_id, None)
        self._started.pop(job_id, None)
        if ended.queue is not None:
            self._just_ended.append(ended.queue)
        if job_id in self._saved:
            self._ended.add(job_id)
        return ended

    def running(self) -> Mapping[str, Running]:
        """The attempts that run, by job; only to be read."""
        return self._running

    @property
    def running_count(self) -> int:
        """How many attempts run."""
        return len(self._running)

    def take_change(self) -> Change:
        """What the projection has to save now. What started and ended in between leaves no trace."""
        counts = {key: self.queued[key] for key in self._counted}
        started = [
            RunningAttempt(
                job_id=UUID(job_id),
                attempt=running.attempt,
                version=running.version,
                executor=running.executor,
                started_at=running.started_at,
                timeout_seconds=running.timeout_seconds,
                queue=running.queue,
                priority=running.priority,
                key=running.key,
                origin=running.origin,
            )
            for job_id, running in self._started.items()
        ]
        ended = [UUID(job_id) for job_id in self._ended]
        change = Change(self.position, started, ended, counts, self.admission.take_change())
        self._saved.difference_update(self._ended)
        self._saved.update(self._started)
        self._started, self._ended, self._counted = {}, set(), set()
        for key in [key for key, count in self.queued.items() if count == 0]:
            del self.queued[key]
        return change

    # -- who is alive ------------------------------------------------------------------------------------------------

    def members(self, alive: Iterable[str] | None) -> None:
        """The executors that are alive; None: nobody can say, so nobody is dead."""
        if alive is None:
            self._members = None
            self._missing_since.clear()
            self._seen.clear()
            return
        self._members = frozenset(alive)
        self._seen.update(self._members)

    def _gone(self, now: datetime) -> set[str]:
        """Executors that have been missing for longer than the grace."""
        if self._members is None:
            return set()
        executors = {running.executor for running in self._running.values()}
        missing = executors - self._members
        self._seen.intersection_update(executors | self._members)
        self._missing_since = {executor: self._missing_since.get(executor, now) for executor in missing}
        return {
            executor
            for executor, since in self._missing_since.items()
            if now - since >= (GONE_GRACE if executor in self._seen else UNSEEN_GRACE)
        }

    # -- what follows ------------------------------------------------------------------------------------------------

    def due(self, now: datetime, limit: int) -> list[Decision]:
        """Jobs whose time has come, at most `limit`; each is named once."""
        return [Decision(UUID(job_id), c.ActOnTime()) for job_id in self.timers.take_due(now, limit)]

    def lost(self, now: datetime, limit: int) -> list[Decision]:
        """Attempts that nobody runs any more, at most `limit`."""
        gone = self._gone(now)
        decisions = []
        for job_id, attempt in self._running.items():
            reason = None
            if attempt.executor in gone:
                reason = f"executor {attempt.executor} is gone"
            elif attempt.timeout_seconds is not None:
                deadline = attempt.started_at + timedelta(seconds=attempt.timeout_seconds) + DEADLINE_GRACE
                if deadline <= now:
                    reason = "its timeout has passed and its executor has not ended it"
            if reason is None:
                continue
            decided_at = self._decided_at.get(job_id)
            if decided_at is not None and now - decided_at < REPEAT:
                continue
            self._decided_at[job_id] = now
            decisions.append(Decision(UUID(job_id), c.LoseAttempt(attempt=attempt.attempt, reason=reason)))
            if len(decisions) >= limit:
                break
        return decisions


_EFFECTS: dict[str, Callable[[LeaderState, FeedEvent, Mapping[str, Any]], None]] = {
    "JobSubmitted": LeaderState._submitted,  # noqa: SLF001 - the table is part of the class
    "JobDispatched": LeaderState._dispatched,  # noqa: SLF001
    "JobRequeued": LeaderState._requeued,  # noqa: SLF001
    "AttemptStarted": LeaderState._attempt_started,  # noqa: SLF001
    "AttemptSucceeded": LeaderState._attempt_over,  # noqa: SLF001
    "AttemptFailed": LeaderState._attempt_over,  # noqa: SLF001
    "AttemptLost": LeaderState._attempt_over,  # noqa: SLF001
    "JobCancelled": LeaderState._left,  # noqa: SLF001
    "JobExpired": LeaderState._left,  # noqa: SLF001
    "JobRescheduled": LeaderState._left,  # noqa: SLF001
    "JobHeld": LeaderState._held,  # noqa: SLF001
    "DependenciesMet": LeaderState._met,  # noqa: SLF001
    "JobDead": LeaderState._dead,  # noqa: SLF001
    "QueueChanged": LeaderState._queue_changed,  # noqa: SLF001
}
