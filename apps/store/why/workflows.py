"""Why a workflow or batch goes on or ended as it did: from its counts, and from the jobs that decide about it.

Explains the few jobs that matter most, by the same reasons that each of them has when it is asked about by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from rota_server.apps.store.why.jobs import Why
from rota_server.apps.store.workflows.handlers import Workflows, WorkflowView
from rota_server.domain.jobs.job import ENDED
from rota_server.domain.ports.indexes import JobFilter, JobIndex
from rota_server.domain.workflows.workflow import Kind

NAMED = 5
"""Jobs that are explained; the others are counted."""

FAILED = ("failed", "cancelled", "expired")
GOING_ON = ("running", "retrying", "queued", "scheduled", "waiting")
"""The order in which unfinished jobs are named: what runs before what only waits for it."""


class WhyWorkflows:
    """Explains workflows and batches."""

    def __init__(self, workflows: Mapping[Kind, Workflows], index: JobIndex, why: Why) -> None:
        self._workflows = workflows
        self._index = index
        self._why = why

    async def explain(self, kind: Kind, reference: str) -> dict[str, Any]:
        """Return its state and the reasons for it. Raises NotFound, Unavailable."""
        workflows = self._workflows[kind]
        view = await workflows.view(await workflows.load(reference))
        reasons = [_summary(kind, view), *await self._jobs(view)]
        return {
            "id": str(view.row.id),
            "name": view.workflow.name,
            "state": view.workflow.state,
            "reasons": reasons,
            "summary": " ".join(reason["text"] for reason in reasons),
            "position": view.row.position,
        }

    async def _jobs(self, view: WorkflowView) -> list[dict[str, Any]]:
        """Return a reason for each of the jobs that matter most: those that failed, then those that go on."""
        if view.workflow.state == "succeeded":
            return []
        wanted = FAILED if not view.workflow.active else (*FAILED, *GOING_ON)
        reasons: list[dict[str, Any]] = []
        for state in wanted:
            if not view.counts.get(state) or len(reasons) >= NAMED:
                continue
            rows = await self._index.find(
                JobFilter(origin_id=view.row.id, state=state), before=None, limit=NAMED - len(reasons)
            )
            reasons += [await self._job(row.id) for row in rows]
        return reasons

    async def _job(self, job_id: UUID) -> dict[str, Any]:
        explained = await self._why.explain(job_id)
        name = explained["name"]
        called = f"Job {name}" if name is not None else f"Job {job_id}"
        return {
            "code": "job_ended" if explained["state"] in ENDED else "job_goes_on",
            "text": f"{called} is {explained['state']}: {explained['summary']}",
            "job": str(job_id),
            "name": name,
            "state": explained["state"],
            "reasons": explained["reasons"],
        }


def _summary(kind: Kind, view: WorkflowView) -> dict[str, Any]:
    workflow = view.workflow
    counts = ", ".join(f"{count} {state}" for state, count in sorted(view.counts.items())) or "none counted yet"
    because = "" if workflow.reason is None else f" ({workflow.reason})"
    verb = "ended as" if not workflow.active else "is"
    text = f"The {kind} {verb} {workflow.state}{because}; of its {workflow.total} jobs: {counts}."
    return {"code": workflow.state, "text": text, "counts": dict(view.counts), "because": workflow.reason}
