"""Policies over HTTP: daylight saving, catch-up, calendars, backfill, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rota_server.domain.ids import Version
from rota_server.domain.log import Meta, StreamWrite, Unit
from rota_server.domain.schedules import changes
from rota_server.domain.schedules.schedule import KIND, from_json
from tests.integration.store.conftest import Stores, stores  # noqa: F401 - a fixture
from tests.integration.test_schedules import World, lead, world  # noqa: F401 - a fixture
from tests.simulation.schedule_world import DEFAULTS

META = Meta(actor="test")
BERLIN = {"timezone": "Europe/Berlin"}


async def made_long_ago(world: World, name: str, at: datetime, **fields: Any) -> None:  # noqa: F811
    """A schedule that nobody has looked at since then."""
    from uuid_utils.compat import uuid7

    written = changes.create(None, name, {**DEFAULTS, **fields}, None, META, at)
    write = StreamWrite(
        stream_id=written.schedule.id, expected_version=Version(0), events=written.events, head=written.head
    )
    await world.system.log.append([Unit(id=uuid7(), writes=[write], meta=META)])


def summary(ticks: list[dict[str, Any]]) -> list[tuple[str, str | None, int]]:
    return [(t["outcome"], t.get("cause") or t["reason"], t.get("count", 1)) for t in ticks]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ({"policy": "none"}, [("skipped", "past_catch_up", 10)]),
        ({"policy": "latest"}, [("skipped", "past_catch_up", 9), ("ticked", "catch_up", 1)]),
        ({"policy": "all"}, [("ticked", "catch_up", 1)] * 10),
        ({"policy": "all", "maximum": 3}, [("skipped", "limit", 7), *[("ticked", "catch_up", 1)] * 3]),
        ({"policy": "all", "window": 5 * 3600}, [("skipped", "past_catch_up", 5), *[("ticked", "catch_up", 1)] * 5]),
        ({"policy": "latest", "window": 600}, [("skipped", "past_catch_up", 10)]),
    ],
)
async def test_what_was_missed_is_caught_up_by_policy(
    world: World,  # noqa: F811
    catch_up: dict[str, Any],
    expected: list[tuple[str, str | None, int]],
):
    now = datetime.now(UTC)
    phase = now - timedelta(minutes=30)  # the last one was half an hour ago
    await made_long_ago(
        world,
        "missed",
        phase - timedelta(hours=9, minutes=5),
        every=3600.0,
        phase=phase.isoformat(),
        catch_up={"window": 86_400, "maximum": 100, **catch_up},
    )
    await lead(world)
    await world.wait_for_ticks("missed", len(expected))
    ticks = await world.ticks("missed")
    assert summary(ticks) == expected
    caught = [t for t in ticks if t["outcome"] == "ticked"]
    starts = [datetime.fromisoformat(t["run_at"]) for t in caught if t["run_at"] is not None]
    assert starts == sorted(set(starts)), "they are spread"
    assert all(start - starts[0] < timedelta(seconds=60) for start in starts)
    assert {job["id"] for job in await world.jobs("missed")} == {t["job_id"] for t in caught}


@pytest.mark.parametrize(
    ("policies", "spring", "autumn"),
    [
        ({}, [("tick", None, "2027-03-28T03:00:00+02:00")], ["2027-10-31T02:30:00+02:00"]),
        ({"gap": "skip"}, [("skip", "dst_gap", "2027-03-28T03:00:00+02:00")], ["2027-10-31T02:30:00+02:00"]),
        ({"fold": "last"}, [("tick", None, "2027-03-28T03:00:00+02:00")], ["2027-10-31T02:30:00+01:00"]),
        (
            {"fold": "both"},
            [("tick", None, "2027-03-28T03:00:00+02:00")],
            ["2027-10-31T02:30:00+02:00", "2027-10-31T02:30:00+01:00"],
        ),
    ],
)
async def test_daylight_saving_goes_by_policy_and_is_told(
    stores: Stores,  # noqa: F811
    policies: dict[str, str],
    spring: list[tuple[str, str | None, str]],
    autumn: list[str],
):
    rule = {"cron": "30 2 * * *", **BERLIN, **policies}
    client = await stores.client()

    async def preview(after: str, count: int) -> dict[str, Any]:
        answer = await client.post("/v1/schedules/preview", json={**rule, "after": after, "count": count})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    found = await preview("2027-03-27T12:00:00Z", 1)
    assert [(t["outcome"], t["reason"], t["at"]) for t in found["ticks"]] == spring
    assert "02:30" in found["ticks"][0]["note"]
    assert (await preview("2027-03-27T13:00:00", 1)) == found
    found = await preview("2027-10-30T12:00:00Z", len(autumn))
    assert [t["at"] for t in found["ticks"]] == autumn
    assert {t["note"] for t in found["ticks"]} <= {"first of two", "second of two"}


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        (
            {},
            [
                "2026-03-28T02:30:00+01:00 ticked",
                "2026-03-29T03:00:00+02:00 ticked",
                "2026-03-30T02:30:00+02:00 ticked",
            ],
        ),
        (
            {"gap": "skip"},
            [
                "2026-03-28T02:30:00+01:00 ticked",
                "2026-03-29T03:00:00+02:00 skipped",
                "2026-03-30T02:30:00+02:00 ticked",
            ],
        ),
    ],
)
async def test_the_leader_ticks_across_a_gap_by_policy(
    world: World,  # noqa: F811
    policies: dict[str, str],
    expected: list[str],
):
    await made_long_ago(
        world,
        "spring",
        datetime(2026, 3, 27, 12, tzinfo=UTC),
        cron="30 2 * * *",
        end="2026-03-31T00:00:00+02:00",
        catch_up={"policy": "all", "window": 366 * 86_400, "maximum": 100},
        **BERLIN,
        **policies,
    )
    await lead(world)
    ticks = await world.wait_for_ticks("spring", 3)
    assert [f"{t['at']} {t['outcome']}" for t in ticks] == expected
    assert "02:30" in ticks[1]["note"]
    if policies:
        assert ticks[1]["reason"] == "dst_gap"
    assert (await world.get("spring"))["state"] == "ended"


async def test_a_calendar_leaves_out_what_it_said_at_that_time(world: World):  # noqa: F811
    made = await world.post("/v1/calendars", name="closed", weekly=[{"days": ["mon"]}])
    assert made["revision"] == 1
    schedule = await world.create(name="daily", cron="0 12 * * *", calendars=["closed"])
    assert schedule["calendars"] == ["closed"]
    changed = await world.client.patch("/v1/calendars/closed", json={"weekly": [{"days": ["tue"]}], "reason": "moved"})
    assert (changed.json()["revision"], changed.json()["reason"]) == (2, "moved")
    then = await world.client.get("/v1/calendars/closed", params={"at": made["position"]})
    assert then.json()["weekly"] == [{"days": ["mon"]}]
    # A Monday and a Tuesday before either was known: the first version stands for that time.
    plan = await world.post(
        "/v1/schedules/daily/backfill", **{"from": "2026-11-02T00:00:00Z", "to": "2026-11-03T23:00:00Z"}
    )
    assert [(t["outcome"], t["reason"]) for t in plan["ticks"]] == [("skip", "calendar"), ("tick", None)]
    on_its_clock = {"from": "2026-11-02T12:00", "to": "2026-11-03 12:00:00"}
    again = await world.post("/v1/schedules/daily/backfill", **on_its_clock)
    assert [t["at"] for t in again["ticks"]] == [t["at"] for t in plan["ticks"]]
    too_short = {"from": "2026-11-02T12:00", "to": "2026-11-03T11:59:59"}
    assert len((await world.post("/v1/schedules/daily/backfill", **too_short))["ticks"]) == 1
    shown = await world.post("/v1/schedules/preview", schedule="daily", after="2027-03-01T13:00:00Z", count=2)
    assert [(t["outcome"], t["reason"]) for t in shown["ticks"]] == [("skip", "calendar"), ("tick", None)]
    assert (await world.post("/v1/calendars/closed/archive"))["state"] == "archived"
    refused = await world.client.post(
        "/v1/schedules", json={"name": "b", "cron": "@daily", "calendars": ["closed"], "job": {"task": "noop"}}
    )
    assert (refused.status_code, refused.json()["field"]) == (422, "calendars.0")


async def test_a_late_tick_asks_the_calendar_of_its_time(world: World):  # noqa: F811
    at = datetime.now(UTC) - timedelta(hours=3)
    await world.post(
        "/v1/calendars", name="nothing", intervals=[{"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}]
    )
    await made_long_ago(
        world,
        "late",
        at,
        every=3600.0,
        phase=(at + timedelta(minutes=10)).isoformat(),
        calendars=["nothing"],
        catch_up={"policy": "all", "window": 86_400, "maximum": 100},
    )
    interval = {"from": "2020-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z"}
    answer = await world.client.patch("/v1/calendars/nothing", json={"intervals": [interval]})
    assert answer.status_code == 200, answer.text
    await lead(world)
    ticks = await world.wait_for_ticks("late", 3)
    assert [t["outcome"] for t in ticks] == ["ticked"] * 3


async def test_a_backfill_goes_by_the_rule_of_its_time_and_runs_nothing_twice(world: World):  # noqa: F811
    await made_long_ago(world, "history", datetime(2026, 6, 1, tzinfo=UTC), cron="0 6 * * *", **BERLIN)
    row = await world.system_row("history")
    schedule = from_json(row.id, row.name, row.version, row.doc)
    later = changes.change(
        schedule, {**schedule.definition, "cron": "0 18 * * *"}, None, META, datetime(2026, 6, 10, 12, tzinfo=UTC)
    )
    assert later is not None
    from uuid_utils.compat import uuid7

    write = StreamWrite(stream_id=schedule.id, expected_version=schedule.version, events=later.events, head=later.head)
    await world.system.log.append([Unit(id=uuid7(), writes=[write], meta=META)])
    await lead(world)
    await world.wait_for_ticks("history", 2)
    span = {"from": "2026-06-09T00:00:00Z", "to": "2026-06-12T00:00:00Z"}
    plan = await world.post("/v1/schedules/history/backfill", **span)
    assert plan["dry_run"] is True
    assert [t["at"] for t in plan["ticks"]] == [
        "2026-06-09T06:00:00+02:00",
        "2026-06-10T06:00:00+02:00",
        "2026-06-10T18:00:00+02:00",
        "2026-06-11T18:00:00+02:00",
    ]
    assert [t["revision"] for t in plan["ticks"]] == [1, 1, 2, 2]
    jobs_before = len(await world.jobs("history"))
    first = await world.post("/v1/schedules/history/backfill", **span, dry_run=False, limit=3, rate=2)
    assert (first["jobs"], first["skipped"], first["complete"]) == (3, {"limit": 1}, False)
    runs = [datetime.fromisoformat(t["run_at"]) for t in first["ticks"][:3]]
    assert [b - runs[0] for b in runs] == [timedelta(seconds=s) for s in (0, 0.5, 1)]
    second = await world.post("/v1/schedules/history/backfill", **span, dry_run=False)
    assert (second["jobs"], second["skipped"]) == (1, {"ran": 3})
    third = await world.post("/v1/schedules/history/backfill", **span, dry_run=False)
    assert (third["jobs"], third["skipped"]) == (0, {"ran": 4})
    assert len(await world.jobs("history")) == jobs_before + 4
    filled = [t for t in await world.ticks("history") if t.get("cause") == "backfill"]
    assert len(filled) == 4


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"cron": "0 0 30 2 *"}, "cron"),
    ({"cron": "61 * * * *"}, "cron"),
    ({"cron": None}, "cron"),
    ({"every": 5}, "every"),
    ({"timezone": "Mars/Olympus"}, "timezone"),
    ({"count": 10**12}, "count"),
    ({"start": "yesterday"}, "start"),
    ({"cron": None, "at": ["2020-01-01T00:00:00Z"]}, "at"),
    ({"overlap": "whatever"}, "overlap"),
    ({"catch_up": {"policy": "all", "maximum": 201}}, "catch_up.maximum"),
    ({"calendars": ["unknown"]}, "calendars.0"),
    ({"name": "a/b"}, "name"),
    ({"name": "0190d5a0-7d5e-7000-8000-000000000000"}, "name"),
    ({"job": {"task": "noop", "delay": 5}}, "job.delay"),
    ({"job": {"task": "nobody.knows"}}, "job.task"),
    ({"job": {"task": "noop", "queue": "a b"}}, "job.queue"),
    ({"surprise": 1}, "surprise"),
]


async def test_what_is_wrong_is_refused_with_its_place(stores: Stores):  # noqa: F811
    client = await stores.client()
    for change, field in REFUSED:
        body = {"name": "bad", "cron": "0 3 * * *", "job": {"task": "noop"}, **change}
        answer = await client.post("/v1/schedules", json=body)
        assert (answer.status_code, answer.json().get("field")) == (422, field), (change, answer.text)


async def test_a_name_is_taken_until_its_schedule_is_archived(world: World):  # noqa: F811
    first = await world.create(name="again", cron="@daily")
    body = {"name": "again", "cron": "@hourly", "job": {"task": "noop"}}
    assert (await world.client.post("/v1/schedules", json=body)).status_code == 409
    archived = await world.post("/v1/schedules/again/archive", reason="enough")
    assert (archived["state"], archived["next_at"]) == ("archived", None)
    assert (await world.client.post("/v1/schedules/again/run")).status_code == 409
    second = await world.create(name="again", cron="@hourly")
    assert (second["id"], second["state"], second["revision"]) == (first["id"], "active", 2)


async def test_schedules_are_found_by_what_they_say(world: World):  # noqa: F811
    await world.create(name="a", cron="@daily", tags={"team": "x"}, owner="ada")
    await world.create(name="b", cron="@daily", tags={"team": "y"}, job={"task": "noop", "queue": "slow"})
    await world.post("/v1/schedules/b/pause")

    async def names(**query: str) -> set[str]:
        answer = await world.client.get("/v1/schedules", params=query)
        return {item["name"] for item in answer.json()["items"]}

    assert await names(tag="team:x") == {"a"}
    assert await names(owner="ada") == {"a"}
    assert await names(state="paused") == {"b"}
    assert await names(queue="slow") == {"b"}
    assert await names(task="noop") == {"a", "b"}
    assert (await world.client.get("/v1/schedules", params={"colour": "red"})).status_code == 422


async def test_the_row_is_what_the_stream_says(world: World):  # noqa: F811
    import orjson

    from rota_server.domain.schedules.schedule import fold, to_json

    await lead(world)
    await world.create(name="true", every=0.5, overlap="queue_all", catch_up={"policy": "all"})
    await world.wait_for_ticks("true", 4)
    await world.post("/v1/schedules/true/pause")
    await world.client.patch("/v1/schedules/true", json={"every": 2, "notes": "slower"})
    await world.post("/v1/schedules/true/run")
    await world.post("/v1/schedules/true/archive")
    row = await world.system_row("true")
    history = await world.system.log.read_stream(row.id)
    schedule = fold(history[: row.version])
    assert schedule is not None
    assert row.doc == orjson.loads(orjson.dumps(to_json(schedule)))
    assert row.kind == KIND


async def test_a_job_from_before_overlaps_were_watched_is_in_the_way(world: World):  # noqa: F811
    await lead(world)
    await world.create(name="watch", every=3600)
    run = await world.post("/v1/schedules/watch/run")
    assert (await world.get("watch"))["open_jobs"] == []
    changed = await world.client.patch("/v1/schedules/watch", json={"overlap": "skip", "every": 0.5})
    assert changed.json()["open_jobs"] == [run["job_id"]]
    (tick, *_) = await world.wait_for_ticks("watch", 1, outcome="skipped")
    assert (tick["reason"], tick["blocked_by"]) == ("overlap", [run["job_id"]])


async def test_a_skipped_stretch_can_be_read_time_by_time_and_page_by_page(world: World):  # noqa: F811
    at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=12)
    await made_long_ago(world, "gaps", at, every=3600.0, phase=(at + timedelta(minutes=1)).isoformat())
    await lead(world)
    await world.wait_for_ticks("gaps", 1, outcome="skipped")
    (stretch,) = await world.ticks("gaps", outcome="skipped")
    assert stretch["count"] in (11, 12)
    every = await world.ticks("gaps", expand="true", limit=3)
    times = [datetime.fromisoformat(tick["utc"]) for tick in every]
    assert times == [at + timedelta(minutes=1, hours=hour) for hour in range(len(times))]
    assert [tick["outcome"] for tick in every].count("skipped") == stretch["count"]
    assert {tick["reason"] for tick in every if tick["outcome"] == "skipped"} == {"past_catch_up"}
