"""`rota inbox ...`: what users' own transactions have put in, and what of it was refused."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import App, Parameter

from rota import Client
from rota_server.apps.cli.output import Failure, print_json, print_table, say

Names = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]

app = App(name="inbox", help="Look at jobs that transactions have put in; retry or drop refused ones.")


@app.command(name="list")
def list_rejected(*, json: bool = False) -> None:
    """Say how many wait, and list those that were refused.

    Args:
        json: Print JSON.
    """
    with Client() as client:
        found = client.inbox()
    if json:
        print_json(found)
        return
    oldest = f", the first one since {found['oldest']}" if found["oldest"] else ""
    say(f"{found['waiting']} waiting{oldest}; {found['rejected']} refused")
    columns = ("ID", "TASK", "BY", "ENQUEUED", "PROBLEM")
    if found["items"]:
        print_table(
            columns,
            (
                (i["id"], i["task"], i["enqueued_by"], i["enqueued_at"], i["problem"].get("detail"))
                for i in found["items"]
            ),
        )


@app.command
def retry(*ids: str, all: bool = False) -> None:
    """Put refused jobs in again.

    Args:
        ids: Their ids.
        all: All of them.
    """
    with Client() as client:
        for job_id in _chosen(client, ids, all):
            client.retry_from_inbox(job_id)
            say(f"{job_id} waits again")


@app.command
def drop(*ids: str, all: bool = False) -> None:
    """Remove refused jobs for good.

    Args:
        ids: Their ids.
        all: All of them.
    """
    with Client() as client:
        for job_id in _chosen(client, ids, all):
            client.drop_from_inbox(job_id)
            say(f"{job_id} is dropped")


@app.command
def allow(role: str, *, task: Names, queue: Names = ("*",)) -> None:
    """Let a role of the database put in tasks, and from its first rule on nothing else. Needs ROTA_OWNER_DATABASE_URL.

    Args:
        role: The role with which an application connects.
        task: A task, or a pattern with `*`; may be given several times.
        queue: A queue, or a pattern with `*`; may be given several times. Any queue unless given.
    """
    from rota_server.adapters.postgres import inbox_rules

    asyncio.run(inbox_rules.allow(_owner_url(), role, task, queue))
    say(f"{role} may put in {', '.join(task)} for {', '.join(queue)}")


@app.command
def forget(role: str) -> None:
    """Remove all rules of a role: it may then put in anything but shell.run. Needs ROTA_OWNER_DATABASE_URL.

    Args:
        role: The role with which an application connects.
    """
    from rota_server.adapters.postgres import inbox_rules

    count = asyncio.run(inbox_rules.forget(_owner_url(), role))
    say(f"{count} {'rule' if count == 1 else 'rules'} of {role} removed")


@app.command
def rules(*, json: bool = False) -> None:
    """List what roles may put in. Needs ROTA_OWNER_DATABASE_URL.

    Args:
        json: Print JSON.
    """
    from rota_server.adapters.postgres import inbox_rules

    found = asyncio.run(inbox_rules.rules(_owner_url()))
    if json:
        print_json([rule._asdict() for rule in found])
    elif found:
        print_table(("ROLE", "TASK", "QUEUE"), found)
    else:
        say("No role has rules: each may put in anything but shell.run")


def _owner_url() -> str:
    from rota_server.apps.settings import load_settings

    return load_settings().require("owner_database_url")


def _chosen(client: Client, ids: tuple[str, ...], every: bool) -> list[str]:  # noqa: FBT001 - passed on
    if bool(ids) == every:
        raise Failure("say which by their ids, or --all", status=2)
    return [item["id"] for item in client.inbox()["items"]] if every else list(ids)
