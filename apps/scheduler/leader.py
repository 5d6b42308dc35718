"""What a leader does for as long as it leads: follow the feed, act on time, watch the executors, keep the projection.

Every decision goes through the log under the leader's term, so a leader that does not know yet that it is over can do
no harm. When the leadership is lost everything here ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from rota_server.apps.scheduler.decision_writer import BATCH, DecisionWriter
from rota_server.apps.scheduler.extensions.extension import Extension
from rota_server.apps.scheduler.missing_work import MissingWork
from rota_server.apps.scheduler.parts import SchedulerParts
from rota_server.domain.errors import NotLeader, Unavailable
from rota_server.domain.executors import Abilities
from rota_server.domain.ids import Position
from rota_server.domain.leader_state import HORIZON, Change, LeaderState
from rota_server.domain.ports.coordination import Member
from rota_server.observability import unreadable

log = logging.getLogger("rota.scheduler")

SAVE_SECONDS = 0.2
LOOK_SECONDS = 0.5
"""How often attempts of executors that are gone are looked for, and whether timers have to be loaded."""

LONGEST_SLEEP = timedelta(seconds=1)
"""Between two timers; PostgreSQL's time may be corrected meanwhile."""

MEASURE_SECONDS = 1.0
FLOW_SECONDS = 2.0
PAUSE_SECONDS = 0.5
BEGINNING = Position(0)
AWAKE = datetime.min.replace(tzinfo=UTC)


class Leader:
    """One leader's services around what it knows."""

    def __init__(
        self,
        state: LeaderState,
        carries_out: DecisionWriter,
        missing_work: MissingWork,
        parts: SchedulerParts,
        *,
        extensions: Sequence[Extension] = (),
        knows_all_at: Position = BEGINNING,
        caught_up: asyncio.Event | None = None,
    ) -> None:
        self.state = state
        self._extensions = extensions
        self._knows_all_at = knows_all_at
        self._caught_up = caught_up or asyncio.Event()
        self._carries_out = carries_out
        self._missing_work = missing_work
        self._parts = parts
        self._now = parts.clock.now
        self._wakes_at = AWAKE
        self._woken = asyncio.Event()
        self._wants_timers = asyncio.Event()
        self._saved = state.position
        self._changed = asyncio.Event()
        self._taken_in_at = ""

    async def run(self) -> None:
        """All services side by side; an error of one ends all. Raises NotLeader, Corruption."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._patiently("feed", self._follow))
            group.create_task(self._patiently("timers", self._act_on_time))
            group.create_task(self._patiently("loading", self._load_timers))
            group.create_task(self._patiently("members", self._watch_members))
            group.create_task(self._patiently("losses", self._declare_losses))
            group.create_task(self._patiently("projection", self._save))
            group.create_task(self._patiently("missing work", lambda: self._missing_work.watch(self.state)))
            group.create_task(self._patiently("lag", self._measure))
            group.create_task(self._patiently("queue figures", self._tell_flow))
            for extension in self._extensions:
                group.create_task(self._patiently(extension.name, extension.run))

    async def _patiently(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await service()
            except Unavailable as error:
                log.warning("%s waits: %s", name, error)
                self._parts.metrics.waits(name)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self) -> None:
        self._note_catching_up()
        async for batch in self._parts.feed.follow(self.state.position):
            self.state.apply(batch.events)
            self._tell_unreadable()
            self._taken_in_at = batch.events[-1].recorded_at
            self._changed.set()
            self._wake_for_timers()
            self._note_catching_up()

    def _tell_unreadable(self) -> None:
        for event, reason in self.state.unreadable:
            message = f"{event.type} at position {event.position} cannot be taken in: {reason}"
            unreadable.note("scheduler", event.stream_id, message)
        self.state.unreadable.clear()

    def _note_catching_up(self) -> None:
        if self.state.position >= self._knows_all_at:
            self._caught_up.set()

    # -- time --------------------------------------------------------------------------------------------------------

    async def _act_on_time(self) -> None:
        while True:
            decisions = self.state.due(self._now(), BATCH)
            if self.state.timers.wants_load(self._now()):
                self._wants_timers.set()
            if not decisions:
                await self._sleep_until_due()
                continue
            try:
                await self._carries_out.carry_out(decisions)
            except Unavailable:
                for decision in decisions:
                    self.state.timers.again(str(decision.job_id), self._now())
                raise

    async def _sleep_until_due(self) -> None:
        now = self._now()
        earliest = self.state.timers.earliest()
        self._wakes_at = now + LONGEST_SLEEP if earliest is None else min(earliest, now + LONGEST_SLEEP)
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, (self._wakes_at - now).total_seconds())):
                await self._woken.wait()
        self._wakes_at = AWAKE

    def _wake_for_timers(self) -> None:
        """An earlier timer than the one that is slept for may have come."""
        earliest = self.state.timers.earliest()
        if earliest is not None and earliest < self._wakes_at:
            self._woken.set()

    async def _load_timers(self) -> None:
        timers = self.state.timers
        while True:
            if not timers.wants_load(self._now()):
                self._wants_timers.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._wants_timers.wait()
                continue
            until = self._now() + HORIZON
            # Read before the index: whatever is after this position comes by the feed.
            timers.begin_load(until, await self._parts.event_log.last_position())
            try:
                found = await self._parts.index.timers(until, timers.limit)
            except BaseException:
                timers.fail_load()
                raise
            timers.end_load(((str(job_id), due_at) for job_id, due_at in found), len(found))
            self._wake_for_timers()

    # -- executors ---------------------------------------------------------------------------------------------------

    async def _watch_members(self) -> None:
        try:
            async for members in self._parts.coordination.watch_members("executor"):
                self.state.members([member.id for member in members])
                self._note_capacity(members)
        except Unavailable:
            self.state.members(None)  # nobody can say who is alive, so nobody is dead
            raise

    def _note_capacity(self, members: Sequence[Member]) -> None:
        """How many slots there are for each queue, and which tasks can run there."""
        capacity: Counter[str] = Counter()
        for member in members:
            if member.info.get("draining"):
                continue
            for queue in member.info.get("queues", ()):
                capacity[queue] += int(member.info.get("slots", 0))
        self.state.capacity = dict(capacity)
        self.state.abilities = Abilities(members)

    async def _declare_losses(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            decisions = self.state.lost(self._now(), BATCH)
            if decisions:
                log.warning("%d attempts are lost: %s", len(decisions), decisions[0].command)
                await self._carries_out.carry_out(decisions)

    # -- the projection ----------------------------------------------------------------------------------------------

    async def _save(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            change = self.state.take_change()
            for extension in self._extensions:
                await extension.settled(change.position)
            saved = False
            while not saved:
                saved = await self._try_save(self._saved, change)
                if saved:
                    self._saved = change.position
                await asyncio.sleep(SAVE_SECONDS if saved else PAUSE_SECONDS)

    async def _try_save(self, old: Position, change: Change) -> bool:
        """False while PostgreSQL is away. Raises NotLeader when somebody else keeps the projection."""
        try:
            saved = await self._parts.projection.save(
                old=old,
                new=change.position,
                started=change.started,
                ended=change.ended,
                counts=change.counts,
                admission=change.admission,
            )
            if not saved and await self._parts.projection.checkpoint() != change.position:
                raise NotLeader("another leader keeps the projection", own_term=0)
        except Unavailable as error:
            log.warning("the projection waits: %s", error)
            self._parts.metrics.waits("projection")
            return False
        return True

    async def _tell_flow(self) -> None:
        """Tell what queues do, for people who look at them."""
        while True:
            oldest: dict[str, Position] = {}
            streams = [stream for stream, count in self.state.queued.items() if count > 0]
            for (queue, _), position in (await self._parts.streams.oldest(streams)).items():
                oldest[queue] = min(position, oldest.get(queue, position))
            flow = self.state.flow.per_minute(self._now().timestamp())
            await self._parts.queue_flow.save_flow(flow, oldest)
            await asyncio.sleep(FLOW_SECONDS)

    async def _measure(self) -> None:
        while True:
            position, taken_in_at = self.state.position, self._taken_in_at
            behind = max(0, await self._parts.event_log.last_position() - position)
            self._parts.metrics.lag_events.set(behind)
            seconds = 0.0
            if behind and taken_in_at:
                seconds = max(0.0, (self._now() - datetime.fromisoformat(taken_in_at)).total_seconds())
            self._parts.metrics.lag_seconds.set(seconds)
            self._parts.metrics.projection_lag_events.labels("scheduler").set(behind + position - self._saved)
            self._parts.metrics.running.set(self.state.running_count)
            self._parts.metrics.timers.set(len(self.state.timers))
            await asyncio.sleep(MEASURE_SECONDS)
