"""`rota events`: the log itself."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

from cyclopts import App, Parameter

from rota import Client
from rota_server.apps.cli.jobs import summary
from rota_server.apps.cli.json_options import given
from rota_server.apps.cli.output import Failure, json_text, print_json, say

app = App(name="events", help="Read the event log; publish events.")


@app.command
def tail(*, after: int | None = None, follow: bool = False, limit: int = 20, json: bool = False) -> None:
    """Print the log's end, or everything after a position.

    Args:
        after: Start after this position (default: the last 20 events).
        follow: Go on with new events as they come, until Ctrl-C.
        limit: How many of the last events without --after.
        json: One JSON object a line.
    """
    with Client() as client:
        position = after
        if position is None:
            position = max(0, client.log(after=0, limit=1)["position"] - limit)
        while True:
            page = client.log(after=position, limit=500)
            for event in page["items"]:
                _print(event, json)
                position = event["position"]
            if not page["items"]:
                break
        if follow:
            for event in client.follow(after=position):
                _print(event, json)


@app.command
def publish(
    type: str,
    source: str,
    *,
    data: str | None = None,
    subject: str | None = None,
    event_id: Annotated[str | None, Parameter(name="--id")] = None,
    extension: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)] = (),
    json: bool = False,
) -> None:
    """Publish a CloudEvents 1.0 event.

    Args:
        type: What has happened, such as com.example.order.paid.
        source: Where, a URI or a path.
        data: Its data as JSON; what is no JSON is a text.
        subject: What it is about.
        event_id: Its id (default: a new one). With an id that was used, nothing happens again.
        extension: name=value; may be given several times.
        json: Print JSON.
    """
    event: dict[str, Any] = {"type": type, "source": source}
    event.update(given(subject=subject, id=event_id))
    for word in extension:
        name, separator, value = word.partition("=")
        if not separator:
            raise Failure(f"{word!r} is not name=value", status=2)
        event[name] = value
    if data is not None:
        try:
            event["data"] = json_module.loads(data)
        except ValueError:
            event["data"] = data
    with Client() as client:
        result = client.publish(event)
    if json:
        print_json(result)
    else:
        say(result["id"])


def _print(event: dict, as_json: bool) -> None:  # type: ignore[type-arg]  # noqa: FBT001
    if as_json:
        say(json_text(event), flush=True)
    else:
        actor = event["meta"].get("actor", "")
        line = (event["position"], event["recorded_at"], event["stream_id"], event["type"], actor, summary(event))
        say(*line, sep="  ", flush=True)
