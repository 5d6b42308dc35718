"""Where a recurrence begins: nothing ticks before its start, and the start is one of its times if the rule says so."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from rota_server.domain.recurrence.counting import count_times
from rota_server.domain.recurrence.instants import parse_instant
from rota_server.domain.recurrence.preview import preview
from rota_server.domain.recurrence.times import nominal_times
from rota_server.domain.recurrence.timing import parse_timing
from rota_server.domain.recurrence.zones import zone
from tests.unit.recurrence.specification import transitions, utc

CASES = Path(__file__).parents[2] / "cases" / "rrules.jsonl"
BERLIN = "Europe/Berlin"
LONG_AGO = utc(2001, 1, 1)
HALF_A_SECOND = timedelta(milliseconds=500)
ZONES = {
    BERLIN: utc(2026, 1, 1),
    "America/New_York": utc(2027, 1, 1),
    "Australia/Lord_Howe": utc(2026, 1, 1),  # half an hour
    "Antarctica/Troll": utc(2026, 1, 1),  # two hours
    "Africa/Casablanca": utc(2026, 1, 1),
    "America/Asuncion": utc(2023, 1, 1),  # midnight does not exist
    "Asia/Beirut": utc(2026, 1, 1),
    "Pacific/Apia": utc(2011, 9, 1),  # 30 December 2011 does not exist
    "America/Caracas": utc(2007, 6, 1),
}
RULES = (
    "FREQ=HOURLY;COUNT=4",
    "FREQ=HOURLY;INTERVAL=2;COUNT=4",
    "FREQ=MINUTELY;INTERVAL=45;COUNT=4",
    "FREQ=SECONDLY;INTERVAL=1800;COUNT=4",
    "FREQ=DAILY;COUNT=4",
    "FREQ=WEEKLY;COUNT=4",
)


def ticks(spec: dict[str, Any], count: int = 100) -> list[datetime]:
    return [one.at for one in islice(nominal_times(parse_timing(spec), LONG_AGO), count)]


@pytest.mark.parametrize("line", CASES.read_text(encoding="utf-8").splitlines())
def test_a_rule_that_people_met_ticks_when_it_must(line: str) -> None:
    case = json.loads(line)
    spec = {name: value for name, value in case["preview"].items() if name not in ("after", "count")}
    timing = parse_timing(spec)
    shown = preview(timing, parse_instant(case["preview"]["after"], "after"), case["preview"]["count"])
    assert len(shown) == case["ticks"]
    assert case["utc"] is None or [tick["utc"] for tick in shown] == case["utc"]


@pytest.mark.parametrize("name", sorted(ZONES))
@pytest.mark.parametrize("rule", RULES)
def test_nothing_ticks_before_its_start_and_a_count_is_reached(name: str, rule: str) -> None:
    found = list(islice(transitions(zone(name).info, ZONES[name], ZONES[name] + timedelta(days=800)), 3))
    assert found
    for at in found:
        for minutes in range(-150, 180, 45):
            start = at + timedelta(minutes=minutes)
            for fraction in (timedelta(0), HALF_A_SECOND):
                for fold in ("first", "last", "both"):
                    given = start + fraction
                    spec = {"rrule": rule, "start": given, "timezone": name, "fold": fold}
                    came = ticks(spec)
                    assert len(came) >= 4
                    assert came[0] >= given
                    if fold != "last":
                        assert came[0] - given < timedelta(seconds=1)
                    assert count_times(parse_timing(spec), LONG_AGO, came[-1]) == len(came)
                    assert count_times(parse_timing(spec), LONG_AGO, given - timedelta(microseconds=1)) == 0


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_hours_are_counted_in_time_that_passed_since_the_start(interval: int) -> None:
    for name in (BERLIN, "America/New_York", "Antarctica/Troll", "Africa/Casablanca"):
        for at in islice(transitions(zone(name).info, ZONES[name], ZONES[name] + timedelta(days=800)), 3):
            for minutes in range(-150, 180, 30):
                start = at + timedelta(minutes=minutes)
                rule = f"DTSTART:{start:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=HOURLY;INTERVAL={interval};COUNT=5"
                assert ticks({"rrule": rule, "timezone": name}) == [
                    start + place * timedelta(hours=interval) for place in range(5)
                ]


def test_a_day_that_begins_in_the_second_pass_counts_from_there() -> None:
    second = {"rrule": "DTSTART:20261025T013000Z\nRRULE:FREQ=DAILY;COUNT=3", "timezone": BERLIN}
    days = [utc(2026, 10, day, 1, 30) for day in (25, 26, 27)]
    assert ticks(second) == days
    assert ticks({**second, "fold": "both"}) == days
    assert ticks({**second, "fold": "last"}) == days
    assert ticks({**second, "rrule": second["rrule"].replace("T013000Z", "T003000Z"), "fold": "last"}) == days
    later = {**second, "rrule": "DTSTART:20261024T003000Z\nRRULE:FREQ=DAILY;COUNT=3"}
    assert ticks(later) == [utc(2026, 10, 24, 0, 30), utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30)]


def test_a_start_in_a_gap_is_the_time_that_the_offset_before_it_gives() -> None:
    start = "DTSTART;TZID=Europe/Berlin:20270328T023000\n"
    assert ticks({"rrule": start + "RRULE:FREQ=HOURLY;INTERVAL=2;COUNT=3"}) == [
        utc(2027, 3, 28, 1, 30),
        utc(2027, 3, 28, 3, 30),
        utc(2027, 3, 28, 5, 30),
    ]
    daily = ticks({"rrule": start + "RRULE:FREQ=DAILY;COUNT=2"})
    assert daily == [utc(2027, 3, 28, 1), utc(2027, 3, 29, 0, 30)]
