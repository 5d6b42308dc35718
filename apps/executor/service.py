"""The executor: takes what it has free slots for, claims it, runs it, reports it.

Dies at any point without harm: an entry that was taken but not claimed is taken over by another executor; an attempt
that was claimed is declared lost by the leader once this executor is gone; a report that is not in the log yet is lost
with the attempt, and the retry policy decides.

Never claims under a name that is not registered beyond doubt: the leader would declare such an attempt lost at once.
What was claimed while that came into doubt is looked up in the log before it runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from rota_server.apps.executor.attempt_runs import AttemptRuns
from rota_server.apps.executor.attempts import SESSION_LOST, STOPPED, Lost
from rota_server.apps.executor.claiming import Claimed, Claimer
from rota_server.apps.executor.metrics import AttemptMetrics
from rota_server.apps.executor.slots import Slots
from rota_server.apps.service import Backoff
from rota_server.domain.errors import Unavailable
from rota_server.domain.messaging import WorkItem, WorkQueue
from rota_server.domain.ports.coordination import Registration

log = logging.getLogger("rota.executor")

WAIT_SECONDS = 1.0
RECLAIM_SECONDS = 5.0
DOUBT_SECONDS = 0.1
"""How often one in doubt looks whether it still is."""

GIVE_BACK_SECONDS = 4.0
"""How long a stop waits, after its deadline, until attempts that were ended by force are recorded as lost."""

Give = Callable[[int], Awaitable[list[WorkItem]]]


class Executor:
    """Brings work from the queue into the slots. `identity` is how the log knows it; it changes when it was lost."""

    def __init__(
        self, *, identity: str, slots: Slots, queue: WorkQueue, claimer: Claimer, runs: AttemptRuns,
        metrics: AttemptMetrics,
    ) -> None:  # fmt: skip
        self.identity = identity
        self.draining = False
        self.claiming: set[UUID] = set()
        """Jobs whose claim is under way: nobody knows yet whether they run here."""
        self._slots = slots
        self._queue = queue
        self._claimer = claimer
        self._runs = runs
        self._metrics = metrics
        self._registration: Registration | None = None
        self._settled = asyncio.Event()
        self._filling = 0
        self._acknowledging: set[asyncio.Task[None]] = set()
        self._stopping: Lost | None = None

    # -- liveness ----------------------------------------------------------------------------------------------------

    def registered(self, registration: Registration) -> None:
        """Others see this executor under its present identity: it may claim for as long as that is beyond doubt."""
        self._registration = registration

    def lost(self, new_identity: str) -> None:
        """Others take this executor for dead: end what runs, claim no more until registered again."""
        self._registration = None
        self.identity = new_identity
        self._runs.abandon_all(SESSION_LOST)

    @property
    def certain_since(self) -> float | None:
        """Since when nobody can have taken this executor for dead; None when somebody may."""
        return None if self._registration is None else self._registration.certain_since

    async def _beyond_doubt(self) -> str:
        """Wait until nobody can take this executor for dead; its name then.

        Raises Unavailable when it is to stop meanwhile: others will take over what it has taken.
        """
        while self.certain_since is None:
            if self._stopping is not None:
                raise Unavailable("this executor stops, and cannot tell whether it is taken for dead", server="members")
            await asyncio.sleep(DOUBT_SECONDS)
        return self.identity

    # -- work --------------------------------------------------------------------------------------------------------

    async def take_work(self) -> None:
        """Take and start work forever; returns when draining."""
        backoff = Backoff()
        while not self.draining:
            if self.certain_since is None:
                await asyncio.sleep(DOUBT_SECONDS)
                continue
            if self._slots.free == 0:
                await self._slots.wait_change()
                continue
            try:
                if not await self._fill(self._queue.take):
                    await self._queue.wait(WAIT_SECONDS)
                backoff.succeeded()
            except Unavailable as error:
                log.warning("cannot take work: %s", error)
                await backoff.pause()

    async def reclaim_work(self) -> None:
        """Take over what others took but did not claim, forever."""
        while not self.draining:
            await asyncio.sleep(RECLAIM_SECONDS)
            if self.certain_since is not None:
                await self.take_over()

    async def take_over(self) -> int:
        """Take over and start what others left; how much there was."""
        count = await self._fill(self._queue.reclaim)
        if count:
            log.warning("took over %d dispatches that an executor had left unclaimed", count)
        return count

    async def _fill(self, give: Give) -> int:
        """Ask for as much as there are free slots for, and start it; how much there was."""
        wanted = self._slots.free
        if wanted == 0 or self.draining:
            return 0
        self._slots.take(wanted)
        self._filling += 1
        used = 0
        try:
            items = await give(wanted)
            if items:
                self._slots.give_back(wanted - len(items))
                wanted = len(items)
                used = await self._start(items)
        finally:
            self._slots.give_back(wanted - used)
            self._filling -= 1
            self._settled.set()
        return len(items)

    async def _start(self, items: list[WorkItem]) -> int:
        """Claim the items, run what was won, acknowledge all; the number of slots in use for them."""
        self._metrics.claimed(len(items))
        claiming = {item.job_id for item in items}
        self.claiming |= claiming
        try:
            claimed_at = time.monotonic()
            won, unknown = await self._claimer.claim(items, self._beyond_doubt)
            won = await self._still_ours(won, claimed_at)
            for claimed in won:
                identity = claimed.job.executor or ""
                abandoned = self._stopping
                if abandoned is None and identity != self.identity:
                    abandoned = SESSION_LOST
                self._runs.start(claimed, identity, claimed_at=claimed_at, abandoned=abandoned)
        finally:
            self.claiming -= claiming
        if unknown:
            await self._park(unknown)
            left = {item.position for item, _ in unknown}
            items = [item for item in items if item.position not in left]
        task = asyncio.get_running_loop().create_task(self._acknowledge(items))
        self._acknowledging.add(task)
        task.add_done_callback(self._acknowledging.discard)
        return len(won)

    async def _park(self, unknown: list[tuple[WorkItem, str]]) -> None:
        """Leave to others what this executor has no task for, before anything else is taken."""
        try:
            await self._queue.park(unknown)
        except Unavailable as error:
            # They will be taken over, and parked then.
            log.warning("%d entries could not be left to others: %s", len(unknown), error)

    async def _still_ours(self, won: list[Claimed], began: float) -> list[Claimed]:
        """Those that may run: all, unless this executor may have been taken for dead since the claim began."""
        while won and self._stopping is None and not self._certain_throughout(began):
            if any(claimed.job.executor != self.identity for claimed in won):
                break  # they were claimed under a name that is lost
            await self._beyond_doubt()
            began = time.monotonic()
            won = await self._claimer.still_ours(won)
        return won

    def _certain_throughout(self, began: float) -> bool:
        since = self.certain_since
        return since is not None and since <= began

    async def _acknowledge(self, items: list[WorkItem]) -> None:
        try:
            await self._queue.done(items)
        except Unavailable as error:
            # They will be taken over, found claimed, and dropped.
            log.warning("%d entries could not be acknowledged: %s", len(items), error)
        except Exception:
            log.exception("%d entries could not be acknowledged", len(items))

    # -- the end -----------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float, *, kill: Callable[[], Awaitable[None]]) -> None:
        """Take nothing more, let what runs finish within the time, then end it; everything is reported.

        `kill` ends by force what does not end politely. What was taken already is still claimed and run: nobody else
        could have it soon.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self.draining = True
        self._slots.wake()
        await self._wait_settled(seconds)
        left = await self._runs.wait_all(deadline - loop.time())
        if left or self._filling:
            log.warning("%d attempts did not end within %.0f s and are given back", left, seconds)
            self._stopping = STOPPED
            deadline = loop.time() + GIVE_BACK_SECONDS
            self._runs.abandon_all(self._stopping)
            await kill()
            await self._wait_settled(deadline - loop.time())
            left = await self._runs.wait_all(deadline - loop.time())
            if left:
                log.error("%d attempts could not be recorded as lost; the leader will find them", left)
        if self._acknowledging:
            await asyncio.wait(list(self._acknowledging), timeout=1.0)

    async def _wait_settled(self, seconds: float) -> None:
        """Wait until nothing is being taken or claimed, at most so long."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                while self._filling:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            log.warning("a claim is still under way: the log or the broker does not answer")
