"""Counting nominal times gives what walking through them gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.counting import before_last, count_times, tail
from rota_server.domain.recurrence.rrule import BoundRRule
from rota_server.domain.recurrence.times import nominal_times
from rota_server.domain.recurrence.timing import parse_timing

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RULES: list[dict[str, Any]] = [
    {"cron": "*/7 * * * *"},
    {"cron": "30 2 * * *"},
    {"cron": "30 2 * * *", "gap": "skip", "fold": "both"},
    {"cron": "15 1,2,3 * * 0", "fold": "last"},
    {"cron": "0 0 29 2 *"},
    {"every": 3737.5},
    {"every": 3600, "phase": "2026-06-01T00:00:01Z", "count": 700, "start": "2026-02-01T00:00:00Z"},
    {"at": ["2026-02-01T00:00:00Z", "2026-03-29T01:00:00Z", "2026-10-25T01:00:00.5Z"]},
    {"rrule": "FREQ=WEEKLY;BYDAY=MO,SU;BYHOUR=2;BYMINUTE=30"},
    {"rrule": "FREQ=HOURLY;INTERVAL=5"},
    {"rrule": "FREQ=MINUTELY;INTERVAL=7;BYDAY=MO,TU,SU;BYHOUR=1,2,3,4"},
    {"rrule": "FREQ=MINUTELY;BYMONTH=3,10;BYHOUR=0,1,2,3;BYMINUTE=0,30"},
    {"rrule": "FREQ=DAILY;INTERVAL=3;BYHOUR=1,2,3;BYMINUTE=30"},
    {"rrule": "FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY=28,29,30;BYHOUR=2,3"},
    {"rrule": "FREQ=MONTHLY;BYDAY=SU;BYSETPOS=-1;BYHOUR=1,2,3"},
    {"rrule": "DTSTART:20260301T023000\nRRULE:FREQ=HOURLY\nEXDATE:20260329T033000,20260301T043000,20261025T023000"},
    {"rrule": "DTSTART:20260301T023000\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,WE;COUNT=30\nEXDATE:20260329T023000"},
    {"cron": ["30 2 * * *", "*/45 1-3 * * 0", "30 2 * * 6", "0 3 * 3 *"]},
    {
        "cron": ["0 0-23/3 * * *", "30 1-22/3 * * *"],
        "gap": "skip",
        "fold": "both",
        "count": 900,
        "start": "2026-01-01T00:00:00Z",
    },
    {
        "rrule": "RRULE:FREQ=DAILY;BYHOUR=2;BYMINUTE=30\nRRULE:FREQ=HOURLY;INTERVAL=5"
        "\nEXRULE:FREQ=WEEKLY;BYDAY=SU;BYHOUR=2,3"
    },
    {
        "rrule": "DTSTART:20260101T003000Z\nRRULE:FREQ=MINUTELY;INTERVAL=90;COUNT=3000"
        "\nRRULE:FREQ=MONTHLY;BYDAY=SU;BYSETPOS=-1\nRDATE:20260329T023000,20261025T013000Z"
        "\nEXRULE:FREQ=HOURLY;INTERVAL=9;UNTIL=20260801"
        "\nEXDATE;VALUE=DATE:20260601\nEXDATE:20261025T003000Z,20260329T033000"
    },
    {"rrule": "FREQ=MINUTELY;INTERVAL=11;BYSECOND=5,35;BYSETPOS=-1\nRRULE:FREQ=SECONDLY;INTERVAL=4001;BYHOUR=1,2,3"},
    {"cron": "0 12 * * *", "start": "2026-03-01T00:00:00Z", "end": "2026-11-01T00:00:00Z", "count": 100},
]
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")


@settings(deadline=None, max_examples=150)
@given(
    rule=st.sampled_from(RULES),
    zone=st.sampled_from(ZONES),
    begin=st.integers(0, 400 * 86_400),
    length=st.integers(0, 40 * 86_400),
    wanted=st.integers(0, 200),
)
def test_counting_is_walking(rule: dict[str, Any], zone: str, begin: int, length: int, wanted: int):
    timing = parse_timing({**rule, "timezone": zone}, seed="s")
    after = BEGIN + timedelta(seconds=begin)
    until = after + timedelta(seconds=length)
    walked = list(nominal_times(timing, after, until=until))
    assert count_times(timing, after, until) == len(walked)
    found = tail(timing, after, until, wanted)
    assert found.last == (walked[-wanted:] if wanted else [])
    assert found.earlier == len(walked) - len(found.last)
    assert sum(nominal.at <= found.until for nominal in walked) == found.earlier
    known = min(wanted, len(walked))
    assert sum(nominal.at > before_last(timing, after, until, known) for nominal in walked) == known


YEAR_OF_SECONDS = 365 * 86_400


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"cron": "* * * * * *"}, YEAR_OF_SECONDS),
        ({"rrule": "FREQ=SECONDLY"}, YEAR_OF_SECONDS),
        ({"cron": ["*/2 * * * * *", "1-59/2 * * * * *", "0 0 * * *"]}, YEAR_OF_SECONDS),
        ({"rrule": "RRULE:FREQ=SECONDLY;INTERVAL=2\nEXRULE:FREQ=SECONDLY;INTERVAL=10"}, YEAR_OF_SECONDS * 4 // 10),
        ({"rrule": "RRULE:FREQ=SECONDLY\nEXDATE:20260601T000000,20261025T003000Z"}, YEAR_OF_SECONDS - 2),
    ],
)
def test_a_year_of_seconds_is_counted_at_once(rule: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch):
    timing = parse_timing({**rule, "timezone": "Europe/Berlin"})
    monkeypatch.setattr(BoundRRule, "_walk", None)
    assert count_times(timing, BEGIN, BEGIN + timedelta(days=365)) == expected


def test_the_end_of_a_count_is_found_without_walking_beyond_it(monkeypatch: pytest.MonkeyPatch):
    walked = 0
    asked = BoundRRule.next_local

    def counting(rule: BoundRRule, local: int, offset: int, limit: int) -> int | None:
        nonlocal walked
        walked += 1
        return asked(rule, local, offset, limit)

    monkeypatch.setattr(BoundRRule, "next_local", counting)
    timing = parse_timing(
        {"rrule": "FREQ=SECONDLY;COUNT=30", "start": "2026-02-01T00:00:00Z", "timezone": "Asia/Kathmandu"}
    )
    assert len(list(nominal_times(timing, BEGIN))) == 30
    assert walked < 200


def test_a_rare_rule_with_a_count_is_searched_once_and_not_in_each_piece_anew(monkeypatch: pytest.MonkeyPatch):
    looked = 0
    asked = BoundRRule._day_counts

    def counting(rule: BoundRRule, day: int) -> bool:
        nonlocal looked
        looked += 1
        return asked(rule, day)

    monkeypatch.setattr(BoundRRule, "_day_counts", counting)
    rule = {"rrule": "FREQ=DAILY;INTERVAL=86399;BYDAY=FR;COUNT=3", "start": "2026-11-24T00:00:00Z"}
    with pytest.raises(Rejected) as refused:
        parse_timing({**rule, "timezone": "America/New_York"})
    assert refused.value.code == "never"
    assert looked < 200_000
