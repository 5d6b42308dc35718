"""A client in memory: jobs run in this process, when the test lets its clock go on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import json
import traceback
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Set, TypeVar, Union

from rota import current
from rota.errors import Conflict, JobFailed, NoRetry, NotFound, Refused, Retry, TaskCancelled, WaitTimeout
from rota.jobs import ENDED, Job
from rota.keywords import Parameters, refuse_ambiguous
from rota.submitting import JobHandle, Submitting
from rota.tasks import registered
from rota.testing.asynchronous import awaited
from rota.testing.context import running_job
from rota.testing.groups import GroupCalls, MemoryGroups
from rota.testing.predecessors import Unresolved, judge, predecessors, resolved
from rota.testing.schedules import MemorySchedules
from rota.typevars import R
from rota.values import plain, plain_arguments

DEFAULT_RETRY = {"max_attempts": 5, "backoff": "exponential", "initial": 1.0, "factor": 2.0, "maximum": 3600.0}
RUNS_LIMIT = 100_000
"""Jobs that one call may run: a task that submits itself forever is a mistake that a test should end with."""

OPTIONS = {"queue": "default", "priority": "normal", "timeout": 3600.0, "tags": {}, "key": None, "idempotent": False}
ORDER = {"high": 0, "normal": 1, "low": 2}
WAITING = frozenset({"scheduled", "queued", "retrying", "waiting"})

Stub = Callable[..., Any]
M = TypeVar("M", bound="MemoryClient")


class MemoryHandle(JobHandle[R]):
    """As `JobHandle`; to wait is to let the client's clock go on."""

    def wait(self, timeout: Optional[float] = None, *, raise_on_failure: bool = True) -> Job[R]:
        """Let time pass until the job has ended, at most so many seconds of the client's clock.

        Raises:
            WaitTimeout: it has not ended by then.
            JobFailed: it ended in another state than `succeeded` (unless `raise_on_failure` is False).
        """
        client: MemoryClient = self._client  # type: ignore[assignment]
        found = self._typed(client.run_until_ended(self.id, timeout))
        if raise_on_failure and found.state != "succeeded":
            raise JobFailed(found)
        return found


class MemoryClient(GroupCalls, Submitting):
    """Takes jobs as `Client` does and keeps them in memory. Nothing runs by itself, and nothing sleeps.

    `run_due` runs what is due, `advance` lets time pass, a handle's `wait` does both. Arguments and results travel as
    JSON, and attempts are repeated by the job's policy, without jitter. Within its `with` block it is the client of
    `Task.submit`. `now` is its clock. `stubs` stand for tasks that are not in this process, built-in ones for instance:
    `{"http.request": lambda **args: {"status": 200}}`. `published` are the events that were published.
    """

    def __init__(self, *, now: Optional[datetime] = None, stubs: Optional[Mapping[str, Stub]] = None) -> None:
        self.now = now or datetime(2030, 1, 1, tzinfo=timezone.utc)
        if self.now.tzinfo is None:
            raise ValueError("now: needs a time zone: use an aware datetime")
        self.url = "memory:"
        self.patience = 0.0
        self.stubs = dict(stubs or {})
        self.published: "List[Dict[str, Any]]" = []
        self._jobs: "Dict[str, Dict[str, Any]]" = {}
        self._keys: "Dict[str, str]" = {}
        self._reports: "Dict[str, List[Any]]" = {}
        self._entered: "List[Any]" = []
        self._by_hand: "Set[str]" = set()
        self._parameters = _Here()  # type: ignore[assignment]
        self.groups = MemoryGroups(self)
        self.schedules = MemorySchedules(self)
        self.awaited = awaited(self)

    def __enter__(self: M) -> M:  # noqa: PYI019 - typing.Self came with Python 3.11
        self._entered.append((current.enter(self), current.enter_async(self.awaited)))  # type: ignore[arg-type]
        return self

    def __exit__(self, *_: object) -> None:
        for token in self._entered.pop():
            current.leave(token)

    # -- what a client does ------------------------------------------------------------------------------------------

    def get(self, job_id: str, **_: Any) -> "Job[Any]":
        """The job as it is. Raises NotFound."""
        return Job(json.loads(json.dumps(self._job(job_id))))

    def handle(self, job_id: str) -> "MemoryHandle[Any]":
        """The job with this id."""
        return MemoryHandle(self, job_id)  # type: ignore[arg-type]

    def list(self, **filters: Any) -> "Iterator[Job[Any]]":
        """Jobs with these fields (state, queue, task ...), newest first."""
        for fields in reversed(list(self._jobs.values())):
            if all(fields.get(name) == value for name, value in filters.items()):
                yield self.get(fields["id"])

    def cancel(self, job_id: str, reason: Optional[str] = None) -> "Job[Any]":
        """End the job, which does not run. Raises Conflict when it has ended."""
        fields = self._job(job_id)
        if fields["state"] == "cancelled":
            return self.get(job_id)
        if fields["state"] in ENDED:
            raise Conflict(409, {"detail": f"job {job_id} has {fields['state']}", "field": "state"})
        fields["reason"] = reason
        self._by_hand.add(fields["id"])
        self._end(fields, "cancelled")
        return self.get(job_id)

    def retry(self, job_id: str, reason: Optional[str] = None) -> "Job[Any]":
        """Let an ended job run again with a fresh budget, or a retrying one at once. Raises Conflict."""
        fields = self._job(job_id)
        if fields["state"] not in ("retrying", "failed", "cancelled", "expired"):
            raise Conflict(409, {"detail": f"job {job_id} is {fields['state']}", "field": "state"})
        self.reopen([job_id], reason)
        return self.get(job_id)

    def release(self, job_id: str, reason: Optional[str] = None) -> "Job[Any]":
        """Let a job run that waits for others. Raises Conflict when it does not."""
        fields = self._job(job_id)
        if fields["state"] != "waiting":
            raise Conflict(409, {"detail": f"job {job_id} is {fields['state']}", "field": "state"})
        fields.update(reason=reason, state=self._ready(fields))
        return self.get(job_id)

    def call(self, method: str, path: str, **_: Any) -> Any:
        """Refuse it: there is no HTTP. Raises NotImplementedError."""
        raise NotImplementedError(f"{method} {path}: MemoryClient has no HTTP; docs/testing.md says what it has")

    def reschedule(self, job_id: str, run_at: "Union[str, datetime]", reason: Optional[str] = None) -> "Job[Any]":
        """Give a waiting job another time. Raises Conflict."""
        fields = self._job(job_id)
        if fields["state"] in ENDED or fields["state"] == "running":
            raise Conflict(409, {"detail": f"job {job_id} is {fields['state']}", "field": "state"})
        at = run_at if isinstance(run_at, str) else run_at.isoformat()
        fields.update(run_at=at, reason=reason)
        if fields["state"] != "waiting":
            fields["state"] = self._ready(fields)
        return self.get(job_id)

    def publish(self, event: Mapping[str, Any]) -> "Dict[str, Any]":
        """Keep the event in `published`."""
        kept = plain({"specversion": "1.0", "id": str(uuid.uuid4()), **event})
        self.published.append(kept)
        return {"id": kept["id"], "position": len(self.published), "repeated": False}

    def progress_of(self, job_id: str) -> "List[Any]":
        """What the job's attempts said about their progress, `(fraction, message)`, in order."""
        return list(self._reports.get(job_id, ()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotImplementedError(f"MemoryClient has no {name}: docs/testing.md says what it has")

    # -- time --------------------------------------------------------------------------------------------------------

    def run_due(self) -> "List[Job[Any]]":
        """Run what is due, and what that submits; the jobs that ran, in order."""
        ran: "List[Job[Any]]" = []
        while True:
            while self.schedules.tick():
                pass
            fields = self._next_due()
            if fields is None:
                return ran
            if len(ran) >= RUNS_LIMIT:
                raise RuntimeError(f"more than {RUNS_LIMIT} runs: a task submits itself forever")
            self._run(fields)
            ran.append(self.get(fields["id"]))

    def advance(self, by: "Union[float, timedelta]") -> "List[Job[Any]]":
        """Let time pass, by seconds or a timedelta: what becomes due meanwhile runs at its time; the jobs that ran."""
        end = self.now + (by if isinstance(by, timedelta) else timedelta(seconds=by))
        ran = self.run_due()
        while (at := self._next_time()) is not None and at <= end and len(ran) < RUNS_LIMIT:
            self.now = at
            ran += self.run_due()
        self.now = end
        return ran

    def run_until_ended(self, job_id: str, timeout: Optional[float] = None) -> "Job[Any]":
        """Let time pass until this job has ended. Raises WaitTimeout."""
        self.run_until(lambda: self.get(job_id).ended, job_id, timeout, "job", lambda: self.get(job_id))
        return self.get(job_id)

    def run_until(
        self, over: "Callable[[], bool]", name: str, timeout: Optional[float], what: str, seen: "Callable[[], Any]"
    ) -> None:
        """Let time pass until it is over. Raises WaitTimeout; without a timeout too, when nothing more will happen."""
        end = None if timeout is None else self.now + timedelta(seconds=timeout)
        self.run_due()
        for _ in range(RUNS_LIMIT):
            if over():
                return
            at = self._next_time()
            if at is None or (end is not None and at > end):
                self.now = end or self.now
                raise WaitTimeout(name, timeout or 0.0, seen(), what=what)
            self.now = at
            self.run_due()
        raise RuntimeError(f"{what} {name} has not ended after {RUNS_LIMIT} steps of time: a schedule without an end?")

    # -- inside ------------------------------------------------------------------------------------------------------

    def _submit(
        self,
        spec: Mapping[str, Any],
        idempotency_key: Optional[str],
    ) -> "Dict[str, Any]":
        refuse_ambiguous([("", spec)], self.parameters_of)
        if idempotency_key is not None and idempotency_key in self._keys:
            return self._job(self._keys[idempotency_key])
        fields = self.prepared(spec, str(uuid.uuid4()), {})
        holder = self._holder(fields["task"], fields)
        if holder is not None:
            return holder
        self.add([fields])
        if idempotency_key is not None:
            self._keys[idempotency_key] = fields["id"]
        return fields

    def parameters_of(self, task: str) -> Parameters:
        """What is known of a task: those of this process."""
        return self._parameters.of(task)

    def prepared(
        self,
        spec: "Mapping[str, Any]",
        job_id: str,
        names: "Mapping[str, str]",
        place: str = "",
        known: "Iterable[str]" = (),
    ) -> "Dict[str, Any]":
        """The job of this submission, checked and not added; `names` are those that it may wait for by name."""
        prefix, name = f"{place}." if place else "", str(spec["task"])
        if name not in registered() and name not in self.stubs:
            said = f"{prefix}task: there is no task {name!r} in this process; give MemoryClient a stub for it"
            raise _refused(f"{prefix}task", said)
        task = registered().get(name)
        if task is not None:
            self._check_arguments(task, spec.get("args") or {})
            spec = {**task.defaults, **spec}
        fields = self._fields(name, spec, job_id, predecessors(spec.get("after"), names))
        for one in fields["after"] or ():
            if one["job"] not in (*names.values(), *known) and self._state_of(one["job"]) is None:
                raise _refused(f"{prefix}after", f"{prefix}after: there is no job {one['job']!r}")
        return fields

    def add(self, jobs: "Iterable[Dict[str, Any]]") -> None:
        """Take in jobs that were prepared."""
        for fields in jobs:
            self._jobs[fields["id"]] = fields
        self._judge()

    def reopen(self, jobs: "Iterable[str]", reason: Optional[str]) -> None:
        """Let these run again, each after its predecessors again."""
        for job_id in jobs:
            fields = self._job(job_id)
            fields.update(reason=reason, finished_at=None, run_at=None, expires_at=None, failures=0)
            fields["state"] = "waiting" if fields["after"] and fields["state"] != "retrying" else "queued"
            self._by_hand.discard(job_id)
        self._judge()

    def cancelled_by_hand(self, job_id: str) -> bool:
        """Whether somebody has cancelled the job, not its predecessor's end."""
        return job_id in self._by_hand

    def _state_of(self, name: str) -> Optional[str]:
        fields = self._jobs.get(name)
        return self.groups.state_of(name) if fields is None else str(fields["state"])

    def _judge(self) -> None:
        """Let go whose predecessors have ended as they had to, and cancel whose cannot any more."""
        settled = False
        while not settled:
            settled = True
            for fields in self._jobs.values():
                if fields["state"] == "waiting":
                    verdict, reason = judge(fields, lambda name: self._state_of(name) or "")
                    if verdict == "run":
                        fields["state"] = self._ready(fields)
                    elif verdict == "cancel":
                        fields.update(state="cancelled", reason=reason, finished_at=self.now.isoformat())
                    settled = settled and verdict == "wait"

    def _ready(self, fields: "Mapping[str, Any]") -> str:
        return "scheduled" if fields["run_at"] is not None and _instant(fields["run_at"]) > self.now else "queued"

    def _results(self, fields: "Mapping[str, Any]") -> "Dict[str, Any]":
        found = {}
        for one in fields["after"] or ():
            other = self._jobs.get(one["job"])
            if other is None:
                result = self.groups.result_of(one["job"])
                if result is not None:
                    found[one["name"]] = result
            elif other["state"] == "succeeded":
                found[one["name"]] = json.loads(json.dumps(other["result"]))
        return found

    def submit_many(self, jobs: "Iterable[Mapping[str, Any]]") -> "List[Dict[str, Any]]":
        """As `Client.submit_many`."""
        results: "List[Dict[str, Any]]" = []
        for spec in jobs:
            key = spec.get("idempotency_key")
            try:
                results.append({"status": 201, "id": self._submit(spec, key)["id"]})
            except Refused as error:
                results.append({"status": error.status, "problem": error.problem})
        return results

    def _made(self, job_id: str, signature: Any) -> "MemoryHandle[Any]":
        return MemoryHandle(self, job_id, signature)  # type: ignore[arg-type]

    @staticmethod
    def _check_arguments(task: Any, args: Mapping[str, Any]) -> None:
        try:
            task.check_arguments(args)
        except TypeError as error:
            raise _refused("args", f"args: {error}") from None

    def _fields(
        self, name: str, spec: Mapping[str, Any], job_id: str, after: "Optional[List[Dict[str, str]]]"
    ) -> "Dict[str, Any]":
        run_at = spec.get("run_at")
        if spec.get("delay"):
            run_at = (self.now + timedelta(seconds=spec["delay"])).isoformat()
        later = run_at is not None and _instant(run_at) > self.now
        options = {option: spec.get(option, default) for option, default in OPTIONS.items()}
        return plain(  # type: ignore[no-any-return]
            {
                **options,
                "id": job_id,
                "task": name,
                "args": plain_arguments(spec.get("args") or {}),
                "state": "waiting" if after else "scheduled" if later else "queued",
                "after": after,
                "after_mode": (spec.get("after_mode") or "all") if after else None,
                "on_failure": (spec.get("on_failure") or "cancel") if after else None,
                "origin": None,
                "run_at": run_at,
                "retry": {**DEFAULT_RETRY, **(spec.get("retry") or {})},
                "unique": spec.get("unique"),
                "expires_at": spec.get("expires_at"),
                "attempt": 0,
                "failures": 0,
                "submitted_at": self.now.isoformat(),
                **dict.fromkeys(("started_at", "finished_at", "result", "error", "reason")),
            }
        )

    def _holder(self, name: str, spec: Mapping[str, Any]) -> "Optional[Dict[str, Any]]":
        """The job whose unique key this one has. Raises Conflict, or NotImplementedError for rarer rules."""
        unique = spec.get("unique")
        if unique is None:
            return None
        scope, rule = unique.get("while", "unfinished"), unique.get("on_conflict", "return")
        if scope not in ("unfinished", "queued", "running") or rule not in ("return", "reject"):
            raise NotImplementedError("unique: MemoryClient knows `while` of states, and `return` and `reject`")
        wanted = _unique_key(name, unique, plain_arguments(spec.get("args") or {}))
        for other in self._jobs.values():
            if other["unique"] is None or other["state"] in ENDED:
                continue
            if scope != "unfinished" and (other["state"] == "running") != (scope == "running"):
                continue
            if _unique_key(other["task"], other["unique"], other["args"]) == wanted:
                if rule == "reject":
                    problem = {"detail": "another job has this key", "field": "unique.key", "job": other["id"]}
                    raise Conflict(409, problem)
                return other
        return None

    def _job(self, job_id: str) -> "Dict[str, Any]":
        try:
            return self._jobs[str(job_id)]
        except KeyError:
            raise NotFound(404, {"detail": f"there is no job {job_id}", "field": "id"}) from None

    def _waiting(self) -> "List[Dict[str, Any]]":
        return [fields for fields in self._jobs.values() if fields["state"] in WAITING]

    def _next_due(self) -> "Optional[Dict[str, Any]]":
        due = []
        for fields in self._waiting():
            if fields["expires_at"] is not None and _instant(fields["expires_at"]) <= self.now:
                self._end(fields, "expired")
            elif fields["state"] == "waiting":
                continue
            elif fields["state"] == "queued" or _instant(fields["run_at"]) <= self.now:
                due.append(fields)
        return min(due, key=lambda fields: ORDER.get(fields["priority"], 1), default=None)

    def _next_time(self) -> Optional[datetime]:
        times = [
            _instant(fields[name])
            for fields in self._waiting()
            for name in ("run_at", "expires_at")
            if fields[name] and not (name == "run_at" and fields["state"] == "waiting")
        ]
        tick = self.schedules.next_time()
        times += [] if tick is None else [tick]
        return min((at for at in times if at > self.now), default=None)

    def _end(self, fields: "Dict[str, Any]", state: str) -> None:
        fields.update(state=state, finished_at=self.now.isoformat())
        self._judge()

    def _run(self, fields: "Dict[str, Any]") -> None:
        fields["attempt"] += 1
        fields.update(state="running", started_at=self.now.isoformat(), run_at=None)
        known = {name: fields[name] for name in ("id", "attempt", "task", "queue", "tags")}
        results = self._results(fields)
        with running_job(**known, results=results) as job:
            self._reports.setdefault(fields["id"], job.reports)
            job.reports = self._reports[fields["id"]]
            try:
                args = json.loads(json.dumps(fields["args"]))
                result = plain(self._call(fields, resolved(args, results) if fields["after"] else args))
            except Unresolved as error:
                fields["error"] = {"type": "UnresolvedReference", "message": str(error), "traceback": None}
                self._end(fields, "failed")
            except (KeyboardInterrupt, TaskCancelled):
                self._end(fields, "cancelled")
                raise
            except Exception as error:  # noqa: BLE001 - whatever a task raises is its attempt's failure
                self._failed(fields, error)
            else:
                fields.update(result=json.loads(json.dumps(result)), error=None)
                self._end(fields, "succeeded")

    def _call(self, fields: "Dict[str, Any]", args: "Dict[str, Any]") -> Any:
        task = registered().get(fields["task"])
        if fields["task"] in self.stubs or task is None:
            return self.stubs[fields["task"]](**args)
        result = task.function(**task.signature.arguments(args))
        return _awaited(result) if task.is_async else result

    def _failed(self, fields: "Dict[str, Any]", error: Exception) -> None:
        fields["failures"] += 1
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        fields["error"] = {"type": type(error).__qualname__, "message": str(error), "traceback": text}
        policy, task = fields["retry"], registered().get(fields["task"])
        chosen = isinstance(error, Retry)
        again = chosen or (not isinstance(error, NoRetry) and (task is None or task.may_retry(type(error))))
        if not again or fields["failures"] >= policy["max_attempts"]:
            self._end(fields, "failed")
            return
        at = self.now + timedelta(seconds=_delay(policy, fields["failures"]))
        if isinstance(error, Retry):
            at = error.at or (at if error.after is None else self.now + timedelta(seconds=error.after))
        fields.update(state="retrying", run_at=at.isoformat())


class _Here:
    """What the tasks of this process take."""

    def of(self, task: str) -> Parameters:
        """The names of its parameters."""
        found = registered().get(task)
        return None if found is None else found.parameters()


def _unique_key(task: str, unique: Mapping[str, Any], args: Mapping[str, Any]) -> Any:
    return unique.get("key") or (task, json.dumps(args, sort_keys=True))


def _delay(policy: Mapping[str, Any], failures: int) -> float:
    if policy["backoff"] == "fixed":
        delay = policy["initial"]
    elif policy["backoff"] == "linear":
        delay = policy["initial"] * failures
    else:
        delay = policy["initial"] * policy["factor"] ** min(failures - 1, 64)
    return float(min(delay, policy["maximum"]))


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


def _refused(field: str, detail: str) -> Refused:
    return Refused(422, {"detail": detail, "field": field})


def _awaited(coroutine: Any) -> Any:
    """What it returns, also within a test that runs on an event loop itself."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    context = contextvars.copy_context()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        return threads.submit(context.run, asyncio.run, coroutine).result()
