"""`rota events`: the log itself."""

from __future__ import annotations

import json as json_module

from cyclopts import App

from apps.cli.jobs import summary
from rota import Client

app = App(name="events", help="Read the event log.")


@app.command
def tail(*, after: int | None = None, follow: bool = False, limit: int = 20, json: bool = False) -> None:
    """Print the log's end, or everything behind a position.

    Args:
        after: Start behind this position (default: the last 20 events).
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


def _print(event: dict, as_json: bool) -> None:  # type: ignore[type-arg]  # noqa: FBT001
    if as_json:
        print(json_module.dumps(event, ensure_ascii=False), flush=True)
    else:
        actor = event["meta"].get("actor", "")
        line = (event["position"], event["recorded_at"], event["stream_id"], event["type"], actor, summary(event))
        print(*line, sep="  ", flush=True)
