from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.calendars import Calendar, parse_calendar
from rota_server.domain.recurrence.limits import (
    AT_INSTANTS_MAXIMUM,
    CALENDARS_MAXIMUM,
    COUNT_MAXIMUM,
    EVERY_SECONDS_MAXIMUM,
    EVERY_SECONDS_MINIMUM,
    JITTER_SECONDS_MAXIMUM,
    PREVIEW_MAXIMUM,
    RRULE_COUNT_MAXIMUM,
)
from rota_server.domain.recurrence.preview import preview
from rota_server.domain.recurrence.times import Nominal, nominal_times
from rota_server.domain.recurrence.timing import next_time, parse_timing
from tests.unit.recurrence.specification import utc

NOON = utc(2026, 11, 24, 12)
DAILY = {"cron": "15 2 * * *", "timezone": "Europe/Berlin"}


def times(spec: dict[str, Any], count: int = 10_000, after: datetime = NOON, **others: Any) -> list[datetime]:
    return [one.at for one in islice(nominal_times(parse_timing(spec, **others), after), count)]


def test_an_interval_is_elapsed_time_from_its_phase_else_its_start_else_1970() -> None:
    assert times({"every": 86400}, 1) == [utc(2026, 11, 25)]
    assert times({"every": 3600, "start": "2026-11-24T12:10:00Z"}, 2) == [NOON + timedelta(minutes=m) for m in (10, 70)]
    phased = {"every": 3600, "phase": "2030-01-01T00:20:00Z", "start": "2026-11-24T12:10:00Z"}
    assert times(phased, 2) == [NOON + timedelta(minutes=m) for m in (20, 80)]
    berlin = times(
        {"every": 86400, "timezone": "Europe/Berlin", "phase": "2027-03-27T02:30:00+01:00"}, 3, utc(2027, 3, 27)
    )
    assert [at.hour for at in berlin] == [1, 1, 1]


def test_an_interval_of_half_seconds_stays_exact() -> None:
    found = times({"every": 0.7, "phase": "2026-11-24T00:00:00.1Z"}, 1000)
    assert all(later - earlier == timedelta(seconds=0.7) for earlier, later in pairwise(found))
    assert (found[0] - utc(2026, 11, 24)) % timedelta(seconds=0.7) == timedelta(seconds=0.1)


def test_a_list_of_instants_is_put_in_order() -> None:
    spec = {"at": ["2027-01-02T00:00:00+01:00", "2027-01-01T00:00:00.25Z", "2020-01-01T00:00:00Z"]}
    assert times(spec) == [datetime(2027, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC), utc(2027, 1, 1, 23)]


def test_start_and_end_are_inclusive() -> None:
    spec = {**DAILY, "start": "2026-12-01T02:15:00+01:00", "end": "2026-12-03T02:15:00+01:00"}
    assert times(spec) == [utc(2026, 12, day, 1, 15) for day in (1, 2, 3)]
    spec = {**DAILY, "start": "2026-12-01T02:15:00.000001+01:00", "end": "2026-12-03T02:14:59.999999+01:00"}
    assert times(spec) == [utc(2026, 12, 2, 1, 15)]


def test_after_is_exclusive_and_until_inclusive() -> None:
    timing = parse_timing({"every": 1})
    found = [one.at for one in nominal_times(timing, NOON, until=NOON + timedelta(seconds=2))]
    assert found == [NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)]
    assert list(nominal_times(timing, NOON, until=NOON)) == []


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [
            {"cron": "*/17 3-20 * * 1-5"},
            {"cron": "0,30 0-4 * * *"},
            {"cron": "0 0 29 2 *"},
            {"cron": "*/10 30 2 1,L * *"},
            {"cron": "30 */5 * * *"},
            {"rrule": "FREQ=DAILY;BYHOUR=1,2,3;BYMINUTE=0,30"},
            {"rrule": "FREQ=HOURLY;INTERVAL=5"},
            {"every": 1234.5},
            {"at": [f"2027-0{month}-0{day}T00:00:00Z" for month in range(1, 10) for day in range(1, 10)]},
        ]
    ),
    st.sampled_from(["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]),
    st.sampled_from(["shift", "skip"]),
    st.sampled_from(["first", "last", "both"]),
    st.integers(1, 400),
    st.integers(0, 500),
)
def test_counting_ends_where_a_walk_ends(
    rule: dict[str, Any], zone: str, gap: str, fold: str, count: int, days: int
) -> None:
    spec = {**rule, "timezone": zone, "gap": gap, "fold": fold, "start": NOON + timedelta(days=days, seconds=1)}
    try:
        parse_timing(spec)
    except Rejected:
        return
    assert times({**spec, "count": count}, 1000, utc(2000, 1, 1)) == times(spec, count, utc(2000, 1, 1))


def test_a_count_far_away_costs_nothing() -> None:
    spec = {"cron": "* * * * * *", "timezone": "Europe/Berlin", "start": "2026-01-01T00:00:00Z", "count": COUNT_MAXIMUM}
    last = utc(2026, 1, 1) + timedelta(seconds=COUNT_MAXIMUM - 1)
    assert times(spec, after=last - timedelta(seconds=3)) == [last - timedelta(seconds=s) for s in (2, 1, 0)]
    assert times({**spec, "cron": None, "every": 1}, after=last - timedelta(seconds=2)) == [
        last - timedelta(seconds=1),
        last,
    ]


def test_a_count_without_a_start_counts_from_the_creation() -> None:
    with pytest.raises(Rejected) as refused:
        parse_timing({**DAILY, "count": 2})
    assert refused.value.field == "start"
    timing = parse_timing({**DAILY, "count": 2}, created=NOON)
    assert timing.start is not None
    assert timing.start > NOON
    assert [one.at for one in nominal_times(timing, utc(2000, 1, 1))] == [utc(2026, 11, day, 1, 15) for day in (25, 26)]


@pytest.mark.parametrize(
    "rule",
    [
        {"every": 1},
        {"every": 3600},
        {"every": 0.5, "phase": "2026-11-24T12:00:00Z"},
        {"cron": "0 12 * * *"},
        {"rrule": "FREQ=DAILY"},
        {"rrule": "FREQ=SECONDLY"},
        {"at": [f"2026-11-{day}T12:00:00Z" for day in (23, 24, 25, 26, 27, 28)]},
    ],
)
@pytest.mark.parametrize("created", [NOON, NOON + timedelta(microseconds=250_000)])
def test_a_count_from_the_creation_counts_what_can_still_come(rule: dict[str, Any], created: datetime) -> None:
    for count in (1, 3):
        timing = parse_timing({**rule, "count": count}, created=created)
        assert len(list(nominal_times(timing, created))) == count
    if "every" in rule and "phase" not in rule:
        first = next_time(parse_timing({**rule, "count": 1}, created=created), created)
        assert first is not None
        assert first.at == NOON + timedelta(seconds=rule["every"])


def test_the_count_of_a_recurrence_rule_without_a_start_counts_what_can_still_come() -> None:
    created = NOON + timedelta(microseconds=250_000)
    timing = parse_timing({"rrule": "FREQ=DAILY;COUNT=3"}, created=created)
    assert [one.at for one in nominal_times(timing, created)] == [
        NOON + timedelta(days=day, seconds=1) for day in range(3)
    ]


def test_skipped_times_count() -> None:
    calendar = parse_calendar({"dates": ["2026-11-26"]})
    timing = parse_timing({**DAILY, "count": 3, "start": NOON}, [calendar])
    assert [one.outcome for one in nominal_times(timing, NOON)] == ["tick", "skip", "tick"]


def test_calendars_skip_with_the_reason() -> None:
    names = ["shop", "holidays"]
    calendars = [
        parse_calendar({"name": name, "dates": [f"2026-11-{day}"]}) for name, day in zip(names, (26, 27), strict=True)
    ]
    found = list(islice(nominal_times(parse_timing(DAILY, calendars), NOON), 4))
    assert [(one.outcome, one.reason, one.note) for one in found] == [
        ("tick", None, None),
        ("skip", "calendar", "calendar shop: 2026-11-26"),
        ("skip", "calendar", "calendar holidays: 2026-11-27"),
        ("tick", None, None),
    ]
    assert all(one.run_at == one.at for one in found)


def test_a_time_that_the_gap_took_is_skipped_for_the_gap_whatever_the_calendar_says() -> None:
    calendar = parse_calendar({"dates": ["2027-03-28"]})
    timing = parse_timing({"cron": "30 2 * * *", "timezone": "Europe/Berlin", "gap": "skip"}, [calendar])
    skipped = next_time(timing, utc(2027, 3, 27, 12))
    assert skipped is not None
    assert (skipped.outcome, skipped.reason) == ("skip", "dst_gap")


def jittered(jitter: float, seed: object, count: int = 2000) -> list[Nominal]:
    timing = parse_timing({"every": 60, "jitter": jitter}, seed=seed)
    return list(islice(nominal_times(timing, NOON), count))


@pytest.mark.parametrize("jitter", [0.001, 5, 59, 60, 61, 3600, JITTER_SECONDS_MAXIMUM])
def test_jitter_is_spread_evenly_and_never_reaches_the_next_time(jitter: float) -> None:
    found = jittered(jitter, UUID(int=7))
    delays = [(one.run_at - one.at).total_seconds() for one in found]
    room = min(jitter, 60)
    assert all(0 <= delay <= room for delay in delays)
    assert all(one.run_at < following.at for one, following in pairwise(found))
    for third in range(3):
        share = sum(third / 3 <= delay / (room + 1e-6) < (third + 1) / 3 for delay in delays) / len(delays)
        assert math.isclose(share, 1 / 3, abs_tol=0.05)


def test_jitter_depends_on_the_schedule_and_the_nominal_time_alone() -> None:
    found = jittered(30, UUID(int=1))
    assert found == jittered(30, UUID(int=1))
    assert [one.run_at for one in found] != [one.run_at for one in jittered(30, UUID(int=2))]
    timing = parse_timing({"every": 60, "jitter": 30}, seed=UUID(int=1))
    assert next_time(timing, found[700].at) == found[701]
    assert jittered(0, UUID(int=1), 1)[0].run_at == NOON + timedelta(minutes=1)


def test_the_last_time_has_its_whole_jitter() -> None:
    found = list(nominal_times(parse_timing({"every": 60, "jitter": 86_400, "start": NOON, "count": 3}), NOON))
    assert len(found) == 2
    assert timedelta(minutes=2) < found[-1].run_at - found[-1].at < timedelta(days=1)


def test_a_preview_shows_zone_utc_and_what_policies_change() -> None:
    shown = preview(parse_timing({**DAILY, "cron": "30 2 * * *"}), utc(2027, 3, 27), 3)
    assert shown == [
        {"at": f"2027-03-{at}", "utc": f"2027-03-{utc_text}", "outcome": "tick", "reason": None, "note": note}
        for at, utc_text, note in (
            ("27T02:30:00+01:00", "27T01:30:00Z", None),
            ("28T03:00:00+02:00", "28T01:00:00Z", "shifted from 02:30 by the gap"),
            ("29T02:30:00+02:00", "29T00:30:00Z", None),
        )
    ]
    assert len(preview(parse_timing({"every": 1}), NOON, PREVIEW_MAXIMUM)) == PREVIEW_MAXIMUM
    for count in (0, PREVIEW_MAXIMUM + 1):
        with pytest.raises(Rejected) as refused:
            preview(parse_timing({"every": 1}), NOON, count)
        assert refused.value.field == "count"


def test_other_fields_of_a_schedule_are_none_of_its_timing() -> None:
    spec = {
        "name": "nightly-report", "cron": "15 2 * * *", "timezone": "Europe/Berlin", "gap": "shift", "fold": "first",
        "start": None, "end": None, "count": None, "jitter": 0, "calendars": [], "overlap": "allow",
        "catch_up": {"policy": "latest", "window": 86400, "maximum": 100}, "job": {"task": "report.nightly"},
    }  # fmt: skip
    assert parse_timing(spec) == parse_timing(DAILY)
    assert hash(parse_timing(spec)) == hash(parse_timing(DAILY))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "cron"),
        ({"cron": "* * * * *", "every": 5}, "every"),
        ({"every": "5"}, "every"),
        ({"every": True}, "every"),
        ({"every": math.nan}, "every"),
        ({"every": math.inf}, "every"),
        ({"every": 0}, "every"),
        ({"every": -1}, "every"),
        ({"every": EVERY_SECONDS_MINIMUM - 0.001}, "every"),
        ({"every": EVERY_SECONDS_MAXIMUM + 1}, "every"),
        ({"every": 5, "phase": "yesterday"}, "phase"),
        ({"cron": "* * * * *", "phase": "2027-01-01T00:00:00Z"}, "phase"),
        ({"at": "2027-01-01T00:00:00Z"}, "at"),
        ({"at": []}, "at"),
        ({"at": ["2027-01-01T00:00:00Z"] * (AT_INSTANTS_MAXIMUM + 1)}, "at"),
        ({"at": ["2027-01-01T00:00:00Z", "2027-01-01T00:00:00"]}, "at.1"),
        ({"at": ["2027-01-01T00:00:00Z", "2027-01-01T01:00:00+01:00"]}, "at.1"),
        ({"at": ["2027-02-30T00:00:00Z"]}, "at.0"),
        ({"at": ["1999-12-31T23:59:59Z"]}, "at.0"),
        ({"at": ["9999-12-31T23:59:59-23:59"]}, "at.0"),
        ({"at": ["2027-01-01T00:00:00.0000000001Z"]}, "at.0"),
        ({"at": ["2027-01-01T24:00:00Z"]}, "at.0"),
        ({"at": ["2027-01-01T00:00:00+25:00"]}, "at.0"),
        ({"at": [1798761600]}, "at.0"),
        ({"at": ["\u0662027-01-01T00:00:00Z"]}, "at.0"),
        ({**DAILY, "timezone": "Europe/Berlln"}, "timezone"),
        ({**DAILY, "timezone": "europe/berlin"}, "timezone"),
        ({**DAILY, "timezone": "../../etc/passwd"}, "timezone"),
        ({**DAILY, "timezone": "UTC\x00"}, "timezone"),
        ({**DAILY, "timezone": ""}, "timezone"),
        ({**DAILY, "timezone": "+01:00"}, "timezone"),
        ({**DAILY, "timezone": 1}, "timezone"),
        ({**DAILY, "timezone": "x" * 100_000}, "timezone"),
        ({**DAILY, "gap": "move"}, "gap"),
        ({**DAILY, "gap": ["shift"]}, "gap"),
        ({**DAILY, "fold": True}, "fold"),
        ({**DAILY, "start": "2027-01-01"}, "start"),
        ({**DAILY, "end": 5}, "end"),
        ({**DAILY, "end": "2201-01-01T00:00:00Z"}, "end"),
        ({**DAILY, "start": "2027-01-02T00:00:00Z", "end": "2027-01-01T00:00:00Z"}, "end"),
        ({**DAILY, "start": "2027-01-02T01:16:00Z", "end": "2027-01-02T02:00:00Z"}, "end"),
        ({"at": ["2027-01-01T00:00:00Z"], "start": "2027-01-02T00:00:00Z"}, "start"),
        ({"at": ["2027-01-01T00:00:00Z"], "end": "2026-01-02T00:00:00Z"}, "end"),
        ({**DAILY, "count": 0}, "count"),
        ({**DAILY, "count": 2.0}, "count"),
        ({**DAILY, "count": True}, "count"),
        ({**DAILY, "count": "3"}, "count"),
        ({**DAILY, "count": COUNT_MAXIMUM + 1}, "count"),
        ({"rrule": "FREQ=DAILY", "count": RRULE_COUNT_MAXIMUM + 1}, "count"),
        ({"rrule": "FREQ=DAILY;COUNT=3"}, "start"),
        ({**DAILY, "jitter": -1}, "jitter"),
        ({**DAILY, "jitter": "1"}, "jitter"),
        ({**DAILY, "jitter": math.nan}, "jitter"),
        ({**DAILY, "jitter": JITTER_SECONDS_MAXIMUM + 1}, "jitter"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"rrule": "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30"}, "rrule"),
    ],
)
def test_what_is_wrong_is_named(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_timing(spec)
    assert refused.value.field == field
    assert len(refused.value.message) < 400


def test_what_stands_at_a_limit_is_allowed() -> None:
    for every in (EVERY_SECONDS_MINIMUM, EVERY_SECONDS_MAXIMUM):
        assert len(times({"every": every}, 2)) == 2
    instants = [(NOON + timedelta(seconds=index)).isoformat() for index in range(AT_INSTANTS_MAXIMUM)]
    assert len(times({"at": instants}, after=utc(2000, 1, 1))) == AT_INSTANTS_MAXIMUM
    parse_timing({**DAILY, "jitter": JITTER_SECONDS_MAXIMUM, "count": COUNT_MAXIMUM, "start": NOON})
    parse_timing(DAILY, [Calendar()] * CALENDARS_MAXIMUM)
    with pytest.raises(Rejected) as refused:
        parse_timing(DAILY, [Calendar()] * (CALENDARS_MAXIMUM + 1))
    assert refused.value.field == "calendars"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["30 2 * * *", "*/30 1-3 * * *", "0 0 * * *", "0,59 0,1,2,3,23 * * *"]),
    st.sampled_from(["Europe/Berlin", "America/Havana", "Asia/Beirut", "Antarctica/Troll", "Africa/Casablanca"]),
    st.sampled_from(["shift", "skip"]),
    st.sampled_from(["first", "last", "both"]),
    st.integers(0, 800 * 24),
)
def test_the_next_time_after_any_instant_is_the_walks(cron: str, zone: str, gap: str, fold: str, hours: int) -> None:
    """What a leader computes after a restart is what the one before would have computed."""
    timing = parse_timing({"cron": cron, "timezone": zone, "gap": gap, "fold": fold, "jitter": 900})
    after = utc(2026, 1, 1) + timedelta(hours=hours)
    walk = list(nominal_times(timing, after, until=after + timedelta(days=3)))
    assert [one.at for one in walk] == sorted({one.at for one in walk})
    for one, following in pairwise(walk):
        assert next_time(timing, one.at) == following
        assert next_time(timing, following.at - timedelta(microseconds=1)) == following
