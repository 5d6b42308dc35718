"""Dispatches the jobs that wait for the limits of their queues and keys, as soon as the limits have room.

Which ones, the leader's state decides. When limits change, what is dispatched and has not started is taken back
first. Decides nothing before the state knows all that earlier leaders have written, so no limit is exceeded by a change
of leaders.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from uuid import UUID

from rota_server.apps.scheduler.decision_writer import BATCH
from rota_server.apps.scheduler.extensions.extension import TermContext
from rota_server.apps.scheduler.parts import SchedulerParts
from rota_server.domain.admission.queues import KIND, QueueSettings, settings_from_json
from rota_server.domain.errors import Unavailable
from rota_server.domain.executors import Abilities
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.spec import PRIORITIES
from rota_server.domain.leader_state import Decision, LeaderState
from rota_server.domain.messaging import FeedEvent
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.observability import unreadable

log = logging.getLogger("rota.scheduler")

QUEUES_LIMIT = 100_000
"""Queues with settings that a leader can know."""

LOADS = 200
"""Admission that are read from the index in one go."""

LONGEST_SLEEP_SECONDS = 1.0
FORGET_SECONDS = 30.0
STRAYS_SECONDS = 1.0
MARGIN_SECONDS = 0.05
"""The clock that decides is held so far behind the log's: a start must never look earlier than it will be recorded."""

REPEAT_SECONDS = 0.2

WAKING = (
    "JobSubmitted",
    "JobHeld",
    "DependenciesMet",
    "JobRequeued",
    "AttemptStarted",
    "AttemptSucceeded",
    "AttemptFailed",
    "AttemptLost",
    "JobCancelled",
    "JobExpired",
    "JobRescheduled",
    "QueueChanged",
)


async def begin_admission(state: LeaderState, parts: SchedulerParts) -> None:
    """Let the lanes go on from what the last leader kept. Raises NotLeader, Unavailable."""
    admitted, limiters = await parts.projection.load_admission(state.position)
    lanes = [lane for lane, _ in await parts.index.lanes()]
    settings: dict[str, tuple[QueueSettings, Position]] = {}
    for row in await parts.resources.find(KIND, active=True, limit=QUEUES_LIMIT):
        settings[row.name] = (_settings(row), row.position)
    state.begin_admission(settings, lanes, admitted, limiters)


def _settings(row: ResourceRow) -> QueueSettings:
    """The queue's settings; where they cannot be read, a pause: limits that nobody knows cannot be kept."""
    try:
        return settings_from_json(row.doc)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"the settings of queue {row.name} cannot be read: {error!r}"
        unreadable.note("scheduler", row.id, reason)
        return QueueSettings(paused=True, pause_reason=reason[:200])


class LimitsExtension:
    """The extension."""

    name = "limits"

    def __init__(self, context: TermContext) -> None:
        self._context = context
        self._state = context.state
        self._admission = context.state.admission
        self._index = context.parts.index
        self._woken = asyncio.Event()
        self._forget_at = 0.0
        self._look_at = 0.0
        self._abilities = Abilities()
        for event_type in WAKING:
            context.state.attach(event_type, self._wake)

    def _wake(self, event: FeedEvent) -> None:
        if self._admission or event.type == "JobHeld" or event.data.get("key") is not None or _waits(event):
            self._woken.set()

    async def settled(self, position: Position) -> None:
        """Nothing is owed to an event: whoever begins again finds every waiting job in the index."""

    async def run(self) -> None:
        """Admit forever."""
        await self._context.caught_up.wait()
        while True:
            self._woken.clear()
            self._admission.set_slots(self._state.capacity)
            self._look_for_strays()
            await self._heed_abilities()
            await self._recall()
            loaded = await self._load()
            admitted = await self._admit()
            if not loaded and not admitted:
                await self._sleep()

    def _now(self) -> float:
        return self._context.parts.clock.now().timestamp() - MARGIN_SECONDS

    async def _sleep(self) -> None:
        now = self._now()
        if now >= self._forget_at:
            self._admission.forget_idle(now)
            self._forget_at = now + FORGET_SECONDS
        wake_at = self._admission.wake_at(now)
        seconds = LONGEST_SLEEP_SECONDS if wake_at is None else min(LONGEST_SLEEP_SECONDS, max(0.0, wake_at - now))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _admit(self) -> bool:
        admitted = self._admission.admit(self._now(), BATCH)
        if not admitted:
            return False
        await self._surely([Decision(UUID(job_id), c.DispatchJob(reason="admitted")) for job_id in admitted])
        return True

    async def _surely(self, decisions: Sequence[Decision]) -> None:
        """Carry out until it is known that it is done: the lines count on it already."""
        while True:
            try:
                await self._context.carries_out.carry_out(decisions)
            except Unavailable as error:
                log.warning("limits wait: %s", error)
                self._context.parts.metrics.waits(self.name)
                await asyncio.sleep(REPEAT_SECONDS)
            else:
                return

    async def _load(self) -> bool:
        """Read on in lines of which too little is known."""
        loads = self._admission.loads(LOADS)
        if not loads:
            return False
        done = False
        try:
            found = await self._index.in_lines([(load.lane, load.after) for load in loads], loads[0].limit)
            done = True
        finally:
            for load in loads:
                if done:
                    jobs = [(str(job_id), since) for job_id, since in found.get(load.lane, ())]
                    self._admission.loaded(load, jobs)
                else:
                    self._admission.unloaded(load)
        return True

    async def _recall(self) -> None:
        """Take back what was dispatched to a queue before its present settings held, and has not started."""
        for name, known in self._admission.recalls().items():
            if known:
                await self._surely([Decision(UUID(job_id), c.HoldJob(reason="settings")) for job_id in known])
            if self._queued(name) > self._admission.counts(name)[1]:
                await self._recall_unknown(name)
            self._admission.recalled(name)

    def _look_for_strays(self) -> None:
        """A job that was dispatched to a queue at the very moment at which it became managed is found here."""
        now = self._now()
        if now < self._look_at:
            return
        self._look_at = now + STRAYS_SECONDS
        for name in self._admission.managed:
            if self._queued(name) > self._admission.counts(name)[1]:
                self._admission.recall(name)

    async def _heed_abilities(self) -> None:
        """Executors have come or gone: look again at tasks that nobody knew, take back jobs that nobody knows now.

        What is taken back would use up the limits for as long as nobody who knows its task comes.
        """
        abilities = self._state.abilities
        if abilities.same_as(self._abilities):
            return
        if queues := self._admission.look_again(abilities):
            self._admission.reread(queues, [lane for lane, _ in await self._index.lanes()])
        unstarted = [UUID(job_id) for job_id in self._admission.unstarted()]
        for start in range(0, len(unstarted), BATCH):
            rows = await self._index.get(unstarted[start : start + BATCH])
            unknown = [row for row in rows.values() if row.state == "queued" and abilities.lacks(row.queue, row.task)]
            if unknown:
                await self._surely([Decision(row.id, c.HoldJob(reason="no_executor_for_task")) for row in unknown])
        self._abilities = abilities

    def _queued(self, name: str) -> int:
        return sum(self._state.queued.get((name, priority), 0) for priority in PRIORITIES)

    async def _recall_unknown(self, name: str) -> None:
        """The same for jobs that were dispatched while the queue had no settings, and that nobody counts."""
        async for rows in self._index.scan_queued([(name, priority) for priority in PRIORITIES]):
            unknown = [row.id for row in rows if not self._admission.counts_against_limits(str(row.id))]
            if unknown:
                await self._surely([Decision(job_id, c.HoldJob(reason="settings")) for job_id in unknown])


def _waits(event: FeedEvent) -> bool:
    return event.type == "JobSubmitted" and event.data.get("waits") == "limits"
