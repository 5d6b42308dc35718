"""Workflows and batches: jobs that are submitted together and whose whole can be waited for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Union

from rota.configured import Instant, Predecessor
from rota.declaring import AfterMode, OnFailure, Priority, RetryOptions, Unique
from rota.errors import GroupFailed
from rota.jobs import NOT_GIVEN, TaskLike, spec_of
from rota.tasks import DEFAULT, Default
from rota.transport import in_path
from rota.waiting import Waiting

if TYPE_CHECKING:
    from rota.async_client import AsyncClient, AsyncJobHandle
    from rota.client import Client, JobHandle

ENDED = frozenset({"succeeded", "failed", "cancelled"})

Path = Union[str, List[Union[str, int]]]


class Node(str):
    """A job of a workflow that is being put together: its name, to be waited for and referred to."""

    __slots__ = ()

    def result(self, path: Optional[Path] = None) -> "Dict[str, Any]":
        """What this job will have returned, or the part of it that `path` leads to, as an argument of another job.

        `path` is `"body.items.0"`, or a list of names and places.
        """
        reference: "Dict[str, Any]" = {"$result": str(self)}
        return reference if path is None else {**reference, "path": path}


class Workflow:
    """A graph of jobs, put together here and submitted as one by `Client.submit_workflow`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.jobs: "Dict[str, Dict[str, Any]]" = {}

    def add(  # noqa: PLR0913 - each is a field of the job
        self,
        node: str,
        task: TaskLike,
        *,
        args: Optional[Mapping[str, Any]] = NOT_GIVEN,
        queue: Optional[str] = NOT_GIVEN,
        priority: Optional[Priority] = NOT_GIVEN,
        run_at: Optional[Instant] = NOT_GIVEN,
        delay: Optional[float] = NOT_GIVEN,
        timeout: "float | Default | None" = DEFAULT,
        expires_at: Optional[Instant] = NOT_GIVEN,
        tags: Optional[Mapping[str, str]] = NOT_GIVEN,
        retry: Optional[RetryOptions] = NOT_GIVEN,
        key: Optional[str] = NOT_GIVEN,
        after: "Optional[Iterable[Predecessor]]" = NOT_GIVEN,
        after_mode: Optional[AfterMode] = NOT_GIVEN,
        on_failure: Optional[OnFailure] = NOT_GIVEN,
        unique: Optional[Unique] = NOT_GIVEN,
        **task_args: Any,
    ) -> Node:
        """Add a job under the name `node`. Options and arguments as in `Client.submit`; `after` takes nodes.

        Raises ValueError when there is one with this name.
        """
        if node in self.jobs:
            raise ValueError(f"the workflow has a job {node} already")
        options = {
            "queue": queue, "priority": priority, "run_at": run_at, "delay": delay, "timeout": timeout,
            "expires_at": expires_at, "tags": tags, "retry": retry, "key": key, "after": after,
            "after_mode": after_mode, "on_failure": on_failure, "unique": unique,
        }  # fmt: skip
        given = {name: value for name, value in options.items() if value is not DEFAULT}
        self.jobs[str(node)] = spec_of(task, args, given, task_args)
        return Node(node)

    def as_json(self) -> "Dict[str, Any]":
        """As the HTTP contract has it."""
        return {"name": self.name, "jobs": self.jobs}


class Group:
    """A workflow or batch as the store described it; every field of its JSON is an attribute, `fields` is all of it."""

    def __init__(self, kind: str, fields: "Dict[str, Any]") -> None:
        self.kind = kind
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("fields", "kind"):
            raise AttributeError(name)
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"a {self.kind} has no field {name!r}") from None

    @property
    def ended(self) -> bool:
        """Whether all of its jobs have ended."""
        return self.fields["state"] in ENDED

    def __repr__(self) -> str:
        return f"<{self.kind} {self.fields['id']} {self.fields['state']}>"


class GroupHandle:
    """A submitted workflow or batch."""

    def __init__(self, client: Client, kind: str, group_id: str) -> None:
        self._client = client
        self.kind = kind
        self.id = group_id

    def refresh(self) -> Group:
        """As it is now: `state`, `counts`; of a workflow each job in `jobs`."""
        return self._read(None)

    def wait(self, timeout: Optional[float] = None, *, raise_on_failure: bool = True) -> Group:
        """Wait until all of its jobs have ended, also while the store restarts.

        Raises:
            WaitTimeout: it has not ended within `timeout` seconds; a TimeoutError, too.
            GroupFailed: it ended in another state than `succeeded` (unless `raise_on_failure` is False).
            Unreachable: the store has not answered for longer than the client's `patience`.
        """
        waiting: "Waiting" = Waiting(self.id, timeout, what=self.kind)
        while True:
            found = self._read(waiting.patience(self._client.patience))
            if waiting.is_over(found):
                return judged(found, raise_on_failure=raise_on_failure)
            time.sleep(waiting.pause())

    def job(self, node: str) -> JobHandle:
        """A job of the workflow, or the one behind the batch (`then`). Raises KeyError."""
        return self._client.handle(job_in(self.refresh(), node))

    def cancel(self, reason: Optional[str] = None) -> Group:
        """Ask for the end of all of its jobs that have not ended. Raises Conflict when it has ended."""
        return self._act("cancel", reason)

    def retry(self, reason: Optional[str] = None) -> Group:
        """Let those of its jobs run again that did not succeed. Raises Conflict when there are none."""
        return self._act("retry", reason)

    def __repr__(self) -> str:
        return f"<handle of {self.kind} {self.id}>"

    def _read(self, patience: Optional[float]) -> Group:
        options = {} if patience is None else {"patience": patience}
        return Group(self.kind, self._client.call("GET", path_of(self.kind, self.id), **options))

    def _act(self, action: str, reason: Optional[str]) -> Group:
        body = {} if reason is None else {"reason": reason}
        return Group(self.kind, self._client.call("POST", f"{path_of(self.kind, self.id)}/{action}", body=body))


class AsyncGroupHandle:
    """As `GroupHandle`, for asyncio."""

    def __init__(self, client: AsyncClient, handle: GroupHandle) -> None:
        self._client = client
        self._handle = handle
        self.kind = handle.kind
        self.id = handle.id

    async def refresh(self) -> Group:
        """As `GroupHandle.refresh`."""
        return await self._client.in_thread(self._handle.refresh)

    async def wait(
        self,
        timeout: Optional[float] = None,
        *,
        raise_on_failure: bool = True,
    ) -> Group:
        """As `GroupHandle.wait`."""
        waiting: "Waiting" = Waiting(self.id, timeout, what=self.kind)
        while True:
            patience = waiting.patience(self._client.patience)
            found = await self._client.in_thread(lambda: self._handle._read(patience))  # noqa: B023, SLF001
            if waiting.is_over(found):
                return judged(found, raise_on_failure=raise_on_failure)
            await asyncio.sleep(waiting.pause())

    async def job(self, node: str) -> AsyncJobHandle:
        """As `GroupHandle.job`."""
        return self._client.handle(job_in(await self.refresh(), node))

    async def cancel(self, reason: Optional[str] = None) -> Group:
        """As `GroupHandle.cancel`."""
        return await self._client.in_thread(lambda: self._handle.cancel(reason))

    async def retry(self, reason: Optional[str] = None) -> Group:
        """As `GroupHandle.retry`."""
        return await self._client.in_thread(lambda: self._handle.retry(reason))

    def __repr__(self) -> str:
        return f"<handle of {self.kind} {self.id}>"


def path_of(kind: str, group_id: str = "") -> str:
    """Where the store has it, or all of the kind."""
    place = {"workflow": "/v1/workflows", "batch": "/v1/batches"}[kind]
    return f"{place}/{in_path(group_id)}" if group_id else place


def batch_json(
    jobs: "Iterable[Mapping[str, Any]]", then: Optional[Mapping[str, Any]], name: Optional[str]
) -> "Dict[str, Any]":
    """A batch as the HTTP contract has it."""
    given = {"name": name, "then": then}
    return {"jobs": list(jobs), **{key: value for key, value in given.items() if value is not None}}


def judged(found: Group, *, raise_on_failure: bool) -> Group:
    """The ended group. Raises GroupFailed."""
    if raise_on_failure and found.state != "succeeded":
        raise GroupFailed(found)
    return found


def job_in(found: Group, node: str) -> str:
    """The id of one of its jobs. Raises KeyError."""
    if found.kind == "workflow":
        return str(found.jobs[node]["id"])
    if node != "then" or found.then is None:
        raise KeyError(f"the batch has no job {node}")
    return str(found.then["id"])
