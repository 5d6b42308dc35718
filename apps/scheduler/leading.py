"""What a leader does for as long as it leads: follow the feed, act on time, watch the executors, keep the projection.

Every decision goes through the log under the leader's term, so a leader that does not know yet that it is over can do
no harm. When the leadership is lost everything here ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from adapters.postgres.running_attempts import PostgresRunningAttempts
from apps.scheduler.carrying_out import BATCH, CarriesOut
from apps.scheduler.missing_work import MissingWork
from domain.brain import HORIZON, TIMERS_LIMIT, Brain, Change
from domain.errors import NotLeader, Unavailable
from domain.ids import Position
from domain.messaging import Feed
from domain.ports import Coordination, JobIndex

log = logging.getLogger("rota.scheduler")

SAVE_SECONDS = 0.1
LOOK_SECONDS = 0.5
"""How often attempts of executors that are gone are looked for, and the longest sleep between timers."""

PAUSE_SECONDS = 0.5
BLIND_SECONDS = 6.0
"""After an outage of the coordination service nobody is taken for dead for this long: all sessions are new."""


class Leading:
    """One leader's services around its brain."""

    def __init__(
        self,
        brain: Brain,
        carries_out: CarriesOut,
        *,
        feed: Feed,
        index: JobIndex,
        projection: PostgresRunningAttempts,
        coordination: Coordination,
        missing_work: MissingWork,
        now: Callable[[], datetime],
    ) -> None:
        self.brain = brain
        self._carries_out = carries_out
        self._feed = feed
        self._index = index
        self._projection = projection
        self._coordination = coordination
        self._missing_work = missing_work
        self._now = now
        self._woken = asyncio.Event()
        self._saved = brain.position
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """All services side by side; an error of one ends all. Raises NotLeader, Corruption."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._patiently("feed", self._follow))
            group.create_task(self._patiently("timers", self._act_on_time))
            group.create_task(self._patiently("members", self._watch_members))
            group.create_task(self._patiently("losses", self._declare_losses))
            group.create_task(self._patiently("projection", self._save))
            group.create_task(self._patiently("missing work", lambda: self._missing_work.watch(self.brain)))

    async def _patiently(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await service()
            except Unavailable as error:
                log.warning("%s waits: %s", name, error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self) -> None:
        async for batch in self._feed.follow(self.brain.position):
            self.brain.apply(batch.events)
            self._changed.set()
            timer = self.brain.next_timer()
            if timer is not None and timer <= self._now():
                self._woken.set()

    async def _act_on_time(self) -> None:
        while True:
            now = self._now()
            if self.brain.wants_timers(now):
                until = now + HORIZON
                self.brain.load_timers(await self._index.due(until, TIMERS_LIMIT), until)
            decisions = self.brain.due(self._now(), BATCH)
            if decisions:
                try:
                    await self._carries_out.carry_out(decisions)
                except Unavailable:
                    for decision in decisions:
                        self.brain.schedule(decision.job_id, now)
                    raise
                continue
            await self._sleep_until_due()

    async def _sleep_until_due(self) -> None:
        timer = self.brain.next_timer()
        seconds = LOOK_SECONDS
        if timer is not None:
            seconds = min(seconds, max(0.0, (timer - self._now()).total_seconds()))
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _watch_members(self) -> None:
        try:
            async for members in self._coordination.watch_members("executor"):
                self.brain.members([member.id for member in members])
        except Unavailable as error:
            log.warning("nobody can say which executors are alive: %s", error)
            self.brain.members(None)
            await asyncio.sleep(BLIND_SECONDS)

    async def _declare_losses(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            decisions = self.brain.lost(self._now(), BATCH)
            if decisions:
                log.warning("%d attempts are lost: %s", len(decisions), decisions[0].command)
                await self._carries_out.carry_out(decisions)

    async def _save(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            change = self.brain.take_change()
            old = self._saved
            while not await self._try_save(old, change):
                await asyncio.sleep(PAUSE_SECONDS)
            self._saved = change.position
            await asyncio.sleep(SAVE_SECONDS)

    async def _try_save(self, old: Position, change: Change) -> bool:
        """False while PostgreSQL is away. Raises NotLeader when somebody else keeps the projection."""
        try:
            saved = await self._projection.save(
                old=old,
                new=change.position,
                started=change.started,
                ended=change.ended,
                counts=change.counts,
            )
            if not saved and await self._projection.checkpoint() != change.position:
                raise NotLeader("another leader keeps the projection", own_term=0)
        except Unavailable as error:
            log.warning("the projection waits: %s", error)
            return False
        return True
