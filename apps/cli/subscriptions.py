"""`rota subscriptions ...`: Rota's own events, delivered to webhooks."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from rota import Client
from rota_server.apps.cli.json_options import given, object_of
from rota_server.apps.cli.output import print_fields, print_json, print_table, say

app = App(name="subscriptions", help="Deliver Rota's own events to webhooks.")
COLUMNS = ("name", "state", "url", "lag", "pending", "dead")
Numbers = Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=False)]


@app.command
def create(  # noqa: PLR0913 - each is an option
    name: str,
    *,
    url: str,
    match: str,
    mode: str | None = None,
    timeout: float | None = None,
    max_attempts: int | None = None,
    after: int | None = None,
    description: str | None = None,
    json: bool = False,
) -> None:
    """Create a subscription. Its secret is printed this once.

    Args:
        name: What it is called.
        url: Where events are sent.
        match: Which events, as a JSON object or @FILE: {"type": ["AttemptSucceeded", "JobDead"], "queue": "mail"}.
        mode: structured (default) or binary.
        timeout: Seconds that a receiver may take to answer.
        max_attempts: After so many attempts an event is a dead letter.
        after: Begin after this position instead of with what happens from now on.
        description: What it is for.
        json: Print JSON.
    """
    retry = None if max_attempts is None else {"max_attempts": max_attempts}
    options = given(mode=mode, timeout=timeout, retry=retry, after=after, description=description)
    with Client() as client:
        _print(client.create_subscription(name, url=url, match=object_of(match, "--match"), **options), json)


@app.command(name="list")
def list_subscriptions(*, state: str | None = None, json: bool = False) -> None:
    """List subscriptions, newest first.

    Args:
        state: Only those that are active, paused or archived.
        json: Print JSON.
    """
    with Client() as client:
        found = client.subscriptions(state=state)
    if json:
        print_json(found)
    else:
        print_table(tuple(c.upper() for c in COLUMNS), ([one[c] for c in COLUMNS] for one in found))


@app.command
def show(name: str, *, json: bool = False) -> None:
    """Show a subscription and how far it has come.

    Args:
        name: Its name or id.
        json: Print JSON.
    """
    with Client() as client:
        _print(client.subscription(name), json)


@app.command
def dead(name: str, *, json: bool = False) -> None:
    """List events that were given up.

    Args:
        name: The subscription's name or id.
        json: Print JSON.
    """
    with Client() as client:
        found = client.dead_letters(name)
    if json:
        print_json(found)
        return
    columns = ("position", "stream_id", "attempts", "at", "error")
    print_table(tuple(c.upper() for c in columns), ([one[c] for c in columns] for one in found))


@app.command
def redeliver(name: str, *, position: Numbers = (), reason: str | None = None) -> None:
    """Deliver dead letters again, and at once what waits for its next attempt.

    Args:
        name: The subscription's name or id.
        position: Only the event at this position; may be given several times.
        reason: Why; kept in the history.
    """
    with Client() as client:
        say(client.redeliver(name, positions=list(position) or None, reason=reason))


@app.command
def secret(name: str, *, reason: str | None = None) -> None:
    """Have another secret sign, and print it; the present one signs as well for a day.

    Args:
        name: The subscription's name or id.
        reason: Why; kept in the history.
    """
    with Client() as client:
        say(client.change_subscription_secret(name, reason=reason)["secret"])


@app.command
def pause(name: str, *, reason: str | None = None, json: bool = False) -> None:
    """Deliver nothing until it is resumed.

    Args:
        name: Its name or id.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    _act(name, "pause", reason, json)


@app.command
def resume(name: str, *, reason: str | None = None, json: bool = False) -> None:
    """Deliver again, from where it had come to.

    Args:
        name: Its name or id.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    _act(name, "resume", reason, json)


@app.command
def archive(name: str, *, reason: str | None = None, json: bool = False) -> None:
    """Deliver nothing ever again.

    Args:
        name: Its name or id.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    _act(name, "archive", reason, json)


def _act(name: str, action: str, reason: str | None, as_json: bool) -> None:  # noqa: FBT001 - passed on
    with Client() as client:
        found = client.act_on_subscription(name, action, reason)
    if as_json:
        print_json(found)
    else:
        say(f"{found['name']} is {found['state']}")


def _print(found: dict[str, Any], as_json: bool) -> None:  # noqa: FBT001 - passed on
    if as_json:
        print_json(found)
    else:
        print_fields(found)
