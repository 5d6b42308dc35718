"""`rota queues ...`: look at queues, pause and resume them, change their limits."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from typing import Any

from cyclopts import App

from rota import Client
from rota_server.apps.cli.output import Failure, print_fields, print_json, print_table, say

app = App(name="queues", help="Look at queues, pause and resume them, set their limits.")

NONE = "none"
RATE = re.compile(r"(?P<limit>\d+)/(?P<per>\d+(\.\d+)?)?(?P<unit>s|m|h)?(:(?P<burst>\d+))?")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


@app.command(name="list")
def list_queues(*, json: bool = False) -> None:
    """List every queue that has jobs or settings.

    Args:
        json: Print JSON.
    """
    with Client() as client:
        found = client.queues()
    if json:
        print_json(found)
        return
    columns = ("name", "paused", "waiting", "queued", "running", "started_per_minute", "oldest_at")
    print_table(tuple(c.upper() for c in columns), ([queue[c] for c in columns] for queue in found))


@app.command
def show(name: str, *, json: bool = False) -> None:
    """Show one queue.

    Args:
        name: The queue.
        json: Print JSON.
    """
    with Client() as client:
        found = client.queue(name)
    if json:
        print_json(found)
    else:
        print_fields(found)


@app.command(name="set")
def set_limits(  # noqa: PLR0913 - each is an option
    name: str,
    *,
    concurrency: str | None = None,
    concurrency_per_key: str | None = None,
    rate: str | None = None,
    rate_per_key: str | None = None,
    alert_email: str | None = None,
    alert_webhook: str | None = None,
    reason: str | None = None,
    json: bool = False,
) -> None:
    """Change a queue's limits and alert; what is not named stays.

    Args:
        name: The queue.
        concurrency: How many jobs may run at once; `none` for no limit.
        concurrency_per_key: The same for each key.
        rate: How many may start in a period, such as 100/s, 100/m, 5000/h, 100/30s; with a burst 100/m:20; or `none`.
        rate_per_key: The same for each key.
        alert_email: Who gets a mail when a job has failed for good, separated by commas; `none` for no alert at all.
        alert_webhook: A URL that is told of it; `none` for no alert at all.
        reason: Why; it is kept in the history.
        json: Print JSON.
    """
    wanted: dict[str, Any] = {}
    for option, given in (("concurrency", concurrency), ("concurrency_per_key", concurrency_per_key)):
        if given is not None:
            wanted[option] = _number(option, given)
    for option, given in (("rate", rate), ("rate_per_key", rate_per_key)):
        if given is not None:
            wanted[option] = _rate(option, given)
    if alert_email is not None or alert_webhook is not None:
        wanted["alert"] = _alert(alert_email, alert_webhook)
    if not wanted:
        raise Failure("name at least one limit, or an alert", status=2)
    unknown = _unknown(name)
    if unknown is not None:
        say(f"Note: {unknown}", file=sys.stderr)
    _change(name, {**wanted, **_reason(reason)}, as_json=json)


@app.command
def pause(name: str, *, reason: str | None = None, new: bool = False, json: bool = False) -> None:
    """Start no more jobs of the queue; what runs goes on.

    Args:
        name: The queue.
        reason: Why; it is kept in the history.
        new: Also when nothing is known of a queue with this name yet.
        json: Print JSON.
    """
    if not new:
        _require_known(name)
    _change(name, {"paused": True, **_reason(reason)}, as_json=json)


@app.command
def resume(name: str, *, reason: str | None = None, json: bool = False) -> None:
    """Start jobs of the queue again.

    Args:
        name: The queue.
        reason: Why; it is kept in the history.
        json: Print JSON.
    """
    unknown = _unknown(name)
    if unknown is not None:
        raise Failure(unknown)
    _change(name, {"paused": False, **_reason(reason)}, as_json=json)


def _require_known(name: str) -> None:
    """Raise Failure when nothing is known of a queue with this name: a slip of the hand would make one."""
    unknown = _unknown(name)
    if unknown is not None:
        raise Failure(f"{unknown} --new gives it settings all the same")


def _unknown(name: str) -> str | None:
    """Return a sentence when no job, no setting and no living executor has to do with this queue, else None."""
    with Client() as client:
        known = {str(queue["name"]) for queue in client.queues()}
        for executor in client.call("GET", "/v1/executors")["items"]:
            known.update(str(queue) for queue in executor.get("queues", ()))
    if name in known:
        return None
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"nothing is known of a queue {name} yet.{hint}"


def _change(name: str, body: dict[str, Any], *, as_json: bool) -> None:
    with Client() as client:
        found = client.change_queue(name, **body)
    if as_json:
        print_json(found)
    else:
        print_fields(found)


def _reason(reason: str | None) -> dict[str, str]:
    return {} if reason is None else {"reason": reason}


def _alert(email: str | None, webhook: str | None) -> dict[str, Any] | None:
    """The alert as the contract has it; None takes it away."""
    alert: dict[str, Any] = {}
    if email not in (None, "none"):
        alert["email"] = [one.strip() for one in str(email).split(",")]
    if webhook not in (None, "none"):
        alert["webhook"] = webhook
    return alert or None


def _number(option: str, given: str) -> int | None:
    if given == NONE:
        return None
    if not given.isdecimal():
        raise Failure(f"--{option.replace('_', '-')}: a number or `none`, not {given}", status=2)
    return int(given)


def _rate(option: str, given: str) -> dict[str, Any] | None:
    if given == NONE:
        return None
    found = RATE.fullmatch(given)
    if found is None:
        message = f"--{option.replace('_', '-')}: such as 100/s, 100/m, 5000/h, 100/30s or 100/m:20, not {given}"
        raise Failure(message, status=2)
    per = float(found["per"] or 1) * SECONDS[found["unit"]]
    burst = {} if found["burst"] is None else {"burst": int(found["burst"])}
    return {"limit": int(found["limit"]), "per": per, **burst}
