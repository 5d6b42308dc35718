"""The client of the store: submit jobs, wait for them, read and change them."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from datetime import datetime
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Union

from rota.context import current_or_none
from rota.errors import JobFailed, Unreachable
from rota.tasks import Task
from rota.telemetry import current_traceparent
from rota.transport import Transport, default_url

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
SUBMIT_TRIES = 5
POLL_SECONDS = (0.02, 1.0)

TaskLike = Union[str, "Task[Any]"]


class Job:
    """A job as the store described it; every field of its JSON is an attribute."""

    def __init__(self, fields: "Dict[str, Any]") -> None:
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"a job has no field {name!r}") from None

    @property
    def ended(self) -> bool:
        """Whether the job has reached an end."""
        return self.fields["state"] in ENDED

    def __repr__(self) -> str:
        return f"<job {self.fields['id']} {self.fields['task']} {self.fields['state']}>"


class JobHandle:
    """A submitted job."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self.id = job_id

    def refresh(self) -> Job:
        """The job as it is now."""
        return self._client.get(self.id)

    def wait(self, timeout: Optional[float] = None, *, raise_on_failure: bool = True) -> Job:
        """Wait for the job's end.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds.
            JobFailed: it ended in another state than `succeeded` (unless `raise_on_failure` is False).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, longest = POLL_SECONDS
        while True:
            try:
                job = self.refresh()
            except Unreachable:
                if deadline is None or time.monotonic() >= deadline:
                    raise
            else:
                if job.ended:
                    if raise_on_failure and job.state != "succeeded":
                        raise JobFailed(job)
                    return job
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(f"job {self.id} is {job.state} after {timeout} s")
            left = longest if deadline is None else max(0.0, deadline - time.monotonic())
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)

    def cancel(self, reason: Optional[str] = None) -> Job:
        """Ask for the job's end."""
        return self._client.cancel(self.id, reason)

    def __repr__(self) -> str:
        return f"<handle of job {self.id}>"


class Client:
    """Speaks to a store. Usable from several threads; a context that closes its connections."""

    def __init__(self, url: Optional[str] = None, *, token: Optional[str] = None, timeout: float = 30.0) -> None:
        self.url = url or default_url()
        self._http = Transport(self.url, token or os.environ.get("ROTA_TOKEN"), timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        task: TaskLike,
        *,
        args: Optional[Mapping[str, Any]] = None,
        queue: Optional[str] = None,
        priority: Optional[str] = None,
        run_at: Optional[Union[str, datetime]] = None,
        delay: Optional[float] = None,
        timeout: Optional[float] = None,
        expires_at: Optional[Union[str, datetime]] = None,
        tags: Optional[Mapping[str, str]] = None,
        retry: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
        **task_args: Any,
    ) -> JobHandle:
        """Submit a job. What the task is called with are the further keyword arguments, or `args`.

        The request carries an idempotency key (a random one unless given), so that it can be repeated safely when the
        connection breaks: it is, a few times.
        """
        options = {
            "queue": queue,
            "priority": priority,
            "run_at": run_at,
            "delay": delay,
            "timeout": timeout,
            "expires_at": expires_at,
            "tags": tags,
            "retry": retry,
        }
        spec = job_spec(task, {**(args or {}), **task_args}, options)
        key = idempotency_key or f"sdk-{uuid.uuid4()}"
        return JobHandle(self, self.submit_spec(spec, idempotency_key=key)["id"])

    def submit_spec(self, spec: Mapping[str, Any], *, idempotency_key: Optional[str] = None) -> "Dict[str, Any]":
        """Submit a job given as its JSON object; the answer's JSON object."""
        headers = _trace_headers()
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        pause = 0.1
        for last in range(1, SUBMIT_TRIES + 1):
            try:
                result: "Dict[str, Any]" = self._http.call(
                    "POST", "/v1/jobs", body=dict(spec), headers=headers, repeatable=bool(idempotency_key)
                )[2]
            except Unreachable:
                if not idempotency_key or last == SUBMIT_TRIES:
                    raise
                time.sleep(pause)
                pause *= 2
            else:
                return result
        raise AssertionError("unreachable")

    def submit_many(self, specs: Iterable[Mapping[str, Any]]) -> "List[Dict[str, Any]]":
        """Submit up to 10,000 jobs given as JSON objects; one result each, in order."""
        body = [dict(spec) for spec in specs]
        answer = self._http.call("POST", "/v1/jobs/bulk", body=body, headers=_trace_headers(), repeatable=False)[2]
        results: "List[Dict[str, Any]]" = answer["results"]
        return results

    def get(self, job_id: str, *, at: Optional[Union[int, str]] = None) -> Job:
        """The job as it is, or as it was `at` a position or instant."""
        return Job(self._http.call("GET", f"/v1/jobs/{job_id}", query={"at": at})[2])

    def list(self, *, limit: Optional[int] = None, **filters: Any) -> Iterator[Job]:
        """Jobs that match (state, queue, task, tag, submitted_after, submitted_before), newest first."""
        cursor = None
        while limit is None or limit > 0:
            page = 200 if limit is None else min(limit, 200)
            answer = self._http.call("GET", "/v1/jobs", query={**filters, "limit": page, "cursor": cursor})[2]
            for fields in answer["items"]:
                yield Job(fields)
            limit = None if limit is None else limit - len(answer["items"])
            cursor = answer["next_cursor"]
            if cursor is None:
                return

    def events(self, job_id: str) -> "List[Dict[str, Any]]":
        """The job's history."""
        items: "List[Dict[str, Any]]" = self._http.call("GET", f"/v1/jobs/{job_id}/events")[2]["items"]
        return items

    def logs(self, job_id: str) -> "List[Dict[str, Any]]":
        """What the job's attempts printed."""
        items: "List[Dict[str, Any]]" = self._http.call("GET", f"/v1/jobs/{job_id}/logs")[2]["items"]
        return items

    def cancel(self, job_id: str, reason: Optional[str] = None) -> Job:
        """Ask for the job's end."""
        return self._act(job_id, "cancel", {"reason": reason})

    def retry(self, job_id: str, reason: Optional[str] = None) -> Job:
        """Run an ended job again, or a retrying one at once."""
        return self._act(job_id, "retry", {"reason": reason})

    def reschedule(self, job_id: str, run_at: Union[str, datetime], reason: Optional[str] = None) -> Job:
        """Give a waiting job another time."""
        return self._act(job_id, "reschedule", {"run_at": _instant(run_at), "reason": reason})

    def _act(self, job_id: str, action: str, body: "Dict[str, Any]") -> Job:
        given = {key: value for key, value in body.items() if value is not None}
        return Job(self._http.call("POST", f"/v1/jobs/{job_id}/{action}", body=given)[2])

    def publish(self, event: Mapping[str, Any]) -> "Dict[str, Any]":
        """Publish a CloudEvents 1.0 event, given in its JSON form."""
        headers = {"Content-Type": "application/cloudevents+json"}
        body = json.dumps({"specversion": "1.0", "id": str(uuid.uuid4()), **event}).encode()
        result: "Dict[str, Any]" = self._http.call("POST", "/v1/events", body=body, headers=headers)[2]
        return result

    def log(self, after: int = 0, limit: int = 100, **filters: Any) -> "Dict[str, Any]":
        """A page of the log behind position `after`."""
        page: "Dict[str, Any]" = self._http.call(
            "GET", "/v1/events", query={"after": after, "limit": limit, **filters}
        )[2]
        return page

    def follow(self, after: Optional[int] = None) -> "Iterator[Dict[str, Any]]":
        """The log, live, behind `after` (None: from now on); connects again by itself."""
        last = after
        while True:
            try:
                headers = {} if last is None else {"Last-Event-ID": str(last)}
                for line in self._http.stream("/v1/events/stream", headers):
                    if line.startswith("data:"):
                        event = json.loads(line[5:])
                        last = event["position"]
                        yield event
            except Unreachable:
                pass
            time.sleep(0.5)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Any other call of the HTTP contract; the decoded answer."""
        return self._http.call(method, path, **options)[2]


class AsyncClient:
    """The same for asyncio. Calls run in threads, so that nothing beyond the standard library is needed."""

    def __init__(self, url: Optional[str] = None, *, token: Optional[str] = None, timeout: float = 30.0) -> None:
        self._client = Client(url, token=token, timeout=timeout)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._client.close()

    async def submit(self, task: TaskLike, **options: Any) -> AsyncJobHandle:
        """As `Client.submit`."""
        handle = await asyncio.to_thread(self._client.submit, task, **options)
        return AsyncJobHandle(self, handle.id)

    async def submit_many(self, specs: Iterable[Mapping[str, Any]]) -> "List[Dict[str, Any]]":
        """As `Client.submit_many`."""
        return await asyncio.to_thread(self._client.submit_many, specs)

    async def get(self, job_id: str, *, at: Optional[Union[int, str]] = None) -> Job:
        """As `Client.get`."""
        return await asyncio.to_thread(lambda: self._client.get(job_id, at=at))

    async def list(self, **options: Any) -> "List[Job]":
        """As `Client.list`, all at once."""
        return await asyncio.to_thread(lambda: list(self._client.list(**options)))

    async def events(self, job_id: str) -> "List[Dict[str, Any]]":
        """As `Client.events`."""
        return await asyncio.to_thread(self._client.events, job_id)

    async def logs(self, job_id: str) -> "List[Dict[str, Any]]":
        """As `Client.logs`."""
        return await asyncio.to_thread(self._client.logs, job_id)

    async def cancel(self, job_id: str, reason: Optional[str] = None) -> Job:
        """As `Client.cancel`."""
        return await asyncio.to_thread(self._client.cancel, job_id, reason)

    async def retry(self, job_id: str, reason: Optional[str] = None) -> Job:
        """As `Client.retry`."""
        return await asyncio.to_thread(self._client.retry, job_id, reason)

    async def reschedule(self, job_id: str, run_at: Union[str, datetime], reason: Optional[str] = None) -> Job:
        """As `Client.reschedule`."""
        return await asyncio.to_thread(self._client.reschedule, job_id, run_at, reason)

    async def publish(self, event: Mapping[str, Any]) -> "Dict[str, Any]":
        """As `Client.publish`."""
        return await asyncio.to_thread(self._client.publish, event)


class AsyncJobHandle:
    """A submitted job, for asyncio."""

    def __init__(self, client: AsyncClient, job_id: str) -> None:
        self._client = client
        self.id = job_id

    async def refresh(self) -> Job:
        """The job as it is now."""
        return await self._client.get(self.id)

    async def wait(self, timeout: Optional[float] = None, *, raise_on_failure: bool = True) -> Job:
        """As `JobHandle.wait`."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        pause, longest = POLL_SECONDS
        while True:
            job = await self.refresh()
            if job.ended:
                if raise_on_failure and job.state != "succeeded":
                    raise JobFailed(job)
                return job
            if deadline is not None and loop.time() >= deadline:
                raise TimeoutError(f"job {self.id} is {job.state} after {timeout} s")
            await asyncio.sleep(pause if deadline is None else min(pause, max(0.0, deadline - loop.time())))
            pause = min(pause * 1.5, longest)


def job_spec(task: TaskLike, args: "Dict[str, Any]", options: "Dict[str, Any]") -> "Dict[str, Any]":
    """The JSON object of a job: the task's own options, overridden by what is given."""
    given = {key: value for key, value in options.items() if value is not None}
    own = dict(task.options) if isinstance(task, Task) else {}
    name = task.name if isinstance(task, Task) else task
    spec = {"task": name, "args": args, **own, **given}
    for field in ("run_at", "expires_at"):
        if field in spec:
            spec[field] = _instant(spec[field])
    return spec


def _instant(value: Union[str, datetime]) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone: use an aware datetime")
        return value.isoformat()
    return value


def _trace_headers() -> "Dict[str, str]":
    job = current_or_none()
    traceparent = current_traceparent() or (job.traceparent if job is not None else None)
    return {} if traceparent is None else {"traceparent": traceparent}
