"""Submission of jobs: what a client can do before there is one, and the handle that it gives."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Dict, Generic, Iterable, Iterator, List, Mapping, Optional, Union, overload

from rota.configured import Configured, Instant, Predecessor
from rota.context import current_or_none
from rota.declaring import AfterMode, OnFailure, Priority, RetryOptions, Unique
from rota.errors import JobFailed
from rota.jobs import NOT_GIVEN, Job, TaskLike, spec_of
from rota.keywords import TaskParameters, ambiguous, keywords_of
from rota.tasks import DEFAULT, Default, Task
from rota.telemetry import current_traceparent
from rota.typed import Signature
from rota.typevars import R
from rota.waiting import Waiting

if TYPE_CHECKING:
    from rota.client import Client
    from rota.transport import Transport

BULK_LIMIT = 10_000


class JobHandle(Generic[R]):
    """A submitted job."""

    def __init__(self, client: Client, job_id: str, signature: Optional[Signature] = None) -> None:
        self._client = client
        self._signature = signature
        self.id = job_id

    def refresh(self) -> Job[R]:
        """The job as it is now."""
        return self._typed(self._client.get(self.id))

    def wait(self, timeout: Optional[float] = None, *, raise_on_failure: bool = True) -> Job[R]:
        """Wait for the job's end, also while the store restarts.

        Raises:
            WaitTimeout: it has not ended within `timeout` seconds; a TimeoutError, too.
            JobFailed: it ended in another state than `succeeded` (unless `raise_on_failure` is False).
            Unreachable: the store has not answered for longer than the client's `patience`.
        """
        waiting = Waiting(self.id, timeout)
        while True:
            found = self._typed(self._client.get(self.id, patience=waiting.patience(self._client.patience)))
            if waiting.is_over(found):
                if raise_on_failure and found.state != "succeeded":
                    raise JobFailed(found)
                return found
            time.sleep(waiting.pause())

    def events(self) -> "List[Dict[str, Any]]":
        """The job's history."""
        return self._client.events(self.id)

    def logs(self) -> "List[Dict[str, Any]]":
        """What the job's attempts printed."""
        return self._client.logs(self.id)

    def cancel(self, reason: Optional[str] = None) -> Job[R]:
        """Ask for the job's end."""
        return self._typed(self._client.cancel(self.id, reason))

    def retry(self, reason: Optional[str] = None) -> Job[R]:
        """Run the ended job again, or a retrying one at once."""
        return self._typed(self._client.retry(self.id, reason))

    def reschedule(self, run_at: Instant, reason: Optional[str] = None) -> Job[R]:
        """Give the waiting job another time."""
        return self._typed(self._client.reschedule(self.id, run_at, reason))

    def _typed(self, found: "Job[Any]") -> Job[R]:
        return Job(found.fields, self._signature)

    def __repr__(self) -> str:
        return f"<handle of job {self.id}>"


class Submitting:
    """The part of `Client` that submits jobs."""

    patience: float
    _http: Transport
    _parameters: TaskParameters

    @overload
    def submit(
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
        idempotent: Optional[bool] = ...,
        idempotency_key: Optional[str] = ...,
        **task_args: Any,
    ) -> JobHandle[R]: ...
    @overload
    def submit(
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
        idempotent: Optional[bool] = ...,
        idempotency_key: Optional[str] = ...,
        **task_args: Any,
    ) -> JobHandle[Any]: ...
    def submit(  # noqa: PLR0913 - each is a field of the job
        self,
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
        idempotent: Optional[bool] = NOT_GIVEN,
        idempotency_key: Optional[str] = NOT_GIVEN,
        **task_args: Any,
    ) -> JobHandle[Any]:
        """Submit a job: a task, or its name, and as further keyword arguments what it is called with.

        Args:
            task: The task, with options (`greet.options(delay=10)`) or without, or its name.
            args: Arguments of the task. With it every other keyword that is an option here is one; without it, one that
                is an argument of the task as well is refused.
            queue: The queue.
            priority: high, normal or low.
            run_at: Not before this instant: an aware datetime, or RFC 3339 with an offset.
            delay: Not before so many seconds from now.
            timeout: Seconds that one attempt may take; None for no limit.
            expires_at: No attempt starts at or after this instant.
            tags: Names and values to find it by.
            retry: How often and when failed attempts are repeated, `{"max_attempts": 3, "backoff": "fixed"}`.
            key: What concurrency limits and fairness count by.
            after: Jobs (handles or ids), workflows and batches that have to end first, successfully unless
                `{"job": ..., "outcome": "failed" or "ended"}` says otherwise.
            after_mode: Whether it waits for `all` of them or for `any`.
            on_failure: What becomes of it when that cannot come true any more: `cancel`, `run` or `hold`.
            unique: One job for a key at a time: the key, or `{"key": "report", "while": "queued",
                "on_conflict": "replace"}`. The handle is that of the job that holds the key.
            idempotent: Whether it may be broken off and repeated at no cost, whatever its task was declared with.
            idempotency_key: A second submission with it answers the first job.
            task_args: Arguments of the task.

        Raises:
            TypeError: the task takes no such argument, or needs another one, as far as that is known here; or a keyword
                might be the job's option as well as the task's argument.
            NotJson: an argument has no form in JSON; `place` says which.
            Refused: the job is not as it must be, `field` says where; Conflict when the idempotency key is taken, or
                the unique key, whose holder is `problem["job"]`.
            Unreachable: the store could not be reached for longer than `patience`.
        """
        options = {
            "queue": queue, "priority": priority, "run_at": run_at, "delay": delay, "timeout": timeout,
            "expires_at": expires_at, "tags": tags, "retry": retry, "key": key, "after": after,
            "after_mode": after_mode, "on_failure": on_failure, "unique": unique,
            "idempotent": idempotent, "idempotency_key": idempotency_key,
        }  # fmt: skip
        given = {name: value for name, value in options.items() if value is not DEFAULT}
        spec = spec_of(task, args, given, task_args)
        answer = self._submit(spec, spec.pop("idempotency_key", None) or new_key())
        return self._made(answer["id"], signature_of(task))

    def submit_spec(self, spec: Mapping[str, Any], *, idempotency_key: Optional[str] = None) -> "Dict[str, Any]":
        """Submit a job given as its JSON object; the job's JSON object. Without a key it is never repeated."""
        return self._submit(spec, idempotency_key)

    def submit_many(self, jobs: "Iterable[Mapping[str, Any]]") -> "List[Dict[str, Any]]":
        """Submit any number of jobs, each as `Task.job`, `rota.job(task, ...)` or the HTTP contract describes it.

        One result each, in order: `{"status": 201, "id": "..."}`, or the status and the `problem` of a refused one.
        """
        results: "List[Dict[str, Any]]" = []
        specs: "List[Dict[str, Any]]" = []
        for spec in jobs:
            error = ambiguous(spec, self._parameters.of)
            results.append({} if error is None else {"status": error.status, "problem": error.problem})
            if error is None:
                specs.append({"idempotency_key": new_key(), **spec})
        sent = iter(self._submit_bulk(specs))
        return [result or next(sent) for result in results]

    def _submit_bulk(self, specs: "List[Dict[str, Any]]") -> "Iterator[Dict[str, Any]]":
        for start in range(0, len(specs), BULK_LIMIT):
            part = specs[start : start + BULK_LIMIT]
            headers = trace_headers()
            answer = self._http.call("POST", "/v1/jobs/bulk", body=part, headers=headers, patience=self.patience)
            yield from answer.body["results"]

    def _submit(self, spec: Mapping[str, Any], idempotency_key: Optional[str]) -> "Dict[str, Any]":
        headers = trace_headers()
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        keywords = keywords_of(spec)
        if keywords:
            headers["Rota-Keywords"] = ",".join(keywords)
        patience = self.patience if idempotency_key else 0.0
        answer = self._http.call("POST", "/v1/jobs", body=dict(spec), headers=headers, patience=patience)
        result: "Dict[str, Any]" = answer.body
        return result

    def _made(self, job_id: str, signature: Optional[Signature]) -> JobHandle[Any]:
        whole: Any = self  # the client, of which this is a part
        return JobHandle(whole, job_id, signature)


def signature_of(task: TaskLike) -> Optional[Signature]:
    """What is known of the result of a task that is submitted."""
    if isinstance(task, Configured):
        task = task.task
    return task.signature if isinstance(task, Task) else None


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return f"sdk-{uuid.uuid4()}"


def trace_headers() -> "Dict[str, str]":
    """The trace that this program, or the task that it runs, is part of."""
    current = current_or_none()
    traceparent = current_traceparent() or (current.traceparent if current is not None else None)
    return {} if traceparent is None else {"traceparent": traceparent}
