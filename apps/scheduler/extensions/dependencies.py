"""Lets jobs run that waited for others, or cancels them when what they waited for cannot come true any more.

Nothing here has to be done before the leader's checkpoint moves on: a new leader reads the whole table of dependencies
after it was elected, and looks at every dependent of which a predecessor has ended; whatever ends later it sees in the
feed. A row leaves the table only when its job does not wait any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from uuid import UUID

from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.dependencies import OPEN, Dependencies, Status, Verdict
from rota_server.domain.jobs.spec import after_from_json
from rota_server.domain.leader_state import Decision, End
from rota_server.domain.messaging import FeedEvent

if TYPE_CHECKING:
    from rota_server.apps.scheduler.extensions.extension import TermContext

BATCH = 500
"""Dependents that are looked at, or decided, together."""

EDGES = 20_000
"""Predecessors that are looked at together."""

LONGEST_SLEEP_SECONDS = 1.0

LEAVES = ("JobDispatched", "DependenciesMet", "JobCancelled", "JobExpired")
"""Events after which a job does not wait for others."""

GROUP_ENDS = ("WorkflowEnded", "BatchEnded")
GROUP_REOPENINGS = ("WorkflowReopened", "BatchReopened")


class DependenciesExtension:
    """The extension of the leader. See the module."""

    name = "dependencies"

    def __init__(self, context: TermContext) -> None:
        self._context = context
        self._table = context.parts.dependencies
        self._state = Dependencies()
        self._loaded = False
        self._woken = asyncio.Event()
        state = context.state
        state.attach_to_ends(self._ended)
        state.attach("JobSubmitted", self._submitted)
        state.attach("JobRequeued", self._requeued)
        for event_type in LEAVES:
            state.attach(event_type, self._left)
        for event_type in GROUP_ENDS:
            state.attach(event_type, self._group_ended)
        for event_type in GROUP_REOPENINGS:
            state.attach(event_type, self._reopened)

    async def run(self) -> None:
        """Do it forever."""
        if not self._loaded:
            pairs, undecided, left = await self._table.load()
            self._state.found(pairs, undecided)
            self._state.found_left(left)
            self._loaded = True
        await self._context.caught_up.wait()
        while True:
            await self._look()
            await self._decide()
            await self._forget()
            self._context.parts.metrics.dependents.set(len(self._state))
            await self._sleep()

    async def settled(self, position: Position) -> None:
        """Nothing has to be waited for. See the module."""

    # -- what happens ------------------------------------------------------------------------------------------------

    def _submitted(self, event: FeedEvent) -> None:
        if event.data.get("waits") == "dependencies":
            self._state.submitted(event.stream_id, after_from_json(event.data["spec"]["after"]))
            self._woken.set()

    def _requeued(self, event: FeedEvent) -> None:
        self._state.ended(event.stream_id, OPEN, event.position)
        if event.data.get("waits") == "dependencies":
            self._state.waits_again(event.stream_id)
            self._woken.set()

    def _left(self, event: FeedEvent) -> None:
        if event.stream_id in self._state:
            self._state.left(event.stream_id)
            self._woken.set()

    def _ended(self, end: End) -> None:
        self._state.ended(end.job_id, end.state, end.position)
        self._wake()

    def _group_ended(self, event: FeedEvent) -> None:
        self._state.ended(event.stream_id, event.data["state"], event.position)
        self._wake()

    def _reopened(self, event: FeedEvent) -> None:
        self._state.ended(event.stream_id, OPEN, event.position)

    def _wake(self) -> None:
        if not self._state.idle:
            self._woken.set()

    # -- what follows ------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Load what is needed to judge those that were submitted, or of which a predecessor has ended."""
        while fresh := self._state.take_fresh(BATCH, EDGES):
            try:
                if unknown := self._state.without_details(fresh):
                    self._state.details(unknown, await self._table.afters(unknown))
                predecessors = self._state.predecessors(fresh)
                statuses: dict[str, Status] = {}
                for start in range(0, len(predecessors), EDGES):
                    statuses |= await self._table.statuses(predecessors[start : start + EDGES])
            except Unavailable:
                self._state.again(fresh)
                raise
            self._state.statuses(fresh, statuses)

    async def _decide(self) -> None:
        while verdicts := self._state.verdicts(self._context.parts.clock.now(), BATCH):
            try:
                await self._context.carries_out.carry_out([_decision(verdict) for verdict in verdicts])
            except Unavailable:
                self._state.again(verdict.dependent for verdict in verdicts)
                raise

    async def _forget(self) -> None:
        while left := self._state.take_left(BATCH):
            try:
                forgotten = await self._table.forget(left)
            except Unavailable:
                self._state.found_left(left)
                raise
            if skipped := [dependent for dependent in left if dependent not in forgotten]:
                # Just being changed, which is over in a moment, or waiting again; a later round finds out.
                self._state.found_left(skipped)
                return

    async def _sleep(self) -> None:
        """Until something has happened, or a verdict has to be repeated."""
        now = self._context.parts.clock.now()
        at = self._state.repeat(now)
        seconds = LONGEST_SLEEP_SECONDS if at is None else max(0.0, (at - now).total_seconds())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, LONGEST_SLEEP_SECONDS)):
                await self._woken.wait()
        self._woken.clear()


def _decision(verdict: Verdict) -> Decision:
    command: c.Command = c.MeetDependencies()
    if verdict.kind == "cancel":
        command = c.FailDependencies(reason=verdict.reason or "")
    return Decision(UUID(verdict.dependent), command)
