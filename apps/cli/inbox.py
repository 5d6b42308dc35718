"""`rota inbox ...`: what users' own transactions have put in, and what of it was refused."""

from __future__ import annotations

from cyclopts import App

from apps.cli.output import Failure, print_json, print_table
from rota import Client

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
    print(f"{found['waiting']} waiting{oldest}; {found['rejected']} refused")
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
            print(f"{job_id} waits again")


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
            print(f"{job_id} is dropped")


def _chosen(client: Client, ids: tuple[str, ...], every: bool) -> list[str]:  # noqa: FBT001 - passed on
    if bool(ids) == every:
        raise Failure("say which by their ids, or --all", status=2)
    return [item["id"] for item in client.inbox()["items"]] if every else list(ids)
