"""`rota submit` and `rota jobs ...`: what one does with jobs, through the store's HTTP interface.

The store is the one that ROTA_URL names, else http://127.0.0.1:3000; ROTA_TOKEN is the bearer token.
"""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterable
from typing import Annotated, Any

from cyclopts import App, Parameter

from rota import Client, Job
from rota_server.apps.cli.arguments import arguments_of, pairs
from rota_server.apps.cli.output import Failure, print_fields, print_json, print_table, say

app = App(name="jobs", help="List, read and change jobs.")

Tags = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]


def submit(  # noqa: PLR0913 - each is an option
    task: str,
    *arguments: str,
    wait: bool = False,
    delay: float | None = None,
    at: str | None = None,
    queue: str | None = None,
    priority: str | None = None,
    timeout: float | None = None,
    key: str | None = None,
    idempotency_key: str | None = None,
    idempotent: bool | None = None,
    unique: str | None = None,
    while_: Annotated[str | None, Parameter(name="--while")] = None,
    on_conflict: str | None = None,
    tag: Tags = (),
    after: Tags = (),
    on_failure: str | None = None,
    json_: Annotated[str | None, Parameter(name="--json")] = None,
    timeout_wait: float | None = None,
) -> int:
    """Submit a job; print its id, or with --wait how it ended (as JSON where the output is no terminal).

    Args:
        task: The task's name.
        arguments: name=value; a value that is JSON is taken as JSON, unless the task takes only a text there
            (`rota tasks show TASK`), any other as text.
        wait: Wait for the end; exit status 1 when it is not a success.
        delay: Seconds to wait before it runs.
        at: Not before this instant (RFC 3339 with an offset).
        queue: The queue.
        priority: high, normal or low.
        timeout: Seconds that one attempt may take.
        key: What limits for a key and turns among keys count by.
        idempotency_key: A second submission with it answers the first job.
        idempotent: Whether it may be broken off and repeated at no cost, whatever its task was declared with.
        unique: One job for this key at a time.
        while_: How long another job with the key keeps this one out: queued, running, unfinished, or seconds.
        on_conflict: What becomes of this one then: reject, return, replace or keep_latest.
        tag: name=value; may be given several times.
        after: The id of a job, workflow or batch that has to end first; may be given several times.
        on_failure: cancel, run or hold: what becomes of it when one of these does not succeed.
        json_: Further fields of the job as a JSON object, as the HTTP contract has them.
        timeout_wait: How many seconds to wait at most.
    """
    spec = _object(json_) if json_ is not None else {}
    spec.update({"task": task})
    if tag:
        spec["tags"] = pairs(tag)
    if after:
        spec["after"] = [*spec.get("after", []), *after]
    options = {
        "delay": delay,
        "run_at": at,
        "queue": queue,
        "priority": priority,
        "timeout": timeout,
        "key": key,
        "on_failure": on_failure,
        "idempotent": idempotent,
    }
    spec.update({name: value for name, value in options.items() if value is not None})
    rule = {"key": unique, "while": _while(while_), "on_conflict": on_conflict}
    rule = {name: value for name, value in rule.items() if value is not None}
    if rule:
        spec["unique"] = {**(spec.get("unique") or {}), **rule}
    with Client() as client:
        if arguments:
            spec["args"] = {**spec.get("args", {}), **arguments_of(client, task, arguments)}
        job = client.submit_spec(spec, idempotency_key=idempotency_key)
        if not wait:
            say(job["id"])
            return 0
        from rota.client import JobHandle

        try:
            ended = JobHandle(client, job["id"]).wait(timeout_wait, raise_on_failure=False)
        except TimeoutError as error:
            raise Failure(str(error)) from None
        if sys.stdout.isatty():
            _print_end(ended)
        else:
            print_json(ended.fields)
        return 0 if ended.state == "succeeded" else 1


def _print_end(job: Job) -> None:
    """Print how a job ended, in a few lines: its result, or its error with where that came from."""
    say(f"{job.id} {job.state} in attempt {job.attempt}")
    if job.state == "succeeded":
        if job.result is not None:
            say(job.result if isinstance(job.result, str) else json_module.dumps(job.result, indent=2))
        return
    error = job.error or {}
    if error:
        say(error.get("traceback") or f"{error.get('type')}: {error.get('message')}")
    say(f"rota why {job.id} says more.")


@app.command(name="list")
def list_jobs(
    *,
    state: str | None = None,
    queue: str | None = None,
    task: str | None = None,
    tag: Tags = (),
    limit: int = 50,
    json: bool = False,
) -> None:
    """List jobs, newest first.

    Args:
        state: Only those in this state.
        queue: Only those of this queue.
        task: Only those of this task.
        tag: Only those with name:value; may be given several times.
        limit: How many at most.
        json: Print JSON.
    """
    with Client() as client:
        found = list(client.list(limit=limit, state=state, queue=queue, task=task, tag=list(tag) or None))
    if json:
        print_json([job.fields for job in found])
        return
    print_table(
        ("ID", "STATE", "TASK", "QUEUE", "ATTEMPT", "SUBMITTED"),
        ((j.id, j.state, j.task, j.queue, j.attempt, j.submitted_at) for j in found),
    )


@app.command
def show(id: str, *, at: str | None = None, json: bool = False) -> None:
    """Show a job.

    Args:
        id: The job's id.
        at: As it was at this position or instant.
        json: Print JSON.
    """
    with Client() as client:
        job = client.get(id, at=at)
    if json:
        print_json(job.fields)
    else:
        print_fields(job.fields)


@app.command
def events(id: str, *, json: bool = False) -> None:
    """Print a job's history.

    Args:
        id: The job's id.
        json: Print JSON.
    """
    with Client() as client:
        history = client.events(id)
    if json:
        print_json(history)
    else:
        print_history(history)


@app.command
def logs(id: str, *, json: bool = False) -> None:
    """Print what the job's task printed.

    Args:
        id: The job's id.
        json: Print JSON.
    """
    with Client() as client:
        parts = client.logs(id)
    if json:
        print_json(parts)
    else:
        for part in parts:
            say(part["text"], end="")


@app.command
def cancel(id: str, *, reason: str | None = None, json: bool = False) -> None:
    """End a job, whatever it does now.

    Args:
        id: The job's id.
        reason: Why; kept in the history.
        json: Print the job as JSON.
    """
    with Client() as client:
        _print_state(client.cancel(id, reason).fields, json)


@app.command
def retry(
    id: str | None = None,
    *,
    state: str | None = None,
    queue: str | None = None,
    task: str | None = None,
    tag: Tags = (),
    dry_run: bool = False,
    reason: str | None = None,
    json: bool = False,
) -> None:
    """Run an ended job again, or a retrying one at once; without an id all jobs in `--state`.

    Args:
        id: The job's id.
        state: All jobs in this state: failed, cancelled, expired or retrying.
        queue: Of these only those of this queue.
        task: Of these only those of this task.
        tag: Of these only those with name:value; may be given several times.
        dry_run: Only count them.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    chosen = state or queue or task or tag or dry_run
    if (id is None) == (not chosen):
        raise Failure("give a job's id, or --state for many, with --queue, --task and --tag to narrow it", status=2)
    with Client() as client:
        if id is not None:
            _print_state(client.retry(id, reason).fields, json)
            return
        if state is None:
            raise Failure("--state says which jobs to retry: failed, cancelled, expired or retrying", status=2)
        answer = client.retry_all(
            state=state, queue=queue, task=task, tag=list(tag) or None, dry_run=dry_run, reason=reason
        )
    if json:
        print_json(answer)
    elif dry_run:
        say(f"{answer['matched']} would be retried")
    else:
        more = "" if answer["complete"] else "; there are more: say it again"
        say(f"{answer['done']} retried, {answer['refused']} refused{more}")


@app.command
def release(id: str, *, reason: str | None = None, json: bool = False) -> None:
    """Let a job run that waits for others.

    Args:
        id: The job's id.
        reason: Why; kept in the history.
        json: Print the job as JSON.
    """
    with Client() as client:
        _print_state(client.release(id, reason).fields, json)


def print_history(history: Iterable[dict[str, Any]]) -> None:
    """Events one a line: version, time, type, actor, what is worth knowing."""
    print_table(
        ("VERSION", "POSITION", "TIME", "EVENT", "ACTOR", "WHAT"),
        (
            (e["version"], e["position"], e["recorded_at"], e["type"], e["meta"].get("actor"), summary(e))
            for e in history
        ),
    )


def summary(event: dict[str, Any]) -> str:
    """The few words that matter of an event's data."""
    data = event["data"]
    names = ("attempt", "executor", "reason", "retry_at", "run_at", "attempts", "fraction", "message")
    parts = [f"{name}={data[name]}" for name in names if data.get(name) is not None]
    if data.get("error"):
        parts.append(f"{data['error']['type']}: {data['error']['message'].splitlines()[0][:120]}")
    if event["type"] == "JobSubmitted":
        parts.append(f"task={data['spec']['task']}")
    if event["type"] == "AttemptSucceeded":
        parts.append("result=" + json_module.dumps(data["result"], ensure_ascii=False)[:120])
    return " ".join(parts)


def _print_state(fields: dict[str, Any], as_json: bool) -> None:  # noqa: FBT001 - passed on
    if as_json:
        print_json(fields)
    else:
        waits = " (its executor has been asked to end it)" if fields["state"] == "running" else ""
        say(f"{fields['id']} is {fields['state']}{waits}")


def _while(text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _object(text: str) -> dict[str, Any]:
    try:
        value = json_module.loads(text)
    except ValueError as error:
        raise Failure(f"--json: {error}", status=2) from None
    if not isinstance(value, dict):
        raise Failure("--json takes a JSON object", status=2)
    return value
