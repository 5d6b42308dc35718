"""Sets of rules over HTTP: they tick, are made up for and changed like one rule; and what is refused leads on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.store.conftest import Stores, stores  # noqa: F401 - a fixture
from tests.integration.test_schedule_policies import made_long_ago, summary
from tests.integration.test_schedules import World, lead, world  # noqa: F401 - a fixture

LINES = ["0 0-21/3 * * *", "30 1-22/3 * * *"]
"""Every ninety minutes."""


async def test_a_list_of_cron_lines_ticks_once_where_several_lines_do(world: World) -> None:  # noqa: F811
    await lead(world)
    made = await world.create(name="both", cron=["* * * * * *", "*/2 * * * * *"])
    assert made["cron"] == ["* * * * * *", "*/2 * * * * *"]
    ticks = await world.wait_for_ticks("both", 4, outcome="ticked")
    times = [datetime.fromisoformat(tick["utc"]) for tick in ticks]
    assert len(set(times)) == len(times)
    assert len({tick["job_id"] for tick in ticks}) == len(ticks)


async def test_a_set_that_was_missed_for_long_is_skipped_as_one_stretch_and_made_up_for(world: World) -> None:  # noqa: F811
    at = datetime.now(UTC) - timedelta(days=200)
    text = f"DTSTART:{at:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=SECONDLY\nRRULE:FREQ=DAILY\nEXRULE:FREQ=SECONDLY;INTERVAL=2"
    await made_long_ago(world, "long", at, rrule=text, catch_up={"policy": "none", "window": 60, "maximum": 1})
    await lead(world)
    await world.wait_for_ticks("long", 1)
    ((outcome, reason, count), *_) = summary(await world.ticks("long", outcome="skipped", limit=1))
    assert (outcome, reason) == ("skipped", "past_catch_up")
    assert abs(count - 200 * 86_400 // 2) < 600
    await world.post("/v1/schedules/long/pause")
    span = {"from": at.isoformat(), "to": (at + timedelta(seconds=7)).isoformat()}
    plan = await world.post("/v1/schedules/long/backfill", **span)
    assert (plan["jobs"], plan["note"]) in {(3, None), (4, None)}


async def test_a_backfill_of_the_future_says_why_it_is_empty(world: World) -> None:  # noqa: F811
    await world.create(name="ahead", cron="@hourly")
    span = {"from": "2199-01-01T00:00:00Z", "to": "2199-01-02T00:00:00Z"}
    plan = await world.post("/v1/schedules/ahead/backfill", **span)
    assert (plan["jobs"], plan["ticks"]) == (0, [])
    assert plan["note"].startswith("the range lies in the future")


REQUESTS: list[tuple[dict[str, Any], str, str]] = [
    ({"cron": "*/90 * * * *"}, "cron", "give every: 5400"),
    ({"cron": ["@daily", "*/90 * * * *"]}, "cron.1", "give every: 5400"),
    ({"cron": "CRON_TZ=Asia/Tokyo 0 9 * * *"}, "cron", "give timezone: Asia/Tokyo"),
    ({"cron": "@daily", "timezone": "europe/berlin"}, "timezone", "did you mean Europe/Berlin?"),
    ({"cron": 5}, "cron", "a cron expression is a string"),
]


async def test_what_is_refused_leads_on(stores: Stores) -> None:  # noqa: F811
    client = await stores.client()
    for body, field, lead_text in REQUESTS:
        for path, more in (("/v1/schedules/preview", {}), ("/v1/schedules", {"name": "x", "job": {"task": "noop"}})):
            answer = await client.post(path, json={**body, **more})
            assert (answer.status_code, answer.json()["field"]) == (422, field)
            assert lead_text in answer.json()["detail"]


@pytest.mark.parametrize(("after", "expected"), [("2027-06-01T00:00:00Z", ["07:00:00Z", "08:30:00Z"])])
async def test_wall_clock_bounds_and_sets_are_previewed(stores: Stores, after: str, expected: list[str]) -> None:  # noqa: F811
    client = await stores.client()
    body = {"cron": LINES, "timezone": "Europe/Berlin", "start": "2027-06-01T08:00:00", "after": after, "count": 2}
    answer = (await client.post("/v1/schedules/preview", json=body)).json()
    assert [tick["utc"][11:] for tick in answer["ticks"]] == expected
    body = {"at": ["2027-06-01T09:00:00"], "timezone": "Europe/Berlin", "after": after}
    answer = (await client.post("/v1/schedules/preview", json=body)).json()
    assert [tick["utc"] for tick in answer["ticks"]] == ["2027-06-01T07:00:00Z"]
