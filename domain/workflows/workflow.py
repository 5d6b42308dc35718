"""Workflows and batches: jobs that were submitted together and whose whole has a status. Their streams, their states.

What a group consists of stands in its first event and never changes; how far it is, its jobs' own states say. Its
stream only records that it was submitted, that its end was asked for, that it has ended, and that it runs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID, uuid5

from rota_server.domain.errors import NotPossible, Unreadable
from rota_server.domain.events import Event, event, made, named
from rota_server.domain.ids import NAMESPACE
from rota_server.domain.jobs.job import ENDED
from rota_server.domain.log import ResourceHead

Kind = Literal["workflow", "batch"]
KINDS: tuple[Kind, ...] = ("workflow", "batch")

NODES_LIMIT = 5_000
EDGES_LIMIT = 100_000
"""How many times jobs of one workflow may wait for another one, in all."""

BATCH_LIMIT = 10_000

End = Literal["succeeded", "failed", "cancelled"]


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSubmitted(Event):
    """A graph of jobs was accepted. `nodes`: for each its name and whom it waits for; predecessors stand first.

    The id of a node's job follows from the workflow's id and the node's name.
    """

    name: str
    total: int
    nodes: Mapping[str, Sequence[str]]
    idempotency_key: str | None = None
    request_digest: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCancelRequested(Event):
    """Somebody wants all jobs of the workflow to end."""

    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowEnded(Event):
    """All jobs of the workflow have ended, so many in each state."""

    state: End
    counts: Mapping[str, int]


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowReopened(Event):
    """`jobs` jobs of the workflow that had ended are to run again."""

    jobs: int
    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSubmitted(Event):
    """`total` jobs were accepted together; the id of each follows from the batch's id and its place, from 0.

    `then`: the job that waits for the batch's end.
    """

    name: str | None
    total: int
    then: str | None = None
    idempotency_key: str | None = None
    request_digest: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCancelRequested(Event):
    """Somebody wants all jobs of the batch to end."""

    reason: str | None = None


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnded(Event):
    """All jobs of the batch have ended, so many in each state."""

    state: End
    counts: Mapping[str, int]


@event
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReopened(Event):
    """`jobs` jobs of the batch that had ended are to run again."""

    jobs: int
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """The state of a workflow or batch. `counts` are those at its end, None while it goes on.

    `reason` is why it was cancelled, or runs again.
    """

    kind: Kind
    name: str | None
    total: int
    state: str = "running"
    counts: Mapping[str, int] | None = None
    reason: str | None = None
    then: str | None = None
    idempotency_key: str | None = None
    request_digest: str | None = None

    @property
    def active(self) -> bool:
        """Whether it goes on."""
        return self.state in ("running", "cancelling")


def evolve_workflow(workflow: Workflow | None, happened: Event) -> Workflow:
    """The group after this event. Raises Unreadable when it cannot follow."""
    match happened:
        case WorkflowSubmitted() | BatchSubmitted() if workflow is None:
            return Workflow(
                kind="workflow" if isinstance(happened, WorkflowSubmitted) else "batch",
                name=happened.name,
                total=happened.total,
                then=happened.then if isinstance(happened, BatchSubmitted) else None,
                idempotency_key=happened.idempotency_key,
                request_digest=happened.request_digest,
            )
        case WorkflowCancelRequested() | BatchCancelRequested() if workflow is not None:
            return replace(workflow, state="cancelling", reason=happened.reason)
        case WorkflowEnded() | BatchEnded() if workflow is not None:
            return replace(workflow, state=happened.state, counts=happened.counts)
        case WorkflowReopened() | BatchReopened() if workflow is not None:
            return replace(workflow, state="running", counts=None, reason=happened.reason)
    raise Unreadable(f"{named(happened)} has no place here in the stream of a workflow or batch")


def fold_workflow(history: Iterable[Event]) -> Workflow | None:
    """The group that this history describes; None for an empty one."""
    workflow: Workflow | None = None
    for happened in history:
        workflow = evolve_workflow(workflow, happened)
    return workflow


def head_of_workflow(workflow: Workflow, workflow_id: UUID) -> ResourceHead:
    """The row that stands for the group. Its name need not be unique, so the row's is its id."""
    doc = {
        "kind": workflow.kind,
        "name": workflow.name,
        "total": workflow.total,
        "state": workflow.state,
        "counts": None if workflow.counts is None else dict(workflow.counts),
        "reason": workflow.reason,
        "then": workflow.then,
        "idempotency_key": workflow.idempotency_key,
        "request_digest": workflow.request_digest,
    }
    return ResourceHead(kind=workflow.kind, name=str(workflow_id), doc=doc, active=workflow.active)


def workflow_of(doc: Mapping[str, Any]) -> Workflow:
    """The group that this row's doc stands for."""
    return made(Workflow, doc)


# -- names -----------------------------------------------------------------------------------------------------------


def workflow_id_from_key(kind: Kind, idempotency_key: str) -> UUID:
    """The id of the group that was or will be submitted under this idempotency key."""
    return uuid5(NAMESPACE, f"{kind}-key:{idempotency_key}")


def member_id(workflow_id: UUID, name: str) -> UUID:
    """The id of the job with this name within the group: a node's name, a place in a batch, or `then`."""
    return uuid5(workflow_id, name)


# -- what may be asked -----------------------------------------------------------------------------------------------


def cancel(workflow: Workflow, reason: str | None) -> Event | None:
    """The event of a request to end all its jobs; None when that was asked for already. Raises NotPossible."""
    if workflow.state == "cancelling":
        return None
    if not workflow.active:
        raise NotPossible(f"the {workflow.kind} has {workflow.state} and cannot be cancelled any more", code="ended")
    requested = WorkflowCancelRequested if workflow.kind == "workflow" else BatchCancelRequested
    return requested(reason=reason)


def reopen(workflow: Workflow, jobs: int, reason: str | None) -> Event:
    """The event of letting so many of its jobs run again. Raises NotPossible."""
    if workflow.state == "cancelling":
        raise NotPossible(f"the {workflow.kind} is being cancelled; it can be retried once it has ended")
    if jobs == 0:
        raise NotPossible(f"no job of the {workflow.kind} has failed, expired or been cancelled")
    reopened = WorkflowReopened if workflow.kind == "workflow" else BatchReopened
    return reopened(jobs=jobs, reason=reason)


def unended(counts: Mapping[str, int]) -> int:
    """How many of so many jobs in each state have not ended."""
    return sum(count for state, count in counts.items() if state not in ENDED)


def reconcile(workflow: Workflow, counts: Mapping[str, int], *, cancelled_by_hand: bool) -> Event | None:
    """What has to be recorded of the group when so many of its jobs are in each state; None: nothing.

    `cancelled_by_hand`: of those that were cancelled one was so for another reason than a predecessor's end. A job
    that what it waits for has left out says nothing of the whole: only what failed, or was cancelled, does.
    """
    left = unended(counts)
    if workflow.active and left == 0:
        ended = WorkflowEnded if workflow.kind == "workflow" else BatchEnded
        return ended(state=_outcome(counts, cancelled_by_hand=cancelled_by_hand), counts=dict(sorted(counts.items())))
    if not workflow.active and left > 0:
        return reopen(workflow, left, "a job of it runs again")
    return None


def _outcome(counts: Mapping[str, int], *, cancelled_by_hand: bool) -> End:
    if counts.get("failed") or counts.get("expired"):
        return "failed"
    return "cancelled" if cancelled_by_hand else "succeeded"
