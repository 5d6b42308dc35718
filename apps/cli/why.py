"""`rota why`: why a job is not running, or why it ended as it did."""

from __future__ import annotations

from typing import Any

from apps.cli.output import print_json
from rota import Client

SHOWN_APART = ("code", "text")


def why(id: str, *, json: bool = False) -> None:
    """Say why a job is not running now, or why it ended as it did.

    Args:
        id: The job's id.
        json: Print JSON.
    """
    with Client() as client:
        found = client.why(id)
    if json:
        print_json(found)
        return
    print(f"{found['id']} is {found['state']}:")
    for reason in found["reasons"]:
        print(f"- {reason['text']}")
        for holder in reason.get("holders", ()):
            print(f"    {_holder(holder)}")


def _holder(holder: dict[str, Any]) -> str:
    if holder["executor"] is None:
        return f"job {holder['job']} is dispatched"
    return f"job {holder['job']} runs on {holder['executor']} since {holder['started_at']}"
