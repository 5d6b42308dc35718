"""Schedules through the command line and the package `rota`, against a whole system; and the measurement at scale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rota import AsyncClient, Client, Conflict, NotFound, Refused, job
from rota_server.apps.cli.up import running_system
from tests.integration.test_up import HELLO, rota
from tests.waiting import until_sync


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A system that all tests of this module share."""
    place = tmp_path_factory.mktemp("schedules")
    for folder in (place, place.parent):
        folder.chmod(0o755)
    with running_system(place / "data", "--tasks", str(HELLO)) as found:
        yield found


def test_a_schedule_is_made_changed_run_and_ended_by_commands(state: dict[str, Any]) -> None:
    env = {"ROTA_URL": state["url"]}

    def told(*words: str, status: int = 0) -> Any:
        done = rota("schedules", *words, env=env)
        assert done.returncode == status, done.stderr or done.stdout
        return json.loads(done.stdout) if "--json" in words and status == 0 else done.stdout + done.stderr

    made = told(
        "create",
        "hi",
        "hello.greet",
        "name=Ada",
        "--every",
        "0.5",
        "--overlap",
        "skip",
        "--tag",
        "team=a",
        "--json",
    )
    assert made["job"]["args"] == {"name": "Ada"}
    assert (made["overlap"], made["tags"]) == ("skip", {"team": "a"})

    def succeeded() -> bool:
        with Client(state["url"]) as client:
            return sum(job.state == "succeeded" for job in client.list(schedule="hi")) >= 3

    until_sync(succeeded, what="three jobs of the schedule")
    ticks = told("ticks", "hi", "--outcome", "ticked", "--json")
    assert len(ticks) >= 3
    assert told("list", "--tag", "team:a", "--json")[0]["name"] == "hi"
    assert told("pause", "hi", "--reason", "night", "--json")["state"] == "paused"
    assert "paused" in told("list")
    assert told("resume", "hi", "--json")["state"] == "active"
    changed = told("change", "hi", "--every", "3600", "--set", '{"owner": "ops"}', "--json")
    assert (changed["every"], changed["owner"], changed["revision"]) == (3600, "ops", 2)
    assert told("show", "hi", "--at", str(made["position"]), "--json")["every"] == 0.5
    assert told("run", "hi", "--json")["job_id"]
    assert len(told("preview", "hi", "--count", "3", "--json")) == 3
    preview = told("preview", "--cron", "0 9 * * 1", "--timezone", "Europe/Berlin", "--count", "2")
    assert preview.count("T09:00:00") == 2
    two = told("preview", "--cron", "0 9 * * *", "--cron", "30 9 * * *", "--count", "2", "--json")
    assert [tick["utc"][11:] for tick in two] in (["09:00:00Z", "09:30:00Z"], ["09:30:00Z", "09:00:00Z"])
    before = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    span = ("--from", before, "--to", datetime.now(UTC).isoformat())
    assert told("backfill", "hi", *span, "--json")["dry_run"] is True
    assert "would be made" in told("backfill", "hi", *span, "--limit", "2")
    assert told("backfill", "hi", *span, "--limit", "2", "--yes", "--json")["jobs"] == 2
    future = ("--from", "2199-01-01T00:00:00Z", "--to", "2199-01-02T00:00:00Z")
    assert "the range lies in the future" in told("backfill", "hi", *future).replace("\n", " ")
    assert told("archive", "hi", "--json")["state"] == "archived"
    assert "there is no schedule" in told("show", "nobody", status=1)
    assert "never" in told("create", "x", "hello.greet", "name=A", "--cron", "0 0 30 2 *", status=1)
    told("change", "hi", status=2)
    told("create", "x", "hello.greet", "name", "--every", "5", status=2)


async def test_calendars_are_shared_by_commands_and_by_the_package(state: dict[str, Any], tmp_path: Path) -> None:
    env = {"ROTA_URL": state["url"]}

    def told(*words: str, status: int = 0) -> Any:
        done = rota(*words, env=env)
        assert done.returncode == status, done.stderr or done.stdout
        return json.loads(done.stdout) if "--json" in words and status == 0 else done.stdout + done.stderr

    file = tmp_path / "days.ics"
    file.write_bytes(
        b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20270101\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    weekly = json.dumps({"weekly": [{"days": ["sun"]}]})
    days = ("--date", "2027-01-04", "--date", "2027-01-05")
    made = told("calendars", "create", "off", *days, "--icalendar", str(file), "--set", weekly, "--json")
    assert (made["dates"], made["weekly"][0]["days"]) == (["2027-01-04", "2027-01-05"], ["sun"])
    at = ("--at", "2027-01-01T09:00:00Z", "--at", "2027-01-02T09:00:00Z", "--at", "2027-01-05T09:00:00Z")
    told("schedules", "create", "working", "hello.greet", "name=A", *at, "--calendar", "off")
    outcomes = [tick["outcome"] for tick in told("schedules", "preview", "working", "--json")]
    assert outcomes == ["skip", "tick", "skip"]
    changed = told("calendars", "change", "off", "--date", "2027-01-04", "--set", '{"icalendar": null}', "--json")
    assert (changed["dates"], changed.get("icalendar"), changed["revision"]) == (["2027-01-04"], None, 2)
    outcomes = [tick["outcome"] for tick in told("schedules", "preview", "working", "--json")]
    assert outcomes == ["tick", "tick", "tick"]
    assert told("calendars", "show", "off", "--at", str(made["position"]), "--json")["revision"] == 1
    assert "1 dates, 1 weekly" in told("calendars", "list")
    assert "dates.0" in told("calendars", "create", "x", "--date", "Monday", status=1)
    told("calendars", "change", "off", status=2)
    told("calendars", "create", "x", "--set", '{"dated": []}', status=2)
    told("calendars", "create", "x", "--icalendar", str(tmp_path / "none.ics"), status=2)
    assert "schedule 'nobody'" in told("why", "nobody", status=1)
    with Client(state["url"]) as client:
        assert client.calendars.change("off", reason="more", dates=["2027-01-06"])["reason"] == "more"
        assert [calendar["name"] for calendar in client.calendars.list()] == ["off"]
        with pytest.raises(Conflict):
            client.calendars.create("off", dates=["2027-01-06"])
    async with AsyncClient(state["url"]) as client:
        await client.calendars.create("async", dates=["2027-01-06"])
        assert [calendar["name"] async for calendar in client.calendars.list()] == ["async", "off"]
        assert (await client.calendars.change("async", dates=["2027-01-07"]))["dates"] == ["2027-01-07"]
        assert (await client.calendars.get("async"))["state"] == "active"
        assert (await client.calendars.archive("async", "over"))["state"] == "archived"


async def test_the_package_speaks_of_schedules_in_both_ways(state: dict[str, Any]) -> None:
    with Client(state["url"]) as client:
        start = datetime.now(UTC) + timedelta(days=1)
        made = client.schedules.create(
            "sync", job("hello.greet", name="Ada"), cron="0 3 * * *", timezone="Asia/Kathmandu", start=start
        )
        assert made.state == "active"
        with pytest.raises(Conflict):
            client.schedules.create("sync", job("hello.greet", name="Ada"), every=5)
        with pytest.raises(Refused) as refused:
            client.schedules.create("other", job("hello.greet", name="Ada"), cron="0 3 * *")
        assert refused.value.field == "cron"
        assert client.schedules.change("sync", owner="ada", reason="hers").owner == "ada"
        assert client.schedules.change("sync", owner=None).owner is None
        assert client.schedules.get("sync", at=made.position).owner is None
        assert client.get(client.schedules.run("sync", "now")).task == "hello.greet"
        assert [tick["cause"] for tick in client.schedules.ticks("sync")] == ["manual"]
    async with AsyncClient(state["url"]) as client:
        await client.schedules.create("async", job("hello.greet", name="Ada"), every=3600)
        newest = [s.name async for s in client.schedules.list()][:2]
        assert newest == ["async", "sync"]
        assert (await client.schedules.pause("async", "night")).reason == "night"
        assert (await client.schedules.resume("async")).state == "active"
        assert len(await client.schedules.preview("async", count=4)) == 4
        plan = await client.schedules.backfill("async", start - timedelta(days=2), datetime.now(UTC))
        assert plan["dry_run"] is True
        assert await client.schedules.run("async")
        assert [tick["outcome"] async for tick in client.schedules.ticks("async")] == ["ticked"]
        assert (await client.schedules.archive("async")).state == "archived"
        with pytest.raises(NotFound):
            await client.schedules.get("nobody")


def test_the_measurement_at_scale_gives_its_figures() -> None:
    done = rota(
        "bench", "--only", "schedules", "--schedules", "200", "--waiting-jobs", "300", "--seconds", "10", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["schedules"]
    assert (found["waiting_jobs"], found["schedules"]) == (300, 200)
    assert found["ticks_per_s"] > 0
    assert set(found["tick_lateness_ms"]) == {"p50", "p99", "p100"}
    assert found["leader_peak_rss_mb"] > 0
    assert found["takeover_s"] >= found["elected_s"] >= 0
