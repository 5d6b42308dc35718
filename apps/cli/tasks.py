"""`rota tasks ...`: which tasks there are, what they take, and what their jobs get by default."""

from __future__ import annotations

from typing import Any

from cyclopts import App

from rota import Client
from rota_server.apps.cli.output import print_fields, print_json, print_table

app = App(name="tasks", help="Look at the tasks that executors have announced.")


@app.command(name="list")
def list_tasks(*, json: bool = False) -> None:
    """List every task: those that executors have announced, and the built-in ones.

    Args:
        json: Print JSON.
    """
    with Client() as client:
        found = client.tasks()
    if json:
        print_json(found)
        return
    print_table(("NAME", "ARGUMENTS"), ((task["name"], _takes(task)) for task in found))


@app.command
def show(name: str, *, json: bool = False) -> None:
    """Show a task: its arguments, and the options that its jobs get by default.

    Args:
        name: The task's name.
        json: Print JSON.
    """
    with Client() as client:
        found = client.task(name)
    if json:
        print_json(found)
    else:
        print_fields({"name": found["name"], "arguments": _takes(found), **found["defaults"]})


def _takes(task: dict[str, Any]) -> str:
    """Its arguments on a line, `to: string, count: integer (optional)`."""
    if task["builtin"]:
        return "built in: see docs/tasks.md"
    parts = []
    for one in task["parameters"] or ():
        types = ": " + " or ".join(one["types"]) if one["types"] else ""
        parts.append(one["name"] + types + ("" if one["required"] else " (optional)"))
    return ", ".join(parts + (["any other"] if task["any_argument"] else [])) or "none"
