"""Counting nominal times gives what walking through them gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.recurrence.counting import before_last, count_times, tail
from domain.recurrence.times import nominal_times
from domain.recurrence.timing import parse_timing

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


def test_a_year_of_seconds_is_counted_at_once():
    timing = parse_timing({"cron": "* * * * * *", "timezone": "Europe/Berlin"})
    assert count_times(timing, BEGIN, BEGIN + timedelta(days=365)) == 365 * 86_400
