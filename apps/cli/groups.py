"""`rota workflows ...` and `rota batches ...`: submit them from a file, look at them, cancel and retry them."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from cyclopts import App

from rota import Client, Group, GroupHandle
from rota_server.apps.cli.output import Failure, print_fields, print_json, print_table, say

Kind = Literal["workflow", "batch"]
NOUNS: dict[Kind, str] = {"workflow": "workflows", "batch": "batches"}


def app_of(kind: Kind) -> App:  # noqa: C901 - one function a command
    """The commands of one kind."""
    noun = NOUNS[kind]
    app = App(name=noun, help=f"Submit {noun}, look at them, cancel and retry them.")

    @app.command
    def submit(
        file: str, *, key: str | None = None, wait: bool = False, timeout_wait: float | None = None, json: bool = False
    ) -> int:
        """Submit what a file describes, all of it or nothing; print its id, or with --wait how it ended.

        Args:
            file: A file with the JSON object of the HTTP contract; - for standard input. A batch's jobs may also be
                lines of JSON, one job each.
            key: Idempotency key: a second submission with it answers the first one.
            wait: Wait for the end; exit status 1 when it is not a success.
            timeout_wait: How many seconds to wait at most.
            json: Print JSON.
        """
        body = _body(kind, file)
        with Client() as client:
            if kind == "workflow":
                handle = client.submit_workflow(body, idempotency_key=key)
            else:
                jobs = body.get("jobs")
                if not isinstance(jobs, list) or not body.keys() <= {"jobs", "then", "name"}:
                    raise Failure(f"{file}: a batch has `jobs`, a list, and perhaps `then` and `name`", status=2)
                handle = client.submit_batch(jobs, then=body.get("then"), name=body.get("name"), idempotency_key=key)
            if not wait:
                print_json(handle.refresh().fields) if json else say(handle.id)
                return 0
            try:
                ended = handle.wait(timeout_wait, raise_on_failure=False)
            except TimeoutError as error:
                raise Failure(str(error)) from None
            _print(ended, as_json=json)
            return 0 if ended.state == "succeeded" else 1

    @app.command(name="list")
    def list_all(*, name: str | None = None, state: str | None = None, limit: int = 50, json: bool = False) -> None:
        """List them, newest first.

        Args:
            name: Only those with this name.
            state: Only those in this state: running, cancelling, succeeded, failed or cancelled.
            limit: How many at most.
            json: Print JSON.
        """
        with Client() as client:
            filters = {key: value for key, value in (("name", name), ("state", state)) if value is not None}
            found = list(_all(client, kind, limit, filters))
        if json:
            print_json([group.fields for group in found])
            return
        print_table(
            ("ID", "STATE", "NAME", "JOBS", "COUNTS", "SUBMITTED"),
            ((g.id, g.state, g.name, g.total, _counts(g), g.submitted_at) for g in found),
        )

    @app.command
    def show(id: str, *, json: bool = False) -> None:
        """Show one: its state, how many jobs are in each, and of a workflow each job.

        Args:
            id: Its id.
            json: Print JSON.
        """
        with Client() as client:
            _print(_handle(client, kind, id).refresh(), as_json=json)

    @app.command
    def cancel(id: str, *, reason: str | None = None, json: bool = False) -> None:
        """End all of its jobs that have not ended.

        Args:
            id: Its id.
            reason: Why; kept in the history.
            json: Print JSON.
        """
        with Client() as client:
            _print_state(_handle(client, kind, id).cancel(reason), as_json=json)

    @app.command
    def retry(id: str, *, reason: str | None = None, json: bool = False) -> None:
        """Let those of its jobs run again that did not succeed.

        Args:
            id: Its id.
            reason: Why; kept in the history.
            json: Print JSON.
        """
        with Client() as client:
            _print_state(_handle(client, kind, id).retry(reason), as_json=json)

    return app


def _body(kind: Kind, file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file}: {error}", status=2) from None
    try:
        value = json_module.loads(text)
    except ValueError as error:
        value = _lines(text) if kind == "batch" else None
        if value is None:
            raise Failure(f"{file}: {error}", status=2) from None
    if kind == "batch" and isinstance(value, list):
        value = {"jobs": value}
    if kind == "batch" and isinstance(value, dict) and "task" in value:
        value = {"jobs": [value]}
    if not isinstance(value, dict):
        raise Failure(f"{file}: must hold a JSON object", status=2)
    return value


def _lines(text: str) -> list[Any] | None:
    try:
        return [json_module.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        return None


def _handle(client: Client, kind: Kind, group_id: str) -> GroupHandle:
    return client.workflow(group_id) if kind == "workflow" else client.batch(group_id)


def _all(client: Client, kind: Kind, limit: int, filters: dict[str, str]) -> Iterator[Group]:
    return client.workflows(limit=limit, **filters) if kind == "workflow" else client.batches(limit=limit, **filters)


def _counts(group: Group) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(group.counts.items()))


def _print(group: Group, *, as_json: bool) -> None:
    if as_json:
        print_json(group.fields)
        return
    jobs = group.fields.get("jobs")
    print_fields({**{name: value for name, value in group.fields.items() if name != "jobs"}, "counts": _counts(group)})
    if jobs:
        say()
        print_table(
            ("JOB", "STATE", "ID", "AFTER"),
            ((node, job["state"], job["id"], ", ".join(job["after"])) for node, job in jobs.items()),
        )


def _print_state(group: Group, *, as_json: bool) -> None:
    if as_json:
        print_json(group.fields)
    else:
        say(f"{group.id} is {group.state}")
