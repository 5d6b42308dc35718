"""Records when a workflow or batch has ended or runs again, and ends the jobs of one that is to be cancelled.

The leader's checkpoint waits for this: what ended up to it was looked at, and what has to be recorded of it is in the
log. A cancellation that a dead leader left half done its successor finds in the groups' own state.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from uuid_utils.compat import uuid7

from rota_server.apps.histories import histories_of
from rota_server.domain.errors import Unavailable
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.events import JobCancelled
from rota_server.domain.leader_state import Decision, End
from rota_server.domain.log import Appended, Meta, StreamWrite, Unit
from rota_server.domain.messaging import FeedEvent
from rota_server.domain.ports.indexes import HeadRow, JobFilter, ResourceRow
from rota_server.domain.workflows.watch import WorkflowWatch
from rota_server.domain.workflows.workflow import (
    KINDS,
    Workflow,
    evolve_workflow,
    head_of_workflow,
    reconcile,
    unended,
    workflow_of,
)

if TYPE_CHECKING:
    from rota_server.apps.scheduler.extensions.extension import TermContext

BATCH = 200
"""Groups that are looked at together."""

READ = 500
"""Jobs that are read together."""

CANCELLING_LIMIT = 10_000
LONGEST_SLEEP_SECONDS = 1.0
CANCEL_ORDER = ("waiting", "scheduled", "retrying", "queued", "running")
"""What waits goes first, so that nothing begins because what it waited for was cancelled."""

TOUCHING = ("WorkflowCancelRequested", "BatchCancelRequested", "WorkflowReopened", "BatchReopened")
"""Events of groups after which these are looked at. One that was reopened may have no job that is left to end: only the
one behind a batch runs again."""


class WorkflowsExtension:
    """The extension of the leader. See the module."""

    name = "groups"

    def __init__(self, context: TermContext) -> None:
        self._context = context
        self._log = context.parts.event_log
        self._index = context.parts.index
        self._resources = context.parts.resources
        self._watch = WorkflowWatch()
        self._loaded = False
        self._settled_at = context.state.position
        self._settling = asyncio.Condition()
        self._looking = False
        self._woken = asyncio.Event()
        context.state.attach_to_ends(self._ended)
        context.state.attach("JobRequeued", self._requeued)
        for event_type in TOUCHING:
            context.state.attach(event_type, self._workflow_changed)

    async def run(self) -> None:
        """Do it forever."""
        if not self._loaded:
            for kind in KINDS:
                found = await self._resources.find(
                    kind, active=True, doc={"state": "cancelling"}, limit=CANCELLING_LIMIT
                )
                for row in found:
                    self._watch.touch(str(row.id))
            self._loaded = True
        while True:
            self._woken.clear()
            await self._look()
            if self._watch.idle:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LONGEST_SLEEP_SECONDS):
                        await self._woken.wait()

    async def settled(self, position: Position) -> None:
        """Return once all groups that ends up to `position` have touched were looked at."""
        if self._watch.idle and not self._looking:
            return
        self._woken.set()
        async with self._settling:
            await self._settling.wait_for(lambda: self._settled_at >= position)

    # -- what happens ------------------------------------------------------------------------------------------------

    def _ended(self, end: End) -> None:
        if end.origin is not None:
            self._watch.job_ended(end.origin)
            self._wake()

    def _requeued(self, event: FeedEvent) -> None:
        origin = event.data.get("origin")
        if origin is not None:
            self._watch.touch(origin)
            self._wake()

    def _workflow_changed(self, event: FeedEvent) -> None:
        self._watch.touch(event.stream_id)
        self._wake()

    def _wake(self) -> None:
        if not self._watch.idle:
            self._woken.set()

    # -- what follows ------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Look at all that was touched up to now."""
        position = self._context.state.position
        self._looking = True
        while taken := self._watch.take(self._context.parts.clock.now(), BATCH):
            try:
                await self._look_at(taken)
            except Unavailable:
                for workflow in taken:
                    self._watch.touch(workflow)
                raise
        self._looking = False
        async with self._settling:
            self._settled_at = max(self._settled_at, position)
            self._settling.notify_all()

    async def _look_at(self, taken: list[str]) -> None:
        rows = await self._resources.get([UUID(workflow) for workflow in taken])
        workflows = {str(row.id): row for row in rows.values() if row.kind in KINDS}
        self._watch.foreign(workflow for workflow in taken if workflow not in workflows)
        units: list[Unit] = []
        counts = await self._index.states_of_origins([row.id for row in workflows.values()])
        for row in workflows.values():
            unit = await self._reconcile(row, counts.get(row.id, {}))
            if unit is not None:
                units.append(unit)
        for unit, result in zip(units, await self._context.carries_out.append(units), strict=True):
            if not isinstance(result, Appended):
                # Somebody else wrote to its stream first: what is to be recorded now may be something else.
                self._watch.touch(str(unit.writes[0].stream_id))

    async def _reconcile(self, row: ResourceRow, counts: dict[str, int]) -> Unit | None:
        """What has to be recorded of a group with so many jobs in each state; goes on with cancelling it."""
        key, workflow = str(row.id), workflow_of(row.doc)
        left = unended(counts)
        if workflow.state == "cancelling" and left:
            await self._cancel(row, workflow)
            self._watch.cancelling(key, self._context.parts.clock.now())
        by_hand = left == 0 and workflow.active and await self._cancelled_by_hand(row.id, counts)
        event = reconcile(workflow, counts, cancelled_by_hand=by_hand)
        if left:
            self._watch.counted(key, left)
        else:
            self._watch.over(key)
        if event is None:
            return None
        meta = Meta(actor=self._context.carries_out.actor, correlation_id=key, term=self._context.term)
        head = head_of_workflow(evolve_workflow(workflow, event), row.id)
        write = StreamWrite(stream_id=row.id, expected_version=row.version, events=[event], head=head)
        return Unit(id=uuid7(), writes=[write], meta=meta)

    async def _cancelled_by_hand(self, workflow_id: UUID, counts: dict[str, int]) -> bool:
        """Whether one of its jobs was cancelled for another reason than a predecessor's end."""
        if not counts.get("cancelled") or counts.get("failed") or counts.get("expired"):
            return False  # nothing was, or it does not matter
        before: Position | None = None
        while True:
            where = JobFilter(origin_id=workflow_id, state="cancelled")
            rows = await self._index.find(where, before=before, limit=READ)
            if any(cause != "dependency" for cause in (await self._cancel_causes(rows)).values()):
                return True
            if len(rows) < READ:
                return False
            before = rows[-1].first_position

    async def _cancel_causes(self, rows: Sequence[HeadRow]) -> dict[UUID, str | None]:
        """Why each of these jobs was cancelled at last."""
        causes: dict[UUID, str | None] = {row.id: None for row in rows}
        async for history in histories_of(self._log, dict.fromkeys(causes, 0)):
            for recorded in history:
                if isinstance(recorded.event, JobCancelled):
                    causes[recorded.stream_id] = recorded.event.cause
        return causes

    async def _cancel(self, row: ResourceRow, workflow: Workflow) -> None:
        """Ask every job for its end that has not ended; one that moves just now is asked at the next time."""
        command = c.RequestCancel(reason=workflow.reason or f"its {workflow.kind} was cancelled")
        if workflow.then is not None:
            await self._context.carries_out.carry_out([Decision(UUID(workflow.then), command)])
        for state in CANCEL_ORDER:
            before: Position | None = None
            while True:
                where = JobFilter(origin_id=row.id, state=state)
                found = await self._index.find(where, before=before, limit=READ)
                await self._context.carries_out.carry_out([Decision(job.id, command) for job in found])
                if len(found) < READ:
                    break
                before = found[-1].first_position
