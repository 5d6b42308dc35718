"""Makes the alerts of queues and tasks: a job that tells somebody, once for each job that has failed for good.

The id of an alert follows from the failure, so a failure that two leaders come to is told once. The checkpoint does not
move past a failure that is not told yet. Looks at failed jobs only while some queue or task has an alert. Those of
tasks are read again for each batch of failures, those of queues are kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from rota_server.apps.histories import histories_of
from rota_server.apps.scheduler.extensions.extension import TermContext
from rota_server.domain.admission.queues import KIND
from rota_server.domain.alerts import ACTOR, Alert, alerts_of, beside, declared_alert, is_alert
from rota_server.domain.errors import Rejected, Unreadable
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import Job, follow
from rota_server.domain.leader_state import End
from rota_server.domain.log import Meta, Unit
from rota_server.domain.messaging import FeedEvent
from rota_server.observability import unreadable

log = logging.getLogger("rota.alerts")

BATCH = 100
PAGE = 500


class AlertsExtension:
    """See Extension."""

    name = "alerts"

    def __init__(self, context: TermContext) -> None:
        self._context = context
        self._alerts: dict[str, Mapping[str, Any]] | None = None
        self._failed: deque[End] = deque()
        self._woken = asyncio.Event()
        self._told = asyncio.Condition()
        self._refused: set[str] = set()
        context.state.attach_to_ends(self._ended)
        context.state.attach("QueueChanged", self._changed)

    async def run(self) -> None:
        """See Extension."""
        if self._alerts is None:
            self._alerts = {**await self._load()}
        while True:
            self._woken.clear()
            while self._failed:
                batch = [self._failed[index] for index in range(min(BATCH, len(self._failed)))]
                await self._tell(batch)
                for _ in batch:
                    self._failed.popleft()
                async with self._told:
                    self._told.notify_all()
            await self._woken.wait()

    async def settled(self, position: Position) -> None:
        """See Extension."""
        if self._failed and self._failed[0].position <= position:
            async with self._told:
                await self._told.wait_for(lambda: not self._failed or self._failed[0].position > position)

    # -- what happens ------------------------------------------------------------------------------------------------

    def _ended(self, end: End) -> None:
        if end.state == "failed":
            self._failed.append(end)
            self._woken.set()

    def _changed(self, event: FeedEvent) -> None:
        if self._alerts is None:
            return  # it is read from the table, which has it
        alert = event.data.get("alert")
        if alert is None:
            self._alerts.pop(event.data["name"], None)
        else:
            self._alerts[event.data["name"]] = alert

    async def _load(self) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        before: Position | None = None
        while True:
            rows = await self._context.parts.resources.find(KIND, before=before, limit=PAGE)
            found |= {row.name: row.doc["alert"] for row in rows if row.doc.get("alert") is not None}
            if len(rows) < PAGE:
                return found
            before = rows[-1].first_position

    # -- what follows ------------------------------------------------------------------------------------------------

    async def _tell(self, ends: Sequence[End]) -> None:
        queues, tasks = self._alerts or {}, self._checked(await self._context.parts.tasks.alerts())
        if not queues and not tasks:
            return
        rows = await self._context.parts.index.get([UUID(end.job_id) for end in ends])
        wanted = [
            end
            for end in ends
            if (row := rows.get(UUID(end.job_id))) is not None and (row.queue in queues or row.task in tasks)
        ]
        if not wanted:
            return
        failed = await self._as_they_failed(wanted)
        units: list[Unit] = []
        for end in wanted:
            job = failed.get(end.position)
            if job is not None and not is_alert(job):
                units += self._units(job, end, queues.get(job.spec.queue), tasks.get(job.spec.task))
        # A conflict means that it is told already, by this leader or the one before.
        await self._context.carries_out.append(units)

    def _checked(self, declared: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The alerts of tasks. Whatever stands in the catalogue, it must not stop the leader."""
        found: dict[str, dict[str, Any]] = {}
        for task, alert in declared.items():
            try:
                found[task] = declared_alert(alert)
            except Rejected as error:
                if task not in self._refused:
                    self._refused.add(task)
                    log.error("no alert of the task %s: %s", task, error)  # noqa: TRY400 - the sentence says it
        return found

    def _units(
        self, job: Job, end: End, queue: Mapping[str, Any] | None, task: Mapping[str, Any] | None
    ) -> Iterator[Unit]:
        """What tells whom the queue names, and beside them whom the task names."""
        if queue is not None:
            for alert in alerts_of(job, queue, end.position):
                yield self._unit(job, alert, end, job.spec.queue)
        if task is not None:
            for alert in alerts_of(job, beside(task, queue), end.position, by="task:"):
                yield self._unit(job, alert, end, f"task/{job.spec.task}")

    async def _as_they_failed(self, ends: Sequence[End]) -> dict[Position, Job]:
        """The jobs as they were at these failures; they may have been tried again since."""
        positions = {end.position for end in ends}
        jobs: dict[UUID, Job] = {}
        failed: dict[Position, Job] = {}
        ids = dict.fromkeys((UUID(end.job_id) for end in ends), 0)
        async for history in histories_of(self._context.parts.event_log, ids):
            try:
                for recorded in history:
                    job = jobs[recorded.stream_id] = follow(jobs.get(recorded.stream_id), recorded)
                    if recorded.position in positions:
                        failed[recorded.position] = job
            except Unreadable as error:
                unreadable.note("scheduler", history[0].stream_id, error)
        return failed

    def _unit(self, job: Job, alert: Alert, end: End, whose: str) -> Unit:
        meta = Meta(
            actor=f"{ACTOR}{whose}",
            correlation_id=job.submitted_meta.correlation_id or str(job.id),
            causation_id=str(end.position),
            term=self._context.term,
        )
        now = self._context.parts.clock.now()
        command = c.SubmitJob(spec=alert.spec, managed=alert.spec.queue in self._context.state.managed)
        write, _ = write_for(None, alert.id, decide(None, command, now), meta, now)
        return Unit(id=uuid7(), writes=[write], meta=meta)
