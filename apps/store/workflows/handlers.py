"""What the store does with workflows and batches: accept all of their jobs or none, read, cancel, retry.

The whole submission is one unit of the log: nobody ever sees half of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request
from uuid_utils.compat import uuid7

from rota_server.adapters.codec import decode
from rota_server.apps.store.http.fields import check_key, digest_of
from rota_server.apps.store.jobs.histories import jobs_from
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.resources import Changed, ResourceChange, Resources
from rota_server.apps.store.tasks.names import TaskNames
from rota_server.apps.store.workflows.parsing import Members, WorkflowRequests
from rota_server.domain.errors import NotPossible, Rejected, Unavailable, Unreadable
from rota_server.domain.events import Event
from rota_server.domain.ids import Version
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import ENDED
from rota_server.domain.jobs.spec import JobSpec, Origin
from rota_server.domain.log import Appended, Meta, StreamWrite, Unit
from rota_server.domain.ports.indexes import HeadRow, JobFilter, ResourceRow
from rota_server.domain.workflows.workflow import (
    BatchSubmitted,
    Kind,
    Workflow,
    WorkflowSubmitted,
    cancel,
    evolve_workflow,
    head_of_workflow,
    member_id,
    reopen,
    workflow_id_from_key,
    workflow_of,
)

MAX_ROUNDS = 20
READ = 500
"""Jobs that are read together."""

TURN = 100
"""Jobs that are decided before others get a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowView:
    """A workflow or batch as it is: its row, how many of its jobs are in each state."""

    row: ResourceRow
    workflow: Workflow
    counts: Mapping[str, int]


class Workflows:
    """The handlers of one kind, without HTTP."""

    def __init__(self, kind: Kind, parts: Parts, resources: Resources) -> None:
        self.kind = kind
        self._parts = parts
        self._index = parts.index
        self._log = parts.log
        self._commit = parts.commit
        self._now = parts.now
        self._resources = resources
        self._requests = WorkflowRequests(parts, TaskNames(parts.catalog))

    # -- submission --------------------------------------------------------------------------------------------------

    async def submit(self, value: Any, given_key: str | None, meta: Meta) -> Changed:
        """Accept all of its jobs, or none. Raises Rejected; Unavailable when it is unknown whether it was accepted."""
        key = check_key(given_key)
        workflow_id = uuid7() if key is None else workflow_id_from_key(self.kind, key)
        digest = None if key is None else digest_of(value)
        ask = self._requests.workflow if self.kind == "workflow" else self._requests.batch
        members = await ask(value, workflow_id)
        submitted = self._submitted(members, workflow_id, key, digest)
        workflow = evolve_workflow(None, submitted)
        for _ in range(MAX_ROUNDS):
            unit = await self._unit(workflow_id, submitted, workflow, members, meta)
            result = await self._commit.append(unit)
            if isinstance(result, Appended):
                row = await self._resources.load(self.kind, str(workflow_id))
                return Changed(row, result.last_position, new=True)
            if result.queue is None:
                return await self._repeated(workflow_id, digest)
            self._resources.modes.refused(result.queue)
        raise Unavailable("the queues changed in every round", server="postgres")

    def _submitted(self, members: Members, workflow_id: UUID, key: str | None, digest: str | None) -> Event:
        total = len(members.jobs)
        if self.kind == "workflow":
            return WorkflowSubmitted(
                name=members.name or "", total=total, nodes=members.graph, idempotency_key=key, request_digest=digest
            )
        then = None if members.then is None else str(member_id(workflow_id, "then"))
        return BatchSubmitted(name=members.name, total=total, then=then, idempotency_key=key, request_digest=digest)

    async def _unit(
        self, workflow_id: UUID, submitted: Event, workflow: Workflow, members: Members, meta: Meta
    ) -> Unit:
        managed = await self._resources.modes.managed()
        now = self._now()
        correlated = replace(meta, correlation_id=meta.correlation_id or str(workflow_id))
        head = head_of_workflow(workflow, workflow_id)
        writes = [StreamWrite(stream_id=workflow_id, expected_version=Version(0), events=[submitted], head=head)]
        for number, (name, spec) in enumerate(members.jobs.items()):
            if number % TURN == 0:
                await asyncio.sleep(0)
            own = replace(spec, origin=Origin(kind=self.kind, id=workflow_id, name=name))
            writes.append(_job_write(member_id(workflow_id, name), own, managed, correlated, now))
        if members.then is not None:
            writes.append(_job_write(member_id(workflow_id, "then"), members.then, managed, correlated, now))
        return Unit(id=uuid7(), writes=writes, meta=correlated)

    async def _repeated(self, workflow_id: UUID, digest: str | None) -> Changed:
        row = await self._resources.find(self.kind, str(workflow_id))
        if row is None or row.doc["request_digest"] != digest:
            message = "Idempotency-Key: was used for another request"
            raise Rejected(message, field="Idempotency-Key", code="key-reused")
        return Changed(row, row.position, new=False)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def load(self, reference: str) -> ResourceRow:
        """The row of the group with this id. Raises NotFound."""
        return await self._resources.load(self.kind, reference)

    async def view(self, row: ResourceRow) -> WorkflowView:
        """The group as it is."""
        return _view(row, await self._index.states_of_origin(row.id) if row.active else {})

    async def page(self, request: Request, doc: Mapping[str, Any]) -> tuple[list[WorkflowView], str | None]:
        """One page of the list, newest first."""
        rows, following = await self._resources.page(request, self.kind, doc=doc)
        going_on = [row.id for row in rows if row.active]
        counts = await self._index.states_of_origins(going_on) if going_on else {}
        return [_view(row, counts.get(row.id, {})) for row in rows], following

    async def nodes(self, row: ResourceRow) -> dict[str, tuple[Sequence[str], UUID, HeadRow | None]]:
        """For each node of a workflow: whom it waits for, its job's id, and that job's row."""
        first = await self._log.read_stream_page(row.id, 0, 1)
        submitted = decode(first[0]).event if first else None
        if not isinstance(submitted, WorkflowSubmitted):
            raise Unreadable(f"the stream of workflow {row.id} does not begin with its submission")
        ids = {node: member_id(row.id, node) for node in submitted.nodes}
        heads = await self._heads(list(ids.values()))
        return {node: (after, ids[node], heads.get(ids[node])) for node, after in submitted.nodes.items()}

    async def job(self, job_id: UUID) -> HeadRow | None:
        """The row of one job."""
        return (await self._index.get([job_id])).get(job_id)

    async def _heads(self, ids: Sequence[UUID]) -> dict[UUID, HeadRow]:
        heads: dict[UUID, HeadRow] = {}
        for start in range(0, len(ids), READ):
            heads |= await self._index.get(ids[start : start + READ])
        return heads

    # -- changes -----------------------------------------------------------------------------------------------------

    async def cancel(self, reference: str, reason: str | None, meta: Meta) -> Changed:
        """Ask for the end of all its jobs that have not ended; the leader sees to it. Raises NotFound, NotPossible."""
        workflow_id = (await self.load(reference)).id

        def decide_cancel(row: ResourceRow | None, _now: datetime) -> ResourceChange | None:
            workflow = _existing(row)
            event = cancel(workflow, reason)
            if event is None:
                return None
            return ResourceChange(events=[event], head=head_of_workflow(evolve_workflow(workflow, event), workflow_id))

        return await self._resources.change(workflow_id, decide_cancel, _correlated(meta, workflow_id))

    async def retry(self, reference: str, reason: str | None, meta: Meta) -> Changed:
        """Let those of its jobs run again that did not succeed, each behind its predecessors, all in one unit.

        Raises NotFound, NotPossible, Unavailable.
        """
        workflow_id = (await self.load(reference)).id
        meta = _correlated(meta, workflow_id)
        for _ in range(MAX_ROUNDS):
            row = await self.load(str(workflow_id))
            workflow = _existing(row)
            writes = await self._retries(row, workflow, c.RetryJob(reason=reason, dependencies=True), meta)
            event = reopen(workflow, len(writes), reason)
            head = head_of_workflow(evolve_workflow(workflow, event), workflow_id)
            own = StreamWrite(stream_id=workflow_id, expected_version=row.version, events=[event], head=head)
            result = await self._commit.append(Unit(id=uuid7(), writes=[own, *writes], meta=meta))
            if isinstance(result, Appended):
                return Changed(await self.load(str(workflow_id)), result.last_position, new=True)
            if result.queue is not None:
                self._resources.modes.refused(result.queue)
        raise Unavailable("its jobs changed in every round", server="postgres")

    async def _retries(
        self, row: ResourceRow, workflow: Workflow, command: c.RetryJob, meta: Meta
    ) -> list[StreamWrite]:
        """What lets those jobs run again that have ended without success, predecessors first."""
        ended = [head for state in sorted(ENDED - {"succeeded"}) for head in await self._members(row.id, state)]
        ended.sort(key=lambda head: head.first_position)
        if workflow.then is not None:
            then = await self.job(UUID(workflow.then))
            ended += [then] if then is not None and then.state in ENDED - {"succeeded"} else []
        managed = await self._resources.modes.managed()
        now = self._now()
        writes: list[StreamWrite] = []
        for start in range(0, len(ended), READ):
            part = [head.id for head in ended[start : start + READ]]
            found = await jobs_from(self._log, part)
            for job_id in part:
                job = found.get(job_id)
                if job is None or job.state not in ENDED - {"succeeded"}:
                    continue  # it has just been retried by itself
                informed = replace(command, managed=job.spec.queue in managed)
                write, _ = write_for(job, job_id, decide(job, informed, now), meta, now)
                writes.append(write)
        return writes

    async def _members(self, workflow_id: UUID, state: str) -> list[HeadRow]:
        found: list[HeadRow] = []
        before = None
        while True:
            where = JobFilter(origin_id=workflow_id, state=state)
            rows = await self._index.find(where, before=before, limit=READ)
            found += rows
            if len(rows) < READ:
                return found
            before = rows[-1].first_position


def _job_write(job_id: UUID, spec: JobSpec, managed: frozenset[str], meta: Meta, now: datetime) -> StreamWrite:
    command = c.SubmitJob(spec=spec, managed=spec.queue in managed)
    write, _ = write_for(None, job_id, decide(None, command, now), meta, now)
    return write


def _view(row: ResourceRow, counts: Mapping[str, int]) -> WorkflowView:
    """The view with these counts, or those at its end."""
    workflow = workflow_of(row.doc)
    return WorkflowView(row=row, workflow=workflow, counts=counts if workflow.counts is None else workflow.counts)


def _existing(row: ResourceRow | None) -> Workflow:
    if row is None:
        raise NotPossible("it does not exist any more")
    return workflow_of(row.doc)


def _correlated(meta: Meta, workflow_id: UUID) -> Meta:
    return meta if meta.correlation_id is not None else replace(meta, correlation_id=str(workflow_id))
