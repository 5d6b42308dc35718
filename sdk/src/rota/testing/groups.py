"""Workflows and batches in memory."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Mapping, Optional, Union

from rota.errors import Conflict, NotFound, Refused
from rota.groups import Group, GroupHandle, Workflow, batch_json, judged
from rota.jobs import ENDED
from rota.keywords import refuse_ambiguous, within

if TYPE_CHECKING:
    from rota.testing.memory import MemoryClient, MemoryHandle


class MemoryGroupHandle(GroupHandle):
    """As `GroupHandle`; to wait is to let the client's clock go on."""

    _client: Any

    def wait(self, timeout: Optional[float] = None, *, raise_on_failure: bool = True) -> Group:
        """Let time pass until all of its jobs have ended. Raises WaitTimeout, GroupFailed."""
        self._client.run_until(lambda: self.refresh().ended, self.id, timeout, self.kind, self.refresh)
        return judged(self.refresh(), raise_on_failure=raise_on_failure)

    def job(self, node: str) -> "MemoryHandle[Any]":
        """A job of the workflow, or the one behind the batch (`then`). Raises KeyError."""
        found: "MemoryHandle[Any]" = super().job(node)  # type: ignore[assignment]
        return found

    def _read(self, patience: Optional[float]) -> Group:  # noqa: ARG002 - nothing to be patient with
        return self._client.groups.read(self.kind, self.id)  # type: ignore[no-any-return]

    def _act(self, action: str, reason: Optional[str]) -> Group:
        return getattr(self._client.groups, action)(self.kind, self.id, reason)  # type: ignore[no-any-return]


class MemoryGroups:
    """All workflows and batches of a client."""

    def __init__(self, client: "MemoryClient") -> None:
        self._client = client
        self._groups: "Dict[str, Dict[str, Any]]" = {}
        self._keys: "Dict[str, str]" = {}

    def submit(self, kind: str, body: "Mapping[str, Any]", key: Optional[str]) -> MemoryGroupHandle:
        """Accept all of its jobs or none."""
        if key is not None and key in self._keys:
            return self.handle(kind, self._keys[key])
        refuse_ambiguous(within(kind, body), self._client.parameters_of)
        group_id = str(uuid.uuid4())
        jobs = dict(body["jobs"]) if kind == "workflow" else {str(n): job for n, job in enumerate(body["jobs"])}
        if not jobs:
            raise _refused("jobs", "jobs: must hold at least one job")
        ids = {node: str(uuid.uuid4()) for node in jobs}
        then = body.get("then")
        members = [
            (node, self._client.prepared(spec, ids[node], ids if kind == "workflow" else {}, f"jobs.{node}"))
            for node, spec in jobs.items()
        ]
        behind = None
        if then is not None:
            then = {**then, "after": then.get("after") or [{"job": "batch", "outcome": "ended"}]}
            behind = self._client.prepared(then, str(uuid.uuid4()), {"batch": group_id}, "then", known=(group_id,))
        if kind == "workflow":
            _refuse_circle({node: [one["job"] for one in fields["after"] or ()] for node, fields in members}, ids)
        self._groups[group_id] = {
            "id": group_id, "kind": kind, "name": body.get("name"), "jobs": ids, "reason": None, "asked": False,
            "then": None if behind is None else behind["id"], "submitted_at": self._client.now.isoformat(),
        }  # fmt: skip
        if key is not None:
            self._keys[key] = group_id
        for node, fields in members:
            fields["origin"] = {"kind": kind, "id": group_id, "name": node}
        self._client.add([fields for _, fields in members] + ([behind] if behind else []))
        return self.handle(kind, group_id)

    def handle(self, kind: str, group_id: str) -> MemoryGroupHandle:
        """The group with this id."""
        return MemoryGroupHandle(self._client, kind, group_id)  # type: ignore[arg-type]

    def read(self, kind: str, group_id: str) -> Group:
        """The group as it is. Raises NotFound."""
        group = self._groups.get(group_id)
        if group is None or group["kind"] != kind:
            raise NotFound(404, {"detail": f"there is no {kind} {group_id}", "field": "id"})
        jobs = {node: self._client.get(job_id) for node, job_id in group["jobs"].items()}
        fields: "Dict[str, Any]" = {
            "id": group_id, "name": group["name"], "state": self._state(group), "total": len(jobs),
            "counts": dict(Counter(job.state for job in jobs.values())), "reason": group["reason"],
            "submitted_at": group["submitted_at"],
        }  # fmt: skip
        if kind == "workflow":
            names = {job_id: node for node, job_id in group["jobs"].items()}
            fields["jobs"] = {
                node: {
                    "id": job.id,
                    "state": job.state,
                    "after": [names.get(one["job"], one["job"]) for one in job.after or ()],
                }
                for node, job in jobs.items()
            }
        elif group["then"] is None:
            fields["then"] = None
        else:
            fields["then"] = {"id": group["then"], "state": self._client.get(group["then"]).state}
        return Group(kind, fields)

    def all(self, kind: str, **filters: Any) -> "Iterator[Group]":
        """Those with these fields, newest first."""
        for group_id, group in reversed(list(self._groups.items())):
            if group["kind"] == kind:
                found = self.read(kind, group_id)
                if all(found.fields.get(name) == value for name, value in filters.items()):
                    yield found

    def cancel(self, kind: str, group_id: str, reason: Optional[str]) -> Group:
        """End all of its jobs that have not ended, and the one behind them. Raises Conflict when it has ended."""
        if self.read(kind, group_id).ended:
            raise Conflict(409, {"detail": f"the {kind} has ended", "field": "state"})
        group = self._groups[group_id]
        group.update(asked=True, reason=reason)
        for job_id in [*group["jobs"].values(), *([group["then"]] if group["then"] else [])]:
            if self._client.get(job_id).state not in ENDED:
                self._client.cancel(job_id, reason)
        return self.read(kind, group_id)

    def retry(self, kind: str, group_id: str, reason: Optional[str]) -> Group:
        """Let those of its jobs run again that did not succeed. Raises Conflict when there are none."""
        self.read(kind, group_id)
        group = self._groups[group_id]
        again = [job for job in group["jobs"].values() if self._client.get(job).state in ENDED - {"succeeded"}]
        if not again:
            raise Conflict(409, {"detail": f"no job of the {kind} can run again", "field": "state"})
        group.update(asked=False, reason=reason)
        self._client.reopen(again, reason)
        return self.read(kind, group_id)

    def state_of(self, group_id: str) -> Optional[str]:
        """The state of a group; None when there is none with this id."""
        group = self._groups.get(group_id)
        return None if group is None else self._state(group)

    def result_of(self, group_id: str) -> "Optional[Dict[str, Any]]":
        """What the group's end gives to who waits for it."""
        group = self._groups.get(group_id)
        if group is None or self._state(group) not in ENDED:
            return None
        found = self.read(group["kind"], group_id).fields
        return {name: found[name] for name in ("state", "total", "counts")}

    def _state(self, group: "Mapping[str, Any]") -> str:
        jobs = [self._client.get(job_id) for job_id in group["jobs"].values()]
        if any(job.state not in ENDED for job in jobs):
            return "cancelling" if group["asked"] else "running"
        if any(job.state in ("failed", "expired") for job in jobs):
            return "failed"
        by_hand = any(self._client.cancelled_by_hand(job.id) for job in jobs if job.state == "cancelled")
        return "cancelled" if by_hand else "succeeded"


class GroupCalls:
    """The part of `MemoryClient` that has to do with workflows and batches."""

    groups: MemoryGroups

    def submit_workflow(
        self, flow: "Union[Workflow, Mapping[str, Any]]", *, idempotency_key: Optional[str] = None
    ) -> MemoryGroupHandle:
        """As `Client.submit_workflow`."""
        body = flow.as_json() if isinstance(flow, Workflow) else dict(flow)
        return self.groups.submit("workflow", body, idempotency_key)

    def submit_batch(
        self,
        jobs: "Iterable[Mapping[str, Any]]",
        *,
        then: Optional[Mapping[str, Any]] = None,
        name: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> MemoryGroupHandle:
        """As `Client.submit_batch`."""
        return self.groups.submit("batch", batch_json(jobs, then, name), idempotency_key)

    def workflow(self, workflow_id: str) -> MemoryGroupHandle:
        """The workflow with this id."""
        return self.groups.handle("workflow", workflow_id)

    def batch(self, batch_id: str) -> MemoryGroupHandle:
        """The batch with this id."""
        return self.groups.handle("batch", batch_id)

    def workflows(self, **filters: Any) -> "Iterator[Group]":
        """Workflows with this `name` and `state`, newest first."""
        return self.groups.all("workflow", **filters)

    def batches(self, **filters: Any) -> "Iterator[Group]":
        """Batches with this `name` and `state`, newest first."""
        return self.groups.all("batch", **filters)


def _refuse_circle(graph: "Mapping[str, List[str]]", ids: "Mapping[str, str]") -> None:
    names = {job_id: node for node, job_id in ids.items()}
    left = {node: {names[one] for one in after if one in names} for node, after in graph.items()}
    while left:
        free = [node for node, after in left.items() if not after & left.keys()]
        if not free:
            node = next(iter(left))
            raise _refused(f"jobs.{node}.after", f"jobs.{node}.after: jobs wait for each other in a circle")
        for node in free:
            del left[node]


def _refused(field: str, detail: str) -> Refused:
    return Refused(422, {"detail": detail, "field": field})
