"""`rota why`: why a job, workflow, batch or schedule is in its state, and why a job of the inbox is not in the log."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from rota import Client, NotFound
from rota_server.apps.cli.output import Failure, print_json, say


def why(id: str, *, at: str | None = None, json: bool = False) -> None:
    """Say why a job is not running now or ended as it did; the same of a workflow, batch, schedule or inbox row.

    Args:
        id: The id of a job, workflow, batch or inbox row, or the id or name of a schedule.
        at: A nominal time of the schedule (RFC 3339 with an offset); without it: what it waits for now.
        json: Print JSON.
    """
    with Client() as client:
        found = _found(client, id, at)
    if json:
        print_json(found)
        return
    say(f"{found.get('id') or found['name']} is {found['state']}:")
    for reason in found["reasons"]:
        say(f"- {reason['text']}")
        for holder in reason.get("holders", ()):
            say(f"    {_holder(holder)}")
        _print_traceback(reason)


def _print_traceback(reason: dict[str, Any]) -> None:
    """Print where the last attempt failed, as Python shows it; also of the jobs that a workflow's reason is about."""
    for inner in (reason, *reason.get("reasons", ())):
        error = inner.get("error") or {}
        for line in (error.get("traceback") or "").splitlines():
            say(f"    {line}")


KINDS = ("workflow", "batch", "inbox")


def _found(client: Client, name: str, at: str | None) -> dict[str, Any]:
    if at is None and _is_id(name):
        with suppress(NotFound):
            return client.why(name)
        for kind in KINDS:
            with suppress(NotFound):
                return client.why_of(kind, name)
    try:
        return client.why_tick(name, at)
    except NotFound as error:
        if error.field != "id":
            raise
        kind = "schedule" if at is not None else "job, workflow, batch, inbox row or schedule"
        raise Failure(f"there is no {kind} {name!r}") from None


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _holder(holder: dict[str, Any]) -> str:
    if holder["executor"] is None:
        return f"job {holder['job']} is dispatched"
    return f"job {holder['job']} runs on {holder['executor']} since {holder['started_at']}"
