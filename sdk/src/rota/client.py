"""The client of the store: submit jobs, wait for them, read and change them."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, TypeVar, Union

from rota import current
from rota.calendars import Calendars
from rota.discovery import default_token, default_url
from rota.errors import Unreachable
from rota.groups import Group, GroupHandle, Workflow, batch_json, path_of
from rota.jobs import Instant, Job, instant_text
from rota.keywords import TaskParameters, refuse_ambiguous, within
from rota.schedules import Schedules
from rota.submitting import JobHandle, Submitting, new_key, trace_headers
from rota.transport import Answer, Transport, in_path
from rota.values import plain_body

__all__ = ["Client", "JobHandle"]

PAGE = 200
FOLLOW_PAUSE_SECONDS = 0.5
READ_PATIENCE_SECONDS = 0.2
"""A read is repeated once or twice, for a connection that was closed at the wrong moment."""

C = TypeVar("C", bound="Client")


class Client(Submitting):
    """Speaks to a store. Usable from several threads; a context that closes its connections.

    Within its `with` block it is the client of `Task.submit`.

    `url` is by default ROTA_URL, the `rota up` that runs in the current folder, or http://127.0.0.1:3000; `token` is
    ROTA_TOKEN or the content of the file ROTA_TOKEN_FILE. `timeout`: seconds for one answer.
    `patience`: for how many seconds submissions are repeated, and a `wait` goes on, while the store cannot be reached;
    a repeated submission carries the same idempotency key, so it is one job.
    """

    def __init__(
        self, url: Optional[str] = None, *, token: Optional[str] = None, timeout: float = 30.0, patience: float = 10.0
    ) -> None:
        self.url = url or default_url()
        self.patience = patience
        self._http = Transport(self.url, token or default_token(), timeout)
        self._entered: "List[Any]" = []
        self._parameters = TaskParameters(lambda name: self._task(name, self.patience))
        self.schedules = Schedules(self)
        self.calendars = Calendars(self)

    def __enter__(self: C) -> C:  # noqa: PYI019 - typing.Self came with Python 3.11
        self._entered.append(current.enter(self))
        return self

    def __exit__(self, *_: object) -> None:
        current.leave(self._entered.pop())
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, job_id: str, *, at: Optional[Union[int, str]] = None, patience: Optional[float] = None) -> Job:
        """The job as it is, or as it was `at` a position or instant. Raises NotFound."""
        return Job(self._read(f"/v1/jobs/{in_path(job_id)}", {"at": at}, patience).body)

    def list(self, *, limit: Optional[int] = None, **filters: Any) -> Iterator[Job]:
        """Jobs that match (state, queue, task, tag, submitted_after, submitted_before), newest first.

        `tag` is `name:value` or a list of such. Pages are fetched as one goes on.
        """
        if limit is not None:
            filters["limit"] = min(limit, PAGE)
        for index, fields in enumerate(self._pages("/v1/jobs", {"limit": PAGE, **filters}), 1):
            yield Job(fields)
            if index == limit:
                return

    def events(self, job_id: str) -> "List[Dict[str, Any]]":
        """The job's history."""
        return list(self._pages(f"/v1/jobs/{in_path(job_id)}/events", {}))

    def logs(self, job_id: str) -> "List[Dict[str, Any]]":
        """What the job's attempts printed: parts with `attempt`, `stream`, `text`."""
        return list(self._pages(f"/v1/jobs/{in_path(job_id)}/logs", {}))

    def cancel(self, job_id: str, reason: Optional[str] = None) -> Job:
        """Ask for the job's end. Raises Conflict when it has ended."""
        return self._act(job_id, "cancel", {"reason": reason})

    def retry(self, job_id: str, reason: Optional[str] = None) -> Job:
        """Run an ended job again, or a retrying one at once. Raises Conflict when it cannot be."""
        return self._act(job_id, "retry", {"reason": reason})

    def release(self, job_id: str, reason: Optional[str] = None) -> Job:
        """Let a job run that waits for others. Raises Conflict when it does not."""
        return self._act(job_id, "release", {"reason": reason})

    def reschedule(self, job_id: str, run_at: Instant, reason: Optional[str] = None) -> Job:
        """Give a waiting job another time. Raises Conflict when it no longer waits."""
        return self._act(job_id, "reschedule", {"run_at": instant_text(run_at), "reason": reason})

    def publish(self, event: Mapping[str, Any]) -> "Dict[str, Any]":
        """Publish a CloudEvents 1.0 event, given in its JSON form; `specversion` and `id` are filled in."""
        headers = {"Content-Type": "application/cloudevents+json", **trace_headers()}
        body = json.dumps(plain_body({"specversion": "1.0", "id": str(uuid.uuid4()), **event})).encode()
        result: "Dict[str, Any]" = self._http.call("POST", "/v1/events", body=body, headers=headers).body
        return result

    def log(self, after: int = 0, limit: int = 100, **filters: Any) -> "Dict[str, Any]":
        """A page of the log after position `after`; filters are type, stream, correlation."""
        page: "Dict[str, Any]" = self._read("/v1/events", {"after": after, "limit": limit, **filters}).body
        return page

    def follow(self, after: Optional[int] = None) -> "Iterator[Dict[str, Any]]":
        """The log, live, behind `after` (None: from now on); connects again by itself.

        Raises Unreachable only when the store was never reached.
        """
        last, reached = after, False
        while True:
            try:
                headers = {} if last is None else {"Last-Event-ID": str(last)}
                for line in self._http.stream("/v1/events/stream", headers):
                    reached = True
                    if line.startswith("data:"):
                        event = json.loads(line[5:])
                        last = event["position"]
                        yield event
            except Unreachable:
                if not reached:
                    raise
            time.sleep(FOLLOW_PAUSE_SECONDS)

    def submit_workflow(
        self, flow: "Union[Workflow, Mapping[str, Any]]", *, idempotency_key: Optional[str] = None
    ) -> GroupHandle:
        """Submit a graph of jobs, all of them or none: a `Workflow`, or its JSON object.

        Raises:
            Refused: something is not as it must be, `field` says where (`jobs.load.after.0`).
            Unreachable: the store could not be reached for longer than `patience`.
        """
        body = flow.as_json() if isinstance(flow, Workflow) else dict(flow)
        return self._submit_group("workflow", body, idempotency_key)

    def submit_batch(
        self,
        jobs: "Iterable[Mapping[str, Any]]",
        *,
        then: Optional[Mapping[str, Any]] = None,
        name: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> GroupHandle:
        """Submit up to 10,000 jobs as one, all of them or none, each as `rota.job(task, ...)` describes it.

        `then` is a job that runs when all have ended; `current_job().results["batch"]` are its totals. Raises as
        `submit_workflow`.
        """
        return self._submit_group("batch", batch_json(jobs, then, name), idempotency_key)

    def _submit_group(self, kind: str, body: "Dict[str, Any]", key: Optional[str]) -> GroupHandle:
        self.refuse_ambiguous(within(kind, body))
        headers = {"Idempotency-Key": key or new_key(), **trace_headers()}
        answer = self._http.call("POST", path_of(kind), body=body, headers=headers, patience=self.patience)
        return GroupHandle(self, kind, answer.body["id"])

    def workflow(self, workflow_id: str) -> GroupHandle:
        """The workflow with this id."""
        return GroupHandle(self, "workflow", workflow_id)

    def batch(self, batch_id: str) -> GroupHandle:
        """The batch with this id."""
        return GroupHandle(self, "batch", batch_id)

    def workflows(self, *, limit: Optional[int] = None, **filters: Any) -> "Iterator[Group]":
        """Workflows with this `name` and `state`, newest first."""
        return self._groups("workflow", limit, filters)

    def batches(self, *, limit: Optional[int] = None, **filters: Any) -> "Iterator[Group]":
        """Batches with this `name` and `state`, newest first."""
        return self._groups("batch", limit, filters)

    def _groups(self, kind: str, limit: Optional[int], filters: "Dict[str, Any]") -> "Iterator[Group]":
        size = PAGE if limit is None else min(limit, PAGE)
        for index, fields in enumerate(self._pages(path_of(kind), {"limit": size, **filters}), 1):
            yield Group(kind, fields)
            if index == limit:
                return

    def handle(self, job_id: str) -> JobHandle:
        """The job with this id."""
        return JobHandle(self, job_id)

    def why(self, job_id: str) -> "Dict[str, Any]":
        """Why the job is not running, or why it ended as it did: `summary`, and `reasons` with their facts."""
        return dict(self._read(f"/v1/jobs/{in_path(job_id)}/why", {}).body)

    def why_of(self, kind: str, reference: str) -> "Dict[str, Any]":
        """Why a `workflow`, `batch` or job of the `inbox` goes on, waits, or ended as it did. Raises NotFound."""
        place = {"workflow": "workflows", "batch": "batches", "inbox": "inbox"}[kind]
        return dict(self._read(f"/v1/{place}/{in_path(reference)}/why", {}).body)

    def inbox(self) -> "Dict[str, Any]":
        """How many jobs of transactions wait for their way into the log (`waiting`, `oldest`), and the refused ones."""
        state: "Dict[str, Any]" = dict(self._read("/v1/inbox", {"limit": 1}).body)
        state["items"] = list(self._pages("/v1/inbox", {"limit": PAGE}))
        return {name: state[name] for name in ("waiting", "oldest", "rejected", "items")}

    def retry_from_inbox(self, job_id: str) -> None:
        """Put a refused job in again. Raises NotFound."""
        self._http.call("POST", f"/v1/inbox/{in_path(job_id)}/retry", headers=trace_headers())

    def drop_from_inbox(self, job_id: str) -> None:
        """Remove a refused job for good. Raises NotFound."""
        self._http.call("DELETE", f"/v1/inbox/{in_path(job_id)}", headers=trace_headers())

    def why_tick(self, schedule: str, at: Optional[Instant] = None) -> "Dict[str, Any]":
        """What became of a schedule's nominal time and why; without `at`: what it waits for now."""
        query = {} if at is None else {"at": at if isinstance(at, str) else at.isoformat()}
        return dict(self._read(f"/v1/schedules/{in_path(schedule)}/why", query).body)

    def tasks(self) -> "List[Dict[str, Any]]":
        """Every task that executors have announced, and the built-in ones: its parameters and defaults."""
        return list(self._pages("/v1/tasks", {}))

    def task(self, name: str) -> "Dict[str, Any]":
        """One task. Raises NotFound."""
        return self._task(name, None)

    def _task(self, name: str, patience: Optional[float]) -> "Dict[str, Any]":
        return dict(self._read(f"/v1/tasks/{in_path(name)}", {}, patience).body)

    def retry_all(
        self,
        *,
        state: str = "failed",
        queue: Optional[str] = None,
        task: Optional[str] = None,
        tag: "Optional[List[str]]" = None,
        schedule: Optional[str] = None,
        dry_run: bool = False,
        reason: Optional[str] = None,
    ) -> "Dict[str, Any]":
        """Run all jobs again that match, as `retry` does one; `tag` holds `name:value`.

        Answers how many `matched`, were `done` and `refused`. `dry_run` only counts. One call changes a bounded
        number of jobs; `complete` is False when there are more.
        """
        fields = {"state": state, "queue": queue, "task": task, "tag": tag, "schedule": schedule}
        where = {name: value for name, value in fields.items() if value is not None}
        body: "Dict[str, Any]" = {"action": "retry", "filter": where, "dry_run": dry_run}
        if reason is not None:
            body["reason"] = reason
        return dict(self._http.call("POST", "/v1/jobs/actions", body=body, headers=trace_headers()).body)

    def queues(self) -> "List[Dict[str, Any]]":
        """Every queue that has jobs or settings: its depth, its oldest job, its limits."""
        return list(self._read("/v1/queues", {}).body["items"])

    def queue(self, name: str) -> "Dict[str, Any]":
        """One queue; a name that nobody has used is a queue without jobs."""
        return dict(self._read(f"/v1/queues/{in_path(name)}", {}).body)

    def change_queue(self, name: str, **settings: Any) -> "Dict[str, Any]":
        """Change `paused`, `concurrency`, `concurrency_per_key`, `rate`, `rate_per_key`; the queue afterwards.

        What is not named stays; None takes a limit away. A rate is `{"limit": 100, "per": 60, "burst": 20}`, `per` in
        seconds. `reason` is kept in the history.
        """
        return dict(
            self._http.call("PATCH", f"/v1/queues/{in_path(name)}", body=settings, headers=trace_headers()).body
        )

    def triggers(self, *, state: Optional[str] = None) -> "List[Dict[str, Any]]":
        """All triggers, newest first; `state` is active, paused or archived."""
        return list(self._pages("/v1/triggers", {"state": state}))

    def trigger(self, name: str) -> "Dict[str, Any]":
        """The trigger with this name or id. Raises NotFound."""
        return dict(self._read(f"/v1/triggers/{in_path(name)}", {}).body)

    def create_trigger(
        self, name: str, *, match: Mapping[str, Any], job: Mapping[str, Any], description: Optional[str] = None
    ) -> "Dict[str, Any]":
        """Have each published event that matches make a job, from now on; the trigger.

        `job` is a job's JSON object, as `rota.job(task, ...)` makes it, with references such as
        `{"$event": "data.user.id"}` in its arguments, or `${data.user.id}` within its texts. Safe to repeat.
        """
        self.refuse_ambiguous([("job", job)])
        body = {"name": name, "match": dict(match), "job": dict(job), "description": description}
        return dict(self._http.call("POST", "/v1/triggers", body=body, patience=self.patience).body)

    def change_trigger(self, name: str, **changes: Any) -> "Dict[str, Any]":
        """Change `match`, `job`, `description`; `reason` is kept in the history. The trigger afterwards."""
        self.refuse_ambiguous([("job", changes.get("job"))])
        return dict(self._http.call("PATCH", f"/v1/triggers/{in_path(name)}", body=changes).body)

    def act_on_trigger(self, name: str, action: str, reason: Optional[str] = None) -> "Dict[str, Any]":
        """`pause`, `resume` or `archive` it; the trigger afterwards."""
        body = {} if reason is None else {"reason": reason}
        return dict(self._http.call("POST", f"/v1/triggers/{in_path(name)}/{in_path(action)}", body=body).body)

    def subscriptions(self, *, state: Optional[str] = None) -> "List[Dict[str, Any]]":
        """All subscriptions, newest first; `state` is active, paused or archived."""
        return list(self._pages("/v1/subscriptions", {"state": state}))

    def subscription(self, name: str) -> "Dict[str, Any]":
        """The subscription with this name or id, and how far it has come. Raises NotFound."""
        return dict(self._read(f"/v1/subscriptions/{in_path(name)}", {}).body)

    def create_subscription(self, name: str, *, url: str, match: Mapping[str, Any], **options: Any) -> "Dict[str, Any]":
        """Have Rota's own events that match delivered to `url`; the subscription with its `secret`, this once.

        Options are `mode`, `retry`, `timeout`, `after`, `secret`, `description`. See `verify_webhook` for receivers.
        """
        body = {"name": name, "url": url, "match": dict(match), **options}
        return dict(self._http.call("POST", "/v1/subscriptions", body=body).body)

    def change_subscription(self, name: str, **changes: Any) -> "Dict[str, Any]":
        """Change `url`, `match`, `mode`, `retry`, `timeout`, `description`; the subscription afterwards."""
        return dict(self._http.call("PATCH", f"/v1/subscriptions/{in_path(name)}", body=changes).body)

    def change_subscription_secret(self, name: str, **options: Any) -> "Dict[str, Any]":
        """Have another `secret` sign (a new one unless given); it is in the answer, this once."""
        return dict(self._http.call("POST", f"/v1/subscriptions/{in_path(name)}/secret", body=options).body)

    def act_on_subscription(self, name: str, action: str, reason: Optional[str] = None) -> "Dict[str, Any]":
        """`pause`, `resume` or `archive` it; the subscription afterwards."""
        body = {} if reason is None else {"reason": reason}
        return dict(self._http.call("POST", f"/v1/subscriptions/{in_path(name)}/{in_path(action)}", body=body).body)

    def dead_letters(self, name: str) -> "List[Dict[str, Any]]":
        """The subscription's events that were given up."""
        return list(self._pages(f"/v1/subscriptions/{in_path(name)}/dead", {}))

    def redeliver(self, name: str, *, positions: "Optional[List[int]]" = None, reason: Optional[str] = None) -> int:
        """Deliver dead letters again: those at these positions, or all; how many they are."""
        given = {"positions": positions, "reason": reason}
        body = {key: value for key, value in given.items() if value is not None}
        return int(
            self._http.call("POST", f"/v1/subscriptions/{in_path(name)}/redeliver", body=body).body["redelivered"]
        )

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Any other call of the HTTP contract (`body`, `query`, `headers`); the decoded answer."""
        return self._http.call(method, path, **options).body

    def refuse_ambiguous(self, jobs: "Iterable[Tuple[str, Any]]") -> None:
        """Raise Refused for the first of these jobs, each with its place in a request, that may mean two things."""
        refuse_ambiguous(jobs, self._parameters.of)

    def _act(self, job_id: str, action: str, body: "Dict[str, Any]") -> Job:
        given = {name: value for name, value in body.items() if value is not None}
        answer = self._http.call(
            "POST", f"/v1/jobs/{in_path(job_id)}/{in_path(action)}", body=given, headers=trace_headers()
        )
        return Job(answer.body)

    def _read(self, path: str, query: "Dict[str, Any]", patience: Optional[float] = None) -> Answer:
        return self._http.call(
            "GET", path, query=query, patience=READ_PATIENCE_SECONDS if patience is None else patience
        )

    def _pages(self, path: str, query: "Dict[str, Any]") -> "Iterator[Dict[str, Any]]":
        cursor = None
        while True:
            page = self._read(path, {**query, "cursor": cursor}).body
            yield from page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return
