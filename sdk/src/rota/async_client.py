"""The client of the store for asyncio: the same calls, made in threads of its own.

Threads need nothing beyond the standard library, and speak https as well as the plain client does.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Dict,
    Generic,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    TypeVar,
    Union,
    overload,
)

from rota import current
from rota.calendars import AsyncCalendars
from rota.client import Client
from rota.configured import Configured, Predecessor
from rota.declaring import AfterMode, OnFailure, Priority, RetryOptions, Unique
from rota.errors import JobFailed
from rota.groups import AsyncGroupHandle, Group, Workflow
from rota.jobs import Instant, Job
from rota.schedules import AsyncSchedules
from rota.submitting import JobHandle, signature_of
from rota.tasks import Default, Task
from rota.typed import Signature
from rota.typevars import R
from rota.waiting import Waiting

THREADS = 16
"""Calls at the same time; further ones wait."""

A = TypeVar("A", bound="AsyncClient")
T = TypeVar("T")


class AsyncJobHandle(Generic[R]):
    """A submitted job."""

    def __init__(self, client: AsyncClient, job_id: str, signature: Optional[Signature] = None) -> None:
        self._client = client
        self._signature = signature
        self.id = job_id

    async def refresh(self) -> Job[R]:
        """The job as it is now."""
        return self._typed(await self._client.get(self.id))

    async def wait(
        self,
        timeout: Optional[float] = None,
        *,
        raise_on_failure: bool = True,
    ) -> Job[R]:
        """As `JobHandle.wait`."""
        waiting = Waiting(self.id, timeout)
        while True:
            found = self._typed(await self._client.get(self.id, patience=waiting.patience(self._client.patience)))
            if waiting.is_over(found):
                if raise_on_failure and found.state != "succeeded":
                    raise JobFailed(found)
                return found
            await asyncio.sleep(waiting.pause())

    async def events(self) -> "List[Dict[str, Any]]":
        """The job's history."""
        return await self._client.events(self.id)

    async def logs(self) -> "List[Dict[str, Any]]":
        """What the job's attempts printed."""
        return await self._client.logs(self.id)

    async def cancel(self, reason: Optional[str] = None) -> Job[R]:
        """Ask for the job's end."""
        return self._typed(await self._client.cancel(self.id, reason))

    async def retry(self, reason: Optional[str] = None) -> Job[R]:
        """Run the ended job again, or a retrying one at once."""
        return self._typed(await self._client.retry(self.id, reason))

    async def reschedule(self, run_at: Instant, reason: Optional[str] = None) -> Job[R]:
        """Give the waiting job another time."""
        return self._typed(await self._client.reschedule(self.id, run_at, reason))

    def _typed(self, found: "Job[Any]") -> Job[R]:
        return Job(found.fields, self._signature)

    def __repr__(self) -> str:
        return f"<handle of job {self.id}>"


class AsyncClient:
    """As `Client`, for asyncio. Within its `async with` block it is the client of `Task.asubmit`."""

    def __init__(
        self, url: Optional[str] = None, *, token: Optional[str] = None, timeout: float = 30.0, patience: float = 10.0
    ) -> None:
        self._client = Client(url, token=token, timeout=timeout, patience=patience)
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="rota-client")
        self.schedules = AsyncSchedules(self, self._client.schedules)
        self.calendars = AsyncCalendars(self, self._client.calendars)
        self.url = self._client.url
        self._entered: "List[Any]" = []
        self.patience = patience

    async def __aenter__(self: A) -> A:  # noqa: PYI019 - typing.Self came with Python 3.11
        self._entered.append(current.enter_async(self))
        return self

    async def __aexit__(self, *_: object) -> None:
        current.leave(self._entered.pop())
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls under way end by themselves."""
        self._client.close()
        self._threads.shutdown(wait=False)

    @overload
    async def submit(
        self,
        task: "Union[Task[Any, R], Configured[Any, R]]",
        *,
        args: Optional[Mapping[str, Any]] = ...,
        queue: Optional[str] = ...,
        priority: Optional[Priority] = ...,
        run_at: Optional[Instant] = ...,
        delay: Optional[float] = ...,
        timeout: "float | Default | None" = ...,
        expires_at: Optional[Instant] = ...,
        tags: Optional[Mapping[str, str]] = ...,
        retry: Optional[RetryOptions] = ...,
        key: Optional[str] = ...,
        after: "Optional[Iterable[Predecessor]]" = ...,
        after_mode: Optional[AfterMode] = ...,
        on_failure: Optional[OnFailure] = ...,
        unique: Optional[Unique] = ...,
        idempotency_key: Optional[str] = ...,
        **task_args: Any,
    ) -> AsyncJobHandle[R]: ...
    @overload
    async def submit(
        self,
        task: str,
        *,
        args: Optional[Mapping[str, Any]] = ...,
        queue: Optional[str] = ...,
        priority: Optional[Priority] = ...,
        run_at: Optional[Instant] = ...,
        delay: Optional[float] = ...,
        timeout: "float | Default | None" = ...,
        expires_at: Optional[Instant] = ...,
        tags: Optional[Mapping[str, str]] = ...,
        retry: Optional[RetryOptions] = ...,
        key: Optional[str] = ...,
        after: "Optional[Iterable[Predecessor]]" = ...,
        after_mode: Optional[AfterMode] = ...,
        on_failure: Optional[OnFailure] = ...,
        unique: Optional[Unique] = ...,
        idempotency_key: Optional[str] = ...,
        **task_args: Any,
    ) -> AsyncJobHandle[Any]: ...
    async def submit(self, task: Any, **options: Any) -> AsyncJobHandle[Any]:
        """As `Client.submit`."""
        handle: "JobHandle[Any]" = await self.in_thread(lambda: self._client.submit(task, **options))
        return AsyncJobHandle(self, handle.id, signature_of(task))

    async def submit_spec(self, spec: Mapping[str, Any], *, idempotency_key: Optional[str] = None) -> "Dict[str, Any]":
        """As `Client.submit_spec`."""
        return await self.in_thread(lambda: self._client.submit_spec(spec, idempotency_key=idempotency_key))

    async def submit_many(self, jobs: "Iterable[Mapping[str, Any]]") -> "List[Dict[str, Any]]":
        """As `Client.submit_many`."""
        return await self.in_thread(lambda: self._client.submit_many(jobs))

    async def get(self, job_id: str, *, at: Optional[Union[int, str]] = None, patience: Optional[float] = None) -> Job:
        """As `Client.get`."""
        return await self.in_thread(lambda: self._client.get(job_id, at=at, patience=patience))

    def list(self, *, limit: Optional[int] = None, **filters: Any) -> "AsyncIterator[Job]":
        """As `Client.list`: `async for job in client.list(state="failed")`."""
        return self.iterate(self._client.list(limit=limit, **filters))

    async def events(self, job_id: str) -> "List[Dict[str, Any]]":
        """As `Client.events`."""
        return await self.in_thread(lambda: self._client.events(job_id))

    async def logs(self, job_id: str) -> "List[Dict[str, Any]]":
        """As `Client.logs`."""
        return await self.in_thread(lambda: self._client.logs(job_id))

    async def cancel(self, job_id: str, reason: Optional[str] = None) -> Job:
        """As `Client.cancel`."""
        return await self.in_thread(lambda: self._client.cancel(job_id, reason))

    async def retry(self, job_id: str, reason: Optional[str] = None) -> Job:
        """As `Client.retry`."""
        return await self.in_thread(lambda: self._client.retry(job_id, reason))

    async def release(self, job_id: str, reason: Optional[str] = None) -> Job:
        """As `Client.release`."""
        return await self.in_thread(lambda: self._client.release(job_id, reason))

    async def reschedule(self, job_id: str, run_at: Instant, reason: Optional[str] = None) -> Job:
        """As `Client.reschedule`."""
        return await self.in_thread(lambda: self._client.reschedule(job_id, run_at, reason))

    async def publish(self, event: Mapping[str, Any]) -> "Dict[str, Any]":
        """As `Client.publish`."""
        return await self.in_thread(lambda: self._client.publish(event))

    async def log(self, after: int = 0, limit: int = 100, **filters: Any) -> "Dict[str, Any]":
        """As `Client.log`."""
        return await self.in_thread(lambda: self._client.log(after, limit, **filters))

    def follow(self, after: Optional[int] = None) -> "AsyncIterator[Dict[str, Any]]":
        """As `Client.follow`. It holds one of the threads until the next event after it was left."""
        return self.iterate(self._client.follow(after))

    async def why(self, job_id: str) -> "Dict[str, Any]":
        """As `Client.why`."""
        return await self.in_thread(lambda: self._client.why(job_id))

    async def why_of(self, kind: str, reference: str) -> "Dict[str, Any]":
        """As `Client.why_of`."""
        return await self.in_thread(lambda: self._client.why_of(kind, reference))

    async def why_tick(self, schedule: str, at: Optional[Instant] = None) -> "Dict[str, Any]":
        """As `Client.why_tick`."""
        return await self.in_thread(lambda: self._client.why_tick(schedule, at))

    async def inbox(self) -> "Dict[str, Any]":
        """As `Client.inbox`."""
        return await self.in_thread(self._client.inbox)

    async def retry_all(self, **where: Any) -> "Dict[str, Any]":
        """As `Client.retry_all`."""
        return await self.in_thread(lambda: self._client.retry_all(**where))

    async def retry_from_inbox(self, job_id: str) -> None:
        """As `Client.retry_from_inbox`."""
        await self.in_thread(lambda: self._client.retry_from_inbox(job_id))

    async def drop_from_inbox(self, job_id: str) -> None:
        """As `Client.drop_from_inbox`."""
        await self.in_thread(lambda: self._client.drop_from_inbox(job_id))

    async def tasks(self) -> "List[Dict[str, Any]]":
        """As `Client.tasks`."""
        return await self.in_thread(self._client.tasks)

    async def task(self, name: str) -> "Dict[str, Any]":
        """As `Client.task`."""
        return await self.in_thread(lambda: self._client.task(name))

    async def queues(self) -> "List[Dict[str, Any]]":
        """As `Client.queues`."""
        return await self.in_thread(self._client.queues)

    async def queue(self, name: str) -> "Dict[str, Any]":
        """As `Client.queue`."""
        return await self.in_thread(lambda: self._client.queue(name))

    async def change_queue(self, name: str, **settings: Any) -> "Dict[str, Any]":
        """As `Client.change_queue`."""
        return await self.in_thread(lambda: self._client.change_queue(name, **settings))

    async def submit_workflow(
        self, flow: "Union[Workflow, Mapping[str, Any]]", *, idempotency_key: Optional[str] = None
    ) -> AsyncGroupHandle:
        """As `Client.submit_workflow`."""
        handle = await self.in_thread(lambda: self._client.submit_workflow(flow, idempotency_key=idempotency_key))
        return AsyncGroupHandle(self, handle)

    async def submit_batch(
        self,
        jobs: "Iterable[Mapping[str, Any]]",
        *,
        then: Optional[Mapping[str, Any]] = None,
        name: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> AsyncGroupHandle:
        """As `Client.submit_batch`."""
        handle = await self.in_thread(
            lambda: self._client.submit_batch(jobs, then=then, name=name, idempotency_key=idempotency_key)
        )
        return AsyncGroupHandle(self, handle)

    def workflow(self, workflow_id: str) -> AsyncGroupHandle:
        """As `Client.workflow`."""
        return AsyncGroupHandle(self, self._client.workflow(workflow_id))

    def batch(self, batch_id: str) -> AsyncGroupHandle:
        """As `Client.batch`."""
        return AsyncGroupHandle(self, self._client.batch(batch_id))

    def workflows(self, *, limit: Optional[int] = None, **filters: Any) -> "AsyncIterator[Group]":
        """As `Client.workflows`."""
        return self.iterate(self._client.workflows(limit=limit, **filters))

    def batches(self, *, limit: Optional[int] = None, **filters: Any) -> "AsyncIterator[Group]":
        """As `Client.batches`."""
        return self.iterate(self._client.batches(limit=limit, **filters))

    def handle(self, job_id: str) -> AsyncJobHandle:
        """As `Client.handle`."""
        return AsyncJobHandle(self, job_id)

    async def triggers(self, *, state: Optional[str] = None) -> "List[Dict[str, Any]]":
        """As `Client.triggers`."""
        return await self.in_thread(lambda: self._client.triggers(state=state))

    async def trigger(self, name: str) -> "Dict[str, Any]":
        """As `Client.trigger`."""
        return await self.in_thread(lambda: self._client.trigger(name))

    async def create_trigger(
        self, name: str, *, match: Mapping[str, Any], job: Mapping[str, Any], description: Optional[str] = None
    ) -> "Dict[str, Any]":
        """As `Client.create_trigger`."""
        return await self.in_thread(
            lambda: self._client.create_trigger(name, match=match, job=job, description=description)
        )

    async def change_trigger(self, name: str, **changes: Any) -> "Dict[str, Any]":
        """As `Client.change_trigger`."""
        return await self.in_thread(lambda: self._client.change_trigger(name, **changes))

    async def act_on_trigger(self, name: str, action: str, reason: Optional[str] = None) -> "Dict[str, Any]":
        """As `Client.act_on_trigger`."""
        return await self.in_thread(lambda: self._client.act_on_trigger(name, action, reason))

    async def subscriptions(self, *, state: Optional[str] = None) -> "List[Dict[str, Any]]":
        """As `Client.subscriptions`."""
        return await self.in_thread(lambda: self._client.subscriptions(state=state))

    async def subscription(self, name: str) -> "Dict[str, Any]":
        """As `Client.subscription`."""
        return await self.in_thread(lambda: self._client.subscription(name))

    async def create_subscription(
        self, name: str, *, url: str, match: Mapping[str, Any], **options: Any
    ) -> "Dict[str, Any]":
        """As `Client.create_subscription`."""
        return await self.in_thread(lambda: self._client.create_subscription(name, url=url, match=match, **options))

    async def change_subscription(self, name: str, **changes: Any) -> "Dict[str, Any]":
        """As `Client.change_subscription`."""
        return await self.in_thread(lambda: self._client.change_subscription(name, **changes))

    async def change_subscription_secret(self, name: str, **options: Any) -> "Dict[str, Any]":
        """As `Client.change_subscription_secret`."""
        return await self.in_thread(lambda: self._client.change_subscription_secret(name, **options))

    async def act_on_subscription(self, name: str, action: str, reason: Optional[str] = None) -> "Dict[str, Any]":
        """As `Client.act_on_subscription`."""
        return await self.in_thread(lambda: self._client.act_on_subscription(name, action, reason))

    async def dead_letters(self, name: str) -> "List[Dict[str, Any]]":
        """As `Client.dead_letters`."""
        return await self.in_thread(lambda: self._client.dead_letters(name))

    async def redeliver(
        self, name: str, *, positions: "Optional[List[int]]" = None, reason: Optional[str] = None
    ) -> int:
        """As `Client.redeliver`."""
        return await self.in_thread(lambda: self._client.redeliver(name, positions=positions, reason=reason))

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """As `Client.call`."""
        return await self.in_thread(lambda: self._client.call(method, path, **options))

    async def iterate(self, items: "Iterator[T]") -> "AsyncIterator[T]":
        """The items, each fetched in a thread."""
        end = object()
        while True:
            item: Any = await self.in_thread(lambda: next(items, end))
            if item is end:
                return
            yield item

    async def in_thread(self, call: "Callable[[], T]") -> T:
        """In a thread, with this task's context: the job and the span it runs in go along."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: context.run(call))
