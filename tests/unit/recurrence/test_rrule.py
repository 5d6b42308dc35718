from __future__ import annotations

import contextlib
import datetime as dt
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from types import SimpleNamespace

import pytest
from dateutil import rrule as dateutil_rrule
from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.limits import (
    EXDATES_MAXIMUM,
    RRULE_COUNT_MAXIMUM,
    RRULE_INTERVAL_MAXIMUM,
    RRULE_TEXT_MAXIMUM,
)
from rota_server.domain.recurrence.rrule import bind
from rota_server.domain.recurrence.rrule_text import parse_rrule
from rota_server.domain.recurrence.times import nominal_times
from rota_server.domain.recurrence.timing import next_time, parse_timing
from rota_server.domain.recurrence.zones import zone
from tests.unit.recurrence.specification import utc

WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
COARSE = ["YEARLY", "MONTHLY", "WEEKLY", "DAILY"]
FINE = ["HOURLY", "MINUTELY", "SECONDLY"]
# How far to compare: dateutil walks.
DAYS = {"YEARLY": 4000, "MONTHLY": 900, "WEEKLY": 500, "DAILY": 400, "HOURLY": 30, "MINUTELY": 2, "SECONDLY": 0.1}
MOST = 300


@pytest.fixture(autouse=True)
def _dateutil_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would search until the year 9999."""
    known = SimpleNamespace(**{**vars(dt), "MAXYEAR": 2045})
    monkeypatch.setattr(dateutil_rrule, "datetime", known)


def lists(values: st.SearchStrategy[object], most: int = 3) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=most, unique=True).map(lambda items: ",".join(map(str, items)))


def signed(high: int) -> st.SearchStrategy[int]:
    return st.integers(1, high) | st.integers(-high, -1)


@st.composite
def coarse_rules(draw: st.DrawFn) -> str:
    frequency = draw(st.sampled_from(COARSE))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.integers(1, 4))}", f"WKST={draw(st.sampled_from(WEEKDAYS))}"]
    by = draw(st.sets(st.sampled_from(["BYMONTH", "BYDAY", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO"]), max_size=2))
    if "BYMONTH" in by:
        parts.append("BYMONTH=" + draw(lists(st.integers(1, 12), 6)))
    numbered = frequency in {"YEARLY", "MONTHLY"} and "BYWEEKNO" not in by
    days = st.sampled_from(WEEKDAYS)
    if numbered and draw(st.booleans()):  # not mixed: dateutil then wants both, the RFC either
        highest = 53 if frequency == "YEARLY" and "BYMONTH" not in by else 5
        days = st.builds("{}{}".format, signed(highest), days)
    if "BYDAY" in by or "BYWEEKNO" in by:  # a week's number alone is read otherwise, see below
        parts.append("BYDAY=" + draw(lists(days)))
    if "BYMONTHDAY" in by and frequency != "WEEKLY":
        parts.append("BYMONTHDAY=" + draw(lists(signed(31))))
    if "BYYEARDAY" in by and frequency == "YEARLY":
        parts.append("BYYEARDAY=" + draw(lists(signed(366))))
    if "BYWEEKNO" in by and frequency == "YEARLY":
        inner = signed(51).filter(lambda number: abs(number) > 1)  # dateutil miscounts at the turn of the year
        parts.append("BYWEEKNO=" + draw(lists(inner)))
    parts += draw(times("BYHOUR", "BYMINUTE", "BYSECOND"))
    if any(part.startswith("BY") for part in parts) and draw(st.booleans()):
        parts.append("BYSETPOS=" + draw(lists(signed(5))))
    return ";".join(parts)


@st.composite
def fine_rules(draw: st.DrawFn) -> str:
    frequency = draw(st.sampled_from(FINE))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.sampled_from([1, 2, 3, 5, 7, 11, 24, 50]))}"]
    if draw(st.booleans()):
        parts.append("BYDAY=" + draw(lists(st.sampled_from(WEEKDAYS), 5)))
    parts += draw(times("BYHOUR", "BYMINUTE", "BYSECOND"))
    if any(part.startswith("BY") for part in parts) and draw(st.booleans()):
        parts.append("BYSETPOS=" + draw(lists(signed(3))))
    return ";".join(parts)


@st.composite
def times(draw: st.DrawFn, *names: str) -> list[str]:
    highest = {"BYHOUR": 23, "BYMINUTE": 59, "BYSECOND": 59}
    return [f"{name}={draw(lists(st.integers(0, highest[name])))}" for name in names if draw(st.integers(0, 2)) == 0]


starts = st.datetimes(datetime(2020, 1, 1), datetime(2027, 1, 1)).map(  # noqa: DTZ001
    lambda at: at.replace(microsecond=0, fold=0)
)


def check(rule: str, start: datetime) -> None:
    last = start + timedelta(days=DAYS[rule.split(";", maxsplit=1)[0].removeprefix("FREQ=")])
    theirs = islice(takewhile(lambda at: at <= last, dateutil_rrule.rrulestr(rule, dtstart=start)), MOST)
    begin = start
    if "WEEKLY" in rule and "BYSETPOS" in rule:  # dateutil counts the positions of the first week from the start on
        begin += timedelta(days=7)
    expected = [at for at in theirs if at >= begin]
    found = [at for at in ours(rule, start, last) if at >= begin]
    if len(found) + len(expected) < MOST:
        assert found == expected
    assert all(mine == yours for mine, yours in zip(found, expected, strict=False))


def ours(rule: str, start: datetime, last: datetime) -> list[datetime]:
    begin = start.replace(tzinfo=UTC)
    try:
        timing = parse_timing({"rrule": rule, "start": begin})
    except Rejected as rejected:
        assert rejected.code == "never", rejected.message  # noqa: PT017 # then the oracle must be empty, too
        return []
    found = nominal_times(timing, begin - timedelta(seconds=1), until=last.replace(tzinfo=UTC))
    return [one.at.replace(tzinfo=None) for one in islice(found, MOST)]


@settings(max_examples=150, deadline=None)
@given(coarse_rules(), starts)
def test_rules_by_the_day_and_coarser_are_dateutils(rule: str, start: datetime) -> None:
    check(rule, start)


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=HOURLY;INTERVAL=5",
        "FREQ=HOURLY;INTERVAL=7;BYDAY=SA,SU;BYMINUTE=10,50",
        "FREQ=MINUTELY;INTERVAL=11;BYHOUR=9,10,17",
        "FREQ=SECONDLY;INTERVAL=13;BYMINUTE=1,2,30",
        "FREQ=HOURLY;BYMINUTE=0,20,40;BYSETPOS=-1",
    ],
)
def test_rules_by_the_hour_and_finer_are_dateutils(rule: str) -> None:
    check(rule, datetime(2026, 11, 24, 9, 17, 31))  # noqa: DTZ001


def periods(rule: str, start: datetime) -> list[datetime]:
    """The RFC's way: all periods of the interval, in each all times that the parts choose, then the positions."""
    parts = dict(part.split("=") for part in rule.split(";"))
    sets = {
        name: [int(item) for item in parts[name].split(",")] for name in parts if name[:2] == "BY" and name != "BYDAY"
    }
    unit = {"HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}[parts["FREQ"]]
    at = start.replace(minute=0 if unit > 60 else start.minute, second=0 if unit > 1 else start.second)
    found: list[datetime] = []
    while at <= start + timedelta(days=DAYS[parts["FREQ"]]):
        minutes = sets.get("BYMINUTE", [start.minute]) if unit > 60 else [at.minute]
        seconds = sets.get("BYSECOND", [start.second]) if unit > 1 else [at.second]
        inside = [
            at.replace(minute=minute, second=second)
            for minute in sorted(minutes)
            for second in sorted(seconds)
            if WEEKDAYS[at.weekday()] in parts.get("BYDAY", ",".join(WEEKDAYS))
            and at.hour in sets.get("BYHOUR", [at.hour])
            and minute in sets.get("BYMINUTE", [minute])
            and second in sets.get("BYSECOND", [second])
        ]
        if "BYSETPOS" in sets:
            places = {place - 1 if place > 0 else len(inside) + place for place in sets["BYSETPOS"]}
            inside = [one for index, one in enumerate(inside) if index in places]
        found += [one for one in inside if one >= start]
        at += timedelta(seconds=unit * int(parts["INTERVAL"]))
    return found


@settings(max_examples=80, deadline=None)
@given(fine_rules(), starts)
def test_rules_by_the_hour_and_finer_are_what_their_periods_contain(rule: str, start: datetime) -> None:
    expected = periods(rule, start)
    last = start + timedelta(days=DAYS[rule.split(";", maxsplit=1)[0].removeprefix("FREQ=")])
    assert ours(rule, start, last) == [one for one in expected if one <= last][:MOST]


@settings(max_examples=50, deadline=None)
@given(coarse_rules() | fine_rules(), starts, st.integers(1, 10**9))
def test_asking_from_the_middle_gives_what_a_walk_gives(rule: str, start: datetime, seed: int) -> None:
    begin = start.replace(tzinfo=UTC)
    with contextlib.suppress(Rejected):
        timing = parse_timing({"rrule": rule, "start": begin, "timezone": "Europe/Berlin", "fold": "both"})
        walk = [one.at for one in islice(nominal_times(timing, begin - timedelta(seconds=1)), 40)]
        middle = seed % len(walk)
        assert [one.at for one in islice(nominal_times(timing, walk[middle]), 40 - middle - 1)] == walk[middle + 1 :]


def days(rule: str, count: int = 3, after: datetime | None = None) -> list[str]:
    timing = parse_timing({"rrule": rule})
    return [one.local[:16] for one in islice(nominal_times(timing, after or utc(2026, 11, 24)), count)]


def test_a_rule_without_a_start_counts_from_a_round_date() -> None:
    assert days("FREQ=DAILY", 2) == ["2026-11-25T00:00", "2026-11-26T00:00"]
    assert days("FREQ=WEEKLY", 2) == ["2026-11-30T00:00", "2026-12-07T00:00"]  # Mondays
    assert days("FREQ=MONTHLY", 2) == ["2026-12-01T00:00", "2027-01-01T00:00"]
    assert days("freq=yearly;", 2) == ["2027-01-01T00:00", "2028-01-01T00:00"]


def test_a_number_of_a_week_alone_means_the_weekday_of_its_start() -> None:
    assert days("DTSTART:20261124T090000\nRRULE:FREQ=YEARLY;BYWEEKNO=1", 2) == ["2027-01-05T09:00", "2028-01-04T09:00"]


@pytest.mark.parametrize("number", [1, 2, 51, 52, 53, -1, -2, -52, -53])
def test_weeks_are_numbered_as_iso_numbers_them(number: int) -> None:
    def matches(day: date) -> bool:
        year, week, _ = day.isocalendar()
        weeks = date(year, 12, 28).isocalendar().week
        return number in {week, week - weeks - 1}

    rule = f"FREQ=YEARLY;BYWEEKNO={number};BYDAY={','.join(WEEKDAYS)}"
    timing = parse_timing({"rrule": rule, "start": utc(2001, 1, 1)})
    found = [one.at.date() for one in nominal_times(timing, utc(2000, 1, 1), until=utc(2100, 12, 31))]
    every_day = [date(2001, 1, 1) + timedelta(days=index) for index in range(100 * 365 + 24)]
    assert found == [day for day in every_day if matches(day)]


def test_the_last_working_day_of_the_month() -> None:
    found = days("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;BYHOUR=17;BYMINUTE=30")
    assert found == ["2026-11-30T17:30", "2026-12-31T17:30", "2027-01-29T17:30"]


def test_count_and_until_end_a_rule() -> None:
    assert len(days("DTSTART:20261201T080000Z\nRRULE:FREQ=DAILY;COUNT=7", 100)) == 7
    assert days("DTSTART:20261201T080000Z\nRRULE:FREQ=DAILY;UNTIL=20261203T080000Z", 100)[-1] == "2026-12-03T08:00"
    assert days("DTSTART:20261201T080000Z\nRRULE:FREQ=DAILY;UNTIL=20261203T075959Z", 100)[-1] == "2026-12-02T08:00"
    assert days("DTSTART:20261201T080000\nRRULE:FREQ=DAILY;UNTIL=20261203", 100)[-1] == "2026-12-03T08:00"


def test_excluded_dates_are_left_out_and_count() -> None:
    head = "DTSTART;TZID=Europe/Berlin:20261201T080000\r\nRRULE:FREQ=DAILY;COUNT=4\r\nEXDATE"
    expected = ["2026-12-01T08:00", "2026-12-03T08:00", "2026-12-04T08:00"]
    for excluded in (";TZID=Europe/Berlin:20261202T080000", ":20261202T070000Z", ":20261202T080000", ":20261202"):
        assert days(head + excluded, 9) == expected
    assert days(head + ";TZID=America/New_York:20261202T020000", 9) == expected


def test_the_zone_of_dtstart_is_the_schedules() -> None:
    text = "DTSTART;TZID=America/New_York:20261201T080000\nRRULE:FREQ=DAILY"
    assert parse_timing({"rrule": text}).timezone == "America/New_York"
    with pytest.raises(Rejected, match="DTSTART is in America/New_York") as refused:
        parse_timing({"rrule": text, "timezone": "UTC"})
    assert refused.value.field == "timezone"


def test_an_old_start_costs_no_more_than_a_new_one() -> None:
    timing = parse_timing({"rrule": "DTSTART:20000101T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL=7"})
    nominal = next_time(timing, utc(2199, 6, 1))
    assert nominal is not None
    assert (nominal.at - utc(2000, 1, 1)) % timedelta(seconds=7) == timedelta(0)
    assert nominal.at - utc(2199, 6, 1) <= timedelta(seconds=7)


def test_a_rule_that_is_asked_in_vain_often_answers_as_at_first() -> None:
    timing = parse_timing({"rrule": "FREQ=HOURLY;INTERVAL=5;BYHOUR=3", "start": utc(2026, 1, 1)})
    first = next_time(timing, utc(2026, 6, 1))
    assert first is not None
    bound = bind(parse_rrule("FREQ=HOURLY;INTERVAL=5;BYHOUR=3").rules[0], zone("UTC"), int(utc(2026, 1, 1).timestamp()))
    hour = int(first.at.timestamp()) - 3600
    for _ in range(30_000):
        assert bound.next_local(hour, 0, hour + 1) is None
    assert bound.next_local(hour, 0, hour + 9999) == hour + 3600
    assert next_time(timing, utc(2026, 6, 1)) == first


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MINUTELY;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=SECONDLY;INTERVAL=2;BYSECOND=1,3,5",
        "FREQ=MINUTELY;INTERVAL=15;BYMINUTE=1,2,3",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=3",
        "FREQ=HOURLY;INTERVAL=168;BYDAY=TU",
        "FREQ=YEARLY;BYWEEKNO=1;BYMONTH=6;BYDAY=MO",
        "FREQ=MONTHLY;INTERVAL=12;BYMONTH=3",
        "FREQ=DAILY;BYHOUR=3;BYSETPOS=2",
    ],
)
def test_a_rule_that_never_comes_is_told_at_once(rule: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_timing({"rrule": rule, "start": utc(2001, 1, 1)})
    assert (refused.value.field, refused.value.code) == ("rrule", "never")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "there is no RRULE"),
        ("FREQ=FORTNIGHTLY", "FREQ=FORTNIGHTLY is none of YEARLY"),
        ("INTERVAL=2", "FREQ is missing"),
        ("FREQ=DAILY;FREQ=DAILY", "FREQ stands twice"),
        ("FREQ=DAILY;BYHOUR", "position 12: 'BYHOUR' is not of the form NAME=VALUE"),
        ("FREQ=DAILY;BYHOUR=", "position 12: 'BYHOUR=' is not of the form NAME=VALUE"),
        ("FREQ=DAILY;;BYHOUR=1", "position 12: '' is not of the form NAME=VALUE"),
        ("FREQ=DAILY;BYEASTER=1", "position 12: 'BYEASTER' is not known"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR: 24 is not between 0 and 23"),
        ("FREQ=DAILY;BYHOUR=1,,2", "BYHOUR: '' is not a number"),
        ("FREQ=DAILY;BYSECOND=60", "BYSECOND: 60 is not between 0 and 59"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY: 0 is not between 1 and 31, or from the end"),
        ("FREQ=MONTHLY;BYDAY=6XX", "BYDAY: '6XX' is not a weekday"),
        ("FREQ=YEARLY;BYDAY=54MO", "BYDAY: 54 is not between 1 and 53"),
        ("FREQ=WEEKLY;BYDAY=2MO", "BYDAY with a number cannot stand with FREQ=WEEKLY"),
        ("FREQ=YEARLY;BYWEEKNO=3;BYDAY=2MO", "BYDAY with a number cannot stand with BYWEEKNO"),
        ("FREQ=MONTHLY;BYWEEKNO=3", "BYWEEKNO cannot stand with FREQ=MONTHLY"),
        ("FREQ=MONTHLY;BYYEARDAY=3", "BYYEARDAY cannot stand with FREQ=MONTHLY"),
        ("FREQ=WEEKLY;BYMONTHDAY=3", "BYMONTHDAY cannot stand with FREQ=WEEKLY"),
        ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS needs another BY"),
        ("FREQ=DAILY;WKST=XX", "WKST: 'XX' is none of"),
        ("FREQ=DAILY;COUNT=3;UNTIL=20270101", "COUNT and UNTIL exclude each other"),
        ("FREQ=DAILY;COUNT=0", f"COUNT: 0 is not between 1 and {RRULE_COUNT_MAXIMUM}"),
        (f"FREQ=DAILY;COUNT={RRULE_COUNT_MAXIMUM + 1}", "COUNT: "),
        (f"FREQ=DAILY;INTERVAL={RRULE_INTERVAL_MAXIMUM + 1}", "INTERVAL: "),
        ("FREQ=DAILY;INTERVAL=99999999999999999999", "INTERVAL: '99999999999999999999' is not a number"),
        ("FREQ=DAILY;INTERVAL=\u0661", "INTERVAL: '\u0661' is not a number"),
        ("FREQ=DAILY;UNTIL=20270230", "'20270230' is no possible date"),
        ("FREQ=DAILY;UNTIL=2027-01-01", "'2027-01-01' is no date"),
        ("DTSTART:20270101\nDTSTART:20270102\nRRULE:FREQ=DAILY", "line 2: a second DTSTART"),
        ("RRULE:FREQ=DAILY\nRRULE:FREQ=DALY", "line 2: FREQ=DALY is none of YEARLY"),
        ("RRULE:FREQ=DAILY\nDTEND:20270101", "line 2: 'DTEND' is none of DTSTART, RRULE, EXRULE, RDATE, EXDATE"),
        ("DTSTART;TZID=Mars/Olympus:20270101T000000\nRRULE:FREQ=DAILY", "line 1: 'Mars/Olympus' is no time zone"),
        ("DTSTART;TZID=UTC:20270101T000000Z\nRRULE:FREQ=DAILY", "line 1: '20270101T000000Z' cannot have a TZID"),
        ("DTSTART;VALUE=DATE:20270101T000000\nRRULE:FREQ=DAILY", "line 1: '20270101T000000' is not a DATE"),
        ("DTSTART;X:20270101T000000\nRRULE:FREQ=DAILY", "line 1: the parameter 'X' cannot be read"),
        ("DTSTART:18990101T000000\nRRULE:FREQ=DAILY", "line 1: the year 1899 is not between"),
        ("FREQ=DAILY\x00", "FREQ=DAILY\x00 is none of"),
    ],
)
def test_a_bad_rule_is_refused_with_place_and_reason(rule: str, message: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_rrule(rule)
    assert refused.value.field == "rrule"
    assert refused.value.message.startswith(message)


def test_lengths_and_numbers_are_limited() -> None:
    parse_rrule("FREQ=DAILY" + "\n" * (RRULE_TEXT_MAXIMUM - 10))
    with pytest.raises(Rejected, match="longer than"):
        parse_rrule("FREQ=DAILY" + "\n" * (RRULE_TEXT_MAXIMUM - 9))
    dates = [f"{20270101 + index % 28}" for index in range(EXDATES_MAXIMUM + 1)]
    parse_rrule("RRULE:FREQ=DAILY\nEXDATE:" + ",".join(dates[:-1]))
    with pytest.raises(Rejected, match="EXDATEs"):
        parse_rrule("RRULE:FREQ=DAILY\nEXDATE:" + ",".join(dates))
    parse_rrule(f"FREQ=DAILY;COUNT={RRULE_COUNT_MAXIMUM};INTERVAL={RRULE_INTERVAL_MAXIMUM}")
    with pytest.raises(Rejected, match="is a string"):
        parse_rrule(5)


@settings(max_examples=300)
@given(st.text(alphabet="FREQ=DAILYBYHOUR0123456789;:,+-TZMO\n", max_size=60) | st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    for prefix in ("", "FREQ=DAILY;", "DTSTART:20270101\nRRULE:FREQ=MONTHLY;"):
        with contextlib.suppress(Rejected):
            assert parse_rrule(prefix + text).text
