"""`rota triggers ...`: jobs that published events make."""

from __future__ import annotations

from typing import Any

from cyclopts import App

from rota import Client
from rota_server.apps.cli.json_options import given, object_of
from rota_server.apps.cli.output import print_fields, print_json, print_table, say

app = App(name="triggers", help="Make jobs of published events.")
COLUMNS = ("name", "state", "failures", "created_at")


@app.command
def create(
    name: str,
    *,
    match: str,
    job: str,
    description: str | None = None,
    json: bool = False,
) -> None:
    """Create a trigger: from now on, each event that matches makes a job.

    Args:
        name: What it is called.
        match: Which events, as JSON or @FILE: {"type": "paid", "data": {"amount": [{"numeric": [">", 9]}]}}.
        job: The job, as a JSON object or @FILE, with references such as {"$event": "data.user.id"}.
        description: What it is for.
        json: Print JSON.
    """
    with Client() as client:
        made = client.create_trigger(
            name, match=object_of(match, "--match"), job=object_of(job, "--job"), description=description
        )
    _print(made, json)


@app.command(name="list")
def list_triggers(*, state: str | None = None, json: bool = False) -> None:
    """List triggers, newest first.

    Args:
        state: Only those that are active, paused or archived.
        json: Print JSON.
    """
    with Client() as client:
        found = client.triggers(state=state)
    if json:
        print_json(found)
    else:
        print_table(tuple(c.upper() for c in COLUMNS), ([one[c] for c in COLUMNS] for one in found))


@app.command
def show(name: str, *, json: bool = False) -> None:
    """Show a trigger, and the last event of which it could make no job.

    Args:
        name: Its name or id.
        json: Print JSON.
    """
    with Client() as client:
        _print(client.trigger(name), json)


@app.command
def change(
    name: str,
    *,
    match: str | None = None,
    job: str | None = None,
    description: str | None = None,
    reason: str | None = None,
    json: bool = False,
) -> None:
    """Change a trigger, for events that are published from now on.

    Args:
        name: Its name or id.
        match: Which events, as for create.
        job: The job, as for create.
        description: What it is for.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    changes = given(
        match=None if match is None else object_of(match, "--match"),
        job=None if job is None else object_of(job, "--job"),
        description=description,
        reason=reason,
    )
    with Client() as client:
        _print(client.change_trigger(name, **changes), json)


@app.command
def pause(name: str, *, reason: str | None = None, json: bool = False) -> None:
    """Take no events until it is resumed; what is published meanwhile is not taken later.

    Args:
        name: Its name or id.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    _act(name, "pause", reason, json)


@app.command
def resume(name: str, *, reason: str | None = None, json: bool = False) -> None:
    """Take events again, from now on.

    Args:
        name: Its name or id.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    _act(name, "resume", reason, json)


@app.command
def archive(name: str, *, reason: str | None = None, json: bool = False) -> None:
    """Take no events ever again.

    Args:
        name: Its name or id.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    _act(name, "archive", reason, json)


def _act(name: str, action: str, reason: str | None, as_json: bool) -> None:  # noqa: FBT001 - passed on
    with Client() as client:
        found = client.act_on_trigger(name, action, reason)
    if as_json:
        print_json(found)
    else:
        say(f"{found['name']} is {found['state']}")


def _print(found: dict[str, Any], as_json: bool) -> None:  # noqa: FBT001 - passed on
    if as_json:
        print_json(found)
    else:
        print_fields(found)
