"""`rota why`: why a job is not running or ended as it did, and why a schedule did or did not tick."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from apps.cli.output import Failure, print_json
from rota import Client, NotFound


def why(id: str, *, at: str | None = None, json: bool = False) -> None:
    """Say why a job is not running now, or why it ended as it did; or why a schedule did or did not tick.

    Args:
        id: The id of a job, or the id or name of a schedule.
        at: A nominal time of the schedule (RFC 3339 with an offset); without it: what it waits for now.
        json: Print JSON.
    """
    with Client() as client:
        found = _found(client, id, at)
    if json:
        print_json(found)
        return
    print(f"{found.get('id') or found['name']} is {found['state']}:")
    for reason in found["reasons"]:
        print(f"- {reason['text']}")
        for holder in reason.get("holders", ()):
            print(f"    {_holder(holder)}")


def _found(client: Client, name: str, at: str | None) -> dict[str, Any]:
    try:
        if at is None and _is_id(name):
            with suppress(NotFound):
                return client.why(name)
        return client.why_tick(name, at)
    except NotFound as error:
        if error.field != "id":
            raise
        kind = "schedule" if at is not None else "job and no schedule"
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
