"""Every zone's next transitions, and the odd ones of the past, against the specification worked out by brute force."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

import pytest

from rota_server.domain.recurrence.times import nominal_times
from rota_server.domain.recurrence.timing import parse_timing
from rota_server.domain.recurrence.zones import zone, zone_names
from tests.unit.recurrence.specification import Minutes, transitions, utc

NAMES = sorted(zone_names())
FROM = utc(2026, 11, 24)
POLICIES = [(gap, fold) for gap in ("shift", "skip") for fold in ("first", "last", "both")]
ODD = {
    "Australia/Lord_Howe": utc(2026, 1, 1),  # half an hour
    "Antarctica/Troll": utc(2026, 1, 1),  # two hours
    "Africa/Casablanca": utc(2026, 1, 1),  # daylight saving the other way round, around Ramadan
    "Europe/Dublin": utc(2026, 1, 1),
    "America/Asuncion": utc(2023, 1, 1),  # midnight does not exist
    "Asia/Beirut": utc(2026, 1, 1),
    "Africa/Cairo": utc(2026, 1, 1),
    "America/Havana": utc(2026, 1, 1),
    "Asia/Tehran": utc(2021, 1, 1),
    "Pacific/Apia": utc(2011, 9, 1),  # 30 December 2011 does not exist
    "America/St_Johns": utc(2010, 1, 1),  # one minute past midnight
    "America/Caracas": utc(2007, 6, 1),  # half an hour, for good
    "Asia/Pyongyang": utc(2015, 6, 1),
    "Antarctica/Casey": utc(2018, 1, 1),  # three hours
    "America/Nuuk": utc(2023, 1, 1),
    "Europe/Berlin": utc(2026, 1, 1),
}


def ours(spec: dict[str, object], first: datetime, last: datetime) -> list[tuple[datetime, str]]:
    timing = parse_timing(spec)
    return [(one.at, one.outcome) for one in nominal_times(timing, first - timedelta(microseconds=1), until=last)]


def check_transition(name: str, at: datetime) -> None:
    info = zone(name).info
    first, last = at - timedelta(hours=5), at + timedelta(hours=5)
    minutes = Minutes(info, first, last)
    before = (at - timedelta(minutes=1)).astimezone(info).replace(tzinfo=None)
    after = at.astimezone(info).replace(tzinfo=None)
    low, high = min(before, after), max(before, after)
    odd = low + (high - low) / 2
    hour = timedelta(hours=1)
    check_rule(name, minutes, {odd.minute}, {odd.hour}, first, last)
    check_rule(name, minutes, {0, 30}, {low.hour, high.hour, odd.hour}, first, last)
    around = {moment.hour for moment in (low - hour, low, odd, high, high + hour)}
    check_rule(name, minutes, {0, 7, 15, 59}, around, first, last)


def check_rule(name: str, known: Minutes, minutes: set[int], hours: set[int], first: datetime, last: datetime) -> None:
    minute_text, hour_text = (",".join(map(str, sorted(part))) for part in (minutes, hours))

    def matches(wall: datetime) -> bool:
        return wall.minute in minutes and wall.hour in hours

    for gap, fold in POLICIES:
        spec = {"cron": f"{minute_text} {hour_text} * * *", "timezone": name, "gap": gap, "fold": fold}
        assert ours(spec, first, last) == known.fixed(matches, gap, fold), spec
    spec = {"cron": f"*/20 {hour_text} * * *", "timezone": name, "gap": "skip", "fold": "both"}
    assert ours(spec, first, last) == known.elapsed(lambda wall: wall.minute % 20 == 0 and wall.hour in hours), spec


@pytest.mark.parametrize("letter", sorted({name[0] for name in NAMES}))
def test_each_zone_ticks_as_specified_at_its_next_four_transitions(letter: str) -> None:
    checked = 0
    for name in (name for name in NAMES if name[0] == letter):
        for at in islice(transitions(zone(name).info, FROM, utc(2030, 1, 1)), 4):
            check_transition(name, at)
            checked += 1
    assert checked > 0 or letter not in "AEU"


@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_zones_tick_as_specified_at_their_odd_transitions(name: str) -> None:
    found = list(islice(transitions(zone(name).info, ODD[name], ODD[name] + timedelta(days=800)), 5))
    assert found
    for at in found:
        check_transition(name, at)


@pytest.mark.parametrize(("gap", "fold"), POLICIES)
def test_a_skipped_day_counts_once(gap: str, fold: str) -> None:
    spec = {"cron": "30 2 * * *", "timezone": "Pacific/Apia", "gap": gap, "fold": fold}
    first, last = utc(2011, 12, 28), utc(2012, 1, 2)
    minutes = Minutes(zone("Pacific/Apia").info, first, last)
    expected = minutes.fixed(lambda wall: (wall.hour, wall.minute) == (2, 30), gap, fold)
    assert ours(spec, first, last) == expected
    assert (utc(2011, 12, 30, 10), "tick" if gap == "shift" else "skip") in expected


def test_the_notes_say_what_the_policies_changed() -> None:
    def notes(cron: str, **policies: str) -> list[tuple[str, str, str | None, str | None]]:
        timing = parse_timing({"cron": cron, "timezone": "Europe/Berlin", **policies})
        days = [(utc(2027, 3, 27, 12), utc(2027, 3, 28, 12)), (utc(2027, 10, 30, 12), utc(2027, 10, 31, 12))]
        return [
            (one.local, one.outcome, one.reason, one.note)
            for first, last in days
            for one in nominal_times(timing, first, until=last)
        ]

    assert notes("30 2 * * *") == [
        ("2027-03-28T03:00:00+02:00", "tick", None, "shifted from 02:30 by the gap"),
        ("2027-10-31T02:30:00+02:00", "tick", None, "first of two"),
    ]
    assert notes("30 2 * * *", gap="skip", fold="both") == [
        ("2027-03-28T03:00:00+02:00", "skip", "dst_gap", "02:30 falls into the gap"),
        ("2027-10-31T02:30:00+02:00", "tick", None, "first of two"),
        ("2027-10-31T02:30:00+01:00", "tick", None, "second of two"),
    ]
    assert notes("0 2,3 * * *", gap="skip", fold="last") == [
        ("2027-03-28T03:00:00+02:00", "tick", None, "02:00 left out by the gap"),
        ("2027-10-31T02:00:00+01:00", "tick", None, "second of two"),
        ("2027-10-31T03:00:00+01:00", "tick", None, None),
    ]
    assert notes("0 2,3 * * *")[0][3] == "shifted from 02:00 by the gap, where the rule ticks anyway"


def test_a_recurrence_rule_by_the_day_obeys_the_policies_and_one_by_the_hour_does_not() -> None:
    for gap, fold in POLICIES:
        cron = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "gap": gap, "fold": fold}
        daily = {**cron, "cron": None, "rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30"}
        assert ours(daily, utc(2026, 1, 1), utc(2028, 1, 1)) == ours(cron, utc(2026, 1, 1), utc(2028, 1, 1))
    hourly = ours({"rrule": "FREQ=HOURLY", "timezone": "Europe/Berlin"}, utc(2027, 1, 1), utc(2027, 12, 31))
    assert [at for at, _ in hourly] == [utc(2027, 1, 1) + timedelta(hours=index) for index in range(364 * 24 + 1)]
