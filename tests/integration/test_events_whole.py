"""Events, triggers and subscriptions in a whole system of real processes: by command line, by SDK, through crashes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rota import Client, verify_webhook
from rota_server.apps.cli.up import STATE_FILE, running_system
from tests.integration.webhook_receiver import Receiver
from tests.waiting import until, until_sync

ROOT = Path(__file__).parents[2]
FINAL = ("succeeded", "failed", "cancelled", "expired")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    place = tmp_path_factory.mktemp("events")
    with running_system(place / "data") as state:
        yield {**state, "data": place / "data"}


@pytest.fixture
def client(system: dict[str, Any]) -> Iterator[Client]:
    with Client(system["url"]) as client:
        yield client


def rota(system: dict[str, Any], *words: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "rota_server.apps.cli.main", *words]
    env = {**os.environ, "ROTA_URL": str(system["url"])}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr or done.stdout
    return done.stdout


def publishing(event_type: str) -> dict[str, Any]:
    """A job that publishes an event of this type in turn."""
    return {"task": "event.publish", "args": {"type": event_type, "source": "/chain", "data": {"$event": "data"}}}


def test_a_chain_that_would_never_end_ends_and_can_be_followed(system: dict[str, Any], client: Client) -> None:
    job = json.dumps(publishing("loop"))
    shown = rota(system, "triggers", "create", "loop", "--match", '{"type": "loop"}', "--job", job, "--json")
    made = json.loads(shown)
    assert rota(system, "events", "publish", "loop", "/start", "--id", "first", "--data", '{"n": 1}').strip() == "first"
    until_sync(lambda: client.trigger("loop")["failures"] == 1, what="the end of the chain")
    assert "chain of 16 triggers" in client.trigger("loop")["last_failure"]["reason"]
    jobs = list(client.list(origin=made["id"]))
    assert len(jobs) == 16
    story = client.log(correlation="first", limit=1000)["items"]
    assert sum(event["type"] == "EventPublished" for event in story) == 17
    by_position = {event["position"]: event for event in story}
    for triggered in jobs:
        event = by_position[triggered.caused_by["event"]["position"]]
        assert event["type"] == "EventPublished"
        assert event["stream_id"] == triggered.caused_by["event"]["stream_id"]
    rota(system, "triggers", "archive", "loop", "--reason", "seen")
    assert "archived" in rota(system, "triggers", "list")


def test_no_event_is_lost_or_taken_twice_while_the_scheduler_is_killed_again_and_again(
    system: dict[str, Any], client: Client
) -> None:
    made = client.create_trigger("each", match={"type": "each"}, job=publishing("done"))
    killed = 0
    for number in range(120):
        client.publish({"type": "each", "source": "/many", "id": str(number), "data": number})
        if number % 40 == 20:
            killed = until_sync(lambda old=killed: _scheduler(system, but=old), what="a scheduler")
            os.kill(killed, signal.SIGKILL)
    until_sync(lambda: _ended(client, made["id"]) == 120, what="120 jobs' ends")
    data = sorted(job.args["data"] for job in client.list(origin=made["id"]))
    assert data == list(range(120))


def _scheduler(system: dict[str, Any], *, but: int) -> int | None:
    """The scheduler's process, unless it is the one that was killed."""
    state = json.loads((Path(system["data"]) / STATE_FILE).read_text())
    found = [pid for name, pid in state["processes"].items() if name.startswith("scheduler") and pid != but]
    return found[0] if found else None


def _ended(client: Client, origin: str) -> int:
    return sum(job.state in FINAL for job in client.list(origin=origin))


async def test_a_receiver_verifies_what_a_subscription_delivers(system: dict[str, Any], client: Client) -> None:
    receiver = await Receiver().start()
    try:
        match = {"type": ["JobSubmitted", "AttemptSucceeded"], "task": "event.publish", "tags": {"hook": "yes"}}
        made = await asyncio.to_thread(lambda: client.create_subscription("hook", url=receiver.url, match=match))
        args = {"type": "hook", "source": "/hook"}
        handle = await asyncio.to_thread(lambda: client.submit("event.publish", args=args, tags={"hook": "yes"}))
        await until(lambda: len(receiver.taken) == 2, what="two deliveries")
        events = [verify_webhook(one.headers, one.body, made["secret"]) for one in receiver.taken]
        assert [event["type"] for event in events] == ["rota.JobSubmitted", "rota.AttemptSucceeded"]
        assert {event["subject"] for event in events} == {handle.id}
        shown = await asyncio.to_thread(lambda: rota(system, "subscriptions", "show", "hook", "--json"))
        assert made["secret"] not in shown
        assert json.loads(shown)["dead"] == 0
        for path in Path(system["data"]).rglob("*.log"):
            assert made["secret"].removeprefix("whsec_") not in path.read_text(errors="replace")
    finally:
        await receiver.stop()


def test_wrong_usage_is_told(system: dict[str, Any]) -> None:
    rota(system, "triggers", "create", "x", "--match", "no json", "--job", "{}", status=2)
    rota(system, "triggers", "create", "x", "--match", '{"type": "x"}', "--job", '{"task": "http.request"}', status=1)
    rota(system, "triggers", "show", "nobody", status=1)
    rota(system, "events", "publish", "t", "not a reference", status=1)
