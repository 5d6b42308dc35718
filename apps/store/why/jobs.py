"""Why a job is not running now, or why it ended as it did: from its events, the limits, and who is alive.

Every reason is a `code` that programs may compare, a sentence, and the facts behind it. Invents nothing: what is not
known is not said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from rota_server.apps.histories import changes_of
from rota_server.apps.store.jobs.handlers import Jobs
from rota_server.apps.store.parts import Parts
from rota_server.domain.admission.queues import FREE, KIND, QueueSettings, RateLimit, settings_from_json
from rota_server.domain.admission.rates import limiter_for, limiter_from
from rota_server.domain.errors import NotFound, Unavailable
from rota_server.domain.events import UnreadableEvent
from rota_server.domain.executors import Abilities, knows, serves
from rota_server.domain.ids import Position
from rota_server.domain.jobs.events import JobSubmitted
from rota_server.domain.jobs.job import ENDED, Job, follow
from rota_server.domain.jobs.spec import JobSpec, Predecessor, lane_of
from rota_server.domain.log import Recorded
from rota_server.domain.ports.coordination import Member
from rota_server.domain.ports.indexes import QueueFigures, ResourceRow

HOLDERS = 10
"""Jobs that hold a limit and are named; the others are counted."""

ENDS = {
    "AttemptSucceeded",
    "JobDead",
    "JobCancelled",
    "JobExpired",
}

Reason = dict[str, Any]


class Why:
    """Explains jobs."""

    def __init__(self, parts: Parts, jobs: Jobs) -> None:
        self._parts = parts
        self._jobs = jobs
        self._facts = parts.limits

    async def explain(self, job_id: UUID) -> dict[str, Any]:
        """What is known about why. Raises NotFound, Unavailable."""
        job, history = await self._told(job_id)
        explain: Callable[[Job, Sequence[Recorded]], Awaitable[list[Reason]]] = getattr(self, f"_{job.state}")
        reasons = _unreadable(job) or await explain(job, history)
        if job.state not in ENDED:
            reasons += await self._obstacles()
        origin = job.spec.origin
        return {
            "id": job.id,
            "name": None if origin is None else origin.name,
            "state": job.state,
            "reasons": reasons,
            "summary": " ".join(reason["text"] for reason in reasons),
            "position": job.position,
        }

    async def _told(self, job_id: UUID) -> tuple[Job, list[Recorded]]:
        """The job, and of its history the last event of each type, in order: a history may be of any length."""
        job: Job | None = None
        last: dict[type, Recorded] = {}
        async for recorded in changes_of(self._parts.log, job_id):
            if job is None and isinstance(recorded.event, UnreadableEvent):
                job = await self._jobs.get(job_id)
                break
            if job is None and not isinstance(recorded.event, JobSubmitted):
                break
            job = follow(job, recorded)
            last[type(recorded.event)] = recorded
        if job is None:
            raise NotFound(f"there is no job {job_id}", field="id")
        return job, sorted(last.values(), key=lambda recorded: recorded.position)

    # -- what has ended ----------------------------------------------------------------------------------------------

    async def _succeeded(self, job: Job, history: Sequence[Recorded]) -> list[Reason]:
        text = f"It succeeded in attempt {job.attempt} on {job.executor}."
        return [_reason("succeeded", text, attempt=job.attempt, executor=job.executor, **_cause(history))]

    async def _failed(self, job: Job, history: Sequence[Recorded]) -> list[Reason]:
        error = job.error
        said = "" if error is None else f" The last one said {error.type}: {_line(error.message)}."
        text = f"It failed for good after {job.attempt} attempts ({job.reason}).{said}"
        return [
            _reason(
                "failed",
                text,
                attempts=job.attempt,
                **_budgets(job),
                because=job.reason,
                error=error,
                **_cause(history),
            )
        ]

    async def _cancelled(self, job: Job, history: Sequence[Recorded]) -> list[Reason]:
        ends = [recorded for recorded in history if type(recorded.event).__name__ == "JobCancelled"]
        wish = [recorded for recorded in history if type(recorded.event).__name__ == "CancelRequested"]
        actor = (wish or ends)[-1].meta.actor
        cause = getattr(ends[-1].event, "cause", None)
        because = "" if job.reason is None else f": {job.reason}"
        code = {"dependency": "dependency_failed", "replaced": "replaced"}.get(str(cause), "cancelled")
        text = f"{actor} cancelled it{because}."
        return [_reason(code, text, by=actor, because=job.reason, **_cause(history))]

    async def _expired(self, job: Job, history: Sequence[Recorded]) -> list[Reason]:
        event = history[-1].event
        was = getattr(event, "was", "waiting")
        expires_at = getattr(event, "expires_at", job.expires_at)
        text = f"It was still {was} when it expired at {_text(expires_at)}."
        return [_reason("expired", text, was=was, expires_at=expires_at, **_cause(history))]

    # -- what runs or has its time -----------------------------------------------------------------------------------

    async def _running(self, job: Job, history: Sequence[Recorded]) -> list[Reason]:
        text = f"It runs: attempt {job.attempt} on {job.executor} since {_text(job.started_at)}."
        reasons = [_reason("running", text, attempt=job.attempt, executor=job.executor, since=job.started_at)]
        if job.cancel_requested:
            wish = next(r for r in reversed(history) if type(r.event).__name__ == "CancelRequested")
            reasons.append(_reason("cancel_requested", f"{wish.meta.actor} has asked for its end.", by=wish.meta.actor))
        alive = {member.id for member in await self._executors() or ()}
        if job.executor not in alive:
            reasons.append(_reason("executor_gone", f"{job.executor} is not seen alive now.", executor=job.executor))
        return reasons

    async def _scheduled(self, job: Job, _history: Sequence[Recorded]) -> list[Reason]:
        seconds = 0.0 if job.run_at is None else (job.run_at - self._parts.now()).total_seconds()
        if seconds > 0:
            text = f"Its time has not come: it is to run at {_text(job.run_at)}, in {seconds:.0f} s."
            return [_reason("not_due", text, run_at=job.run_at)]
        text = f"Its time has come at {_text(job.run_at)}; the leader will dispatch it."
        return [_reason("due", text, run_at=job.run_at), *await self._without_leader()]

    async def _retrying(self, job: Job, _history: Sequence[Recorded]) -> list[Reason]:
        error = job.error
        said = "failed" if error is None else f"failed ({error.type}: {_line(error.message)})"
        text = f"Attempt {job.attempt} {said}; the next one is due at {_text(job.run_at)}."
        facts = {"attempt": job.attempt, **_budgets(job), "run_at": job.run_at}
        overdue = job.run_at is not None and job.run_at < self._parts.now()
        return [_reason("retry", text, error=error, **facts), *(await self._without_leader() if overdue else ())]

    async def _queued(self, job: Job, _history: Sequence[Recorded]) -> list[Reason]:
        spec = job.spec
        figures = (await self._parts.queues.figures([spec.queue])).get(spec.queue, QueueFigures())
        text = f"It is dispatched to queue {spec.queue} ({spec.priority}) since {_text(job.dispatched_at)}."
        reasons = [
            _reason(
                "queued", text, queue=spec.queue, priority=spec.priority, since=job.dispatched_at, queued=figures.queued
            )
        ]
        executors = await self._executors()
        if executors is None:
            return reasons
        serving = [member for member in executors if serves(member.info, spec.queue)]
        able = [member for member in serving if knows(member.info, spec.task)]
        if not serving:
            text = f"No executor that is alive works on queue {spec.queue}."
            reasons.append(_reason("no_executor", text, executors=len(executors)))
        elif not able:
            reasons.append(_nobody_knows(spec, serving))
        else:
            slots = sum(int(member.info.get("slots", 0)) for member in able)
            text = (
                f"{len(able)} executors with {slots} slots can take it; {figures.queued} jobs of the queue are queued."
            )
            reasons.append(_reason("waits_for_slot", text, executors=[member.id for member in able], slots=slots))
        return reasons

    # -- what waits --------------------------------------------------------------------------------------------------

    async def _waiting(self, job: Job, history: Sequence[Recorded]) -> list[Reason]:
        if job.awaits == "dependencies":
            return await self._dependencies(job)
        return await self._limits(job, history)

    async def _dependencies(self, job: Job) -> list[Reason]:
        after = job.spec.after
        assert after is not None  # noqa: S101 - who awaits dependencies has them
        rows = await self._parts.index.get([p.id for p in after.predecessors])
        others = await self._parts.resources.get([p.id for p in after.predecessors if p.id not in rows])
        reasons = []
        for predecessor in after.predecessors:
            state = _state_of(predecessor, rows, others)
            if _satisfied(predecessor, state):
                continue
            text = f"It waits for {predecessor.name} to have {_wish(predecessor)}; that one is {state}."
            facts = {"job": predecessor.id, "name": predecessor.name, "outcome": predecessor.outcome, "now": state}
            reasons.append(_reason("predecessor", text, mode=after.mode, on_failure=after.on_failure, **facts))
        if not reasons or (after.mode == "any" and len(reasons) < len(after.predecessors)):
            reasons.append(_reason("released", "What it waited for has come true; the leader will release it."))
        return [*reasons, *await self._without_leader()]

    async def _limits(self, job: Job, _history: Sequence[Recorded]) -> list[Reason]:
        spec = job.spec
        row = (await self._parts.resources.by_name(KIND, [spec.queue])).get(spec.queue)
        settings = FREE if row is None else settings_from_json(row.doc)
        reasons = _pause(spec.queue, settings, row)
        reasons += await self._concurrency(spec.queue, None, settings.concurrency)
        if spec.key is not None:
            reasons += await self._concurrency(spec.queue, spec.key, settings.concurrency_per_key)
            reasons += await self._rate(spec.queue, spec.key, settings.rate_per_key)
        reasons += await self._rate(spec.queue, None, settings.rate)
        ahead = await self._facts.ahead(lane_of(spec.queue, spec.priority, spec.key), _since(job))
        whose = "" if spec.key is None else f" of key {spec.key}"
        text = f"{ahead} jobs are ahead of it in the line{whose} in queue {spec.queue} ({spec.priority})."
        reasons.append(_reason("line", text, queue=spec.queue, key=spec.key, priority=spec.priority, ahead=ahead))
        executors = await self._executors() or ()
        if Abilities(executors).lacks(spec.queue, spec.task):
            reasons.append(_nobody_knows(spec, [m for m in executors if serves(m.info, spec.queue)]))
        return [*reasons, *await self._without_leader()]

    async def _concurrency(self, queue: str, key: str | None, limit: int | None) -> list[Reason]:
        if limit is None:
            return []
        count, holders = await self._facts.holders(queue, key, HOLDERS)
        if count < limit:
            return []
        what = f"queue {queue}" if key is None else f"key {key} in queue {queue}"
        text = f"The limit of {limit} jobs at once for {what} is reached: {count} run or are about to."
        code = "concurrency" if key is None else "concurrency_per_key"
        return [_reason(code, text, queue=queue, key=key, limit=limit, count=count, holders=holders)]

    async def _rate(self, queue: str, key: str | None, limit: RateLimit | None) -> list[Reason]:
        if limit is None:
            return []
        state = await self._facts.meter(queue, key or "")
        meter = limiter_for(limit) if state is None else limiter_from(limit, state)
        now = self._parts.now().timestamp()
        if meter.capacity_left(now, 0) > 0:
            return []
        at = datetime.fromtimestamp(meter.next_capacity(now), UTC)
        what = f"queue {queue}" if key is None else f"key {key} in queue {queue}"
        text = f"The rate of {limit.limit} starts in {limit.per:g} s for {what} is used up until {_text(at)}."
        code = "rate" if key is None else "rate_per_key"
        return [_reason(code, text, queue=queue, key=key, limit=limit.limit, per=limit.per, until=at)]

    async def _without_leader(self) -> list[Reason]:
        try:
            leader = await self._parts.coordination.leader()
        except Unavailable as error:
            return [_reason("leader_unknown", f"Whether anybody leads is not known now: {error}.")]
        if leader is None:
            return [_reason("no_leader", "No scheduler leads now; nothing that needs a leader's decision goes on.")]
        return []

    async def _obstacles(self) -> list[Reason]:
        """Sessions at the database that keep all jobs, and so this one, from going on."""
        found = await self._parts.obstacles()
        return [_reason("blocked", f"{_upper(str(one))}.", what=one.what, session=one.pid) for one in found]

    async def _executors(self) -> list[Member] | None:
        """Who is alive; None: nobody can say."""
        try:
            return await self._parts.coordination.members("executor")
        except Unavailable:
            return None


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _budgets(job: Job) -> dict[str, int]:
    retry = job.spec.retry
    return {
        "failures": job.failures,
        "max_attempts": retry.max_attempts,
        "losses": job.losses,
        "max_losses": retry.max_losses,
    }


def _reason(code: str, text: str, **facts: Any) -> Reason:
    return {"code": code, "text": text, **facts}


def _unreadable(job: Job) -> list[Reason]:
    if job.unreadable is None:
        return []
    text = f"Its history cannot be read by this version of Rota, which decides nothing about it: {job.unreadable}."
    return [_reason("unreadable", text, because=job.unreadable, last_known=job.state)]


def _nobody_knows(spec: JobSpec, serving: Sequence[Member]) -> Reason:
    text = f"No executor that works on queue {spec.queue} knows the task {spec.task}; it starts as soon as one does."
    facts = {"queue": spec.queue, "task": spec.task, "executors": [member.id for member in serving]}
    return _reason("no_executor_for_task", text, **facts)


def _cause(history: Sequence[Recorded]) -> dict[str, Any]:
    """Which event says so."""
    last = next((r for r in reversed(history) if type(r.event).__name__ in ENDS), history[-1])
    return {"event": last.position, "at": last.recorded_at}


def _pause(queue: str, settings: QueueSettings, row: ResourceRow | None) -> list[Reason]:
    if not settings.paused or row is None:
        return []
    because = "" if settings.pause_reason is None else f": {settings.pause_reason}"
    text = f"Queue {queue} is paused by {settings.paused_by} since {_text(settings.paused_since)}{because}."
    facts = {"by": settings.paused_by, "since": settings.paused_since, "because": settings.pause_reason}
    return [_reason("paused", text, queue=queue, **facts)]


def _state_of(predecessor: Predecessor, rows: Mapping[UUID, Any], others: Mapping[UUID, ResourceRow]) -> str:
    if predecessor.id in rows:
        return str(rows[predecessor.id].state)
    other = others.get(predecessor.id)
    return "unknown" if other is None else str(other.doc.get("state", "open"))


def _satisfied(predecessor: Predecessor, state: str) -> bool:
    if predecessor.outcome == "succeeded":
        return state == "succeeded"
    failed = state in ("failed", "cancelled", "expired")
    return failed if predecessor.outcome == "failed" else failed or state == "succeeded"


def _wish(predecessor: Predecessor) -> str:
    return {"succeeded": "succeeded", "failed": "failed", "ended": "ended"}[predecessor.outcome]


def _since(job: Job) -> Position:
    """A waiting job's last event is the one since which it waits."""
    return job.position


def _line(message: str) -> str:
    return message.splitlines()[0][:200] if message else ""


def _text(instant: datetime | None) -> str:
    return "?" if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
