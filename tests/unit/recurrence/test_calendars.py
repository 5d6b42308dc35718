from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from dateutil import rrule as dateutil_rrule
from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.calendars import parse_calendar
from rota_server.domain.recurrence.limits import (
    CALENDAR_COUNT_MAXIMUM,
    CALENDAR_DATES_MAXIMUM,
    CALENDAR_EVENTS_MAXIMUM,
    CALENDAR_INTERVALS_MAXIMUM,
    CALENDAR_RECURRING_MAXIMUM,
    CALENDAR_WINDOWS_MAXIMUM,
    ICALENDAR_TEXT_MAXIMUM,
)
from rota_server.domain.recurrence.spans import Span, Spans
from rota_server.domain.recurrence.times import nominal_times
from rota_server.domain.recurrence.timing import parse_timing
from rota_server.domain.recurrence.zones import zone
from tests.unit.recurrence.specification import utc

BERLIN = "Europe/Berlin"


def excluded(spec: dict[str, Any], *instants: datetime, timezone: str = BERLIN) -> list[bool]:
    calendar = parse_calendar(spec)
    return [calendar.excludes(instant, timezone) for instant in instants]


def events(*lines: str) -> dict[str, Any]:
    """A calendar of one event, as other programs write it."""
    text = ["BEGIN:VCALENDAR", "VERSION:2.0", "BEGIN:VEVENT", "UID:1", *lines, "END:VEVENT", "END:VCALENDAR", ""]
    return {"icalendar": "\r\n".join(text)}


def local(*parts: int, timezone: str = BERLIN) -> datetime:
    return datetime(*parts, tzinfo=zone(timezone).info)


def test_a_date_is_a_day_on_the_schedules_clock() -> None:
    spec = {"dates": ["2026-12-25"]}
    days = [local(2026, 12, 24, 23, 59), local(2026, 12, 25), local(2026, 12, 25, 23, 59), local(2026, 12, 26)]
    assert excluded(spec, *days) == [False, True, True, False]
    assert excluded(spec, utc(2026, 12, 24, 23), timezone=BERLIN) == [True]
    assert excluded(spec, utc(2026, 12, 24, 23), timezone="UTC") == [False]


def test_a_weekly_window_ends_before_its_end_and_may_run_over_midnight() -> None:
    weekend = {"weekly": [{"days": ["sat", "SUN"]}]}
    saturday = local(2026, 11, 28)
    hours = [timedelta(minutes=-1), timedelta(0), timedelta(hours=47, minutes=59), timedelta(hours=48)]
    assert excluded(weekend, *(saturday + hour for hour in hours)) == [False, True, True, False]
    night = {"weekly": [{"days": ["sun"], "from": "22:00", "to": "06:00"}]}
    sunday = local(2026, 11, 29)
    hours = [timedelta(hours=hour) for hour in (5, 21.99, 22, 29.99, 30)]
    assert excluded(night, *(sunday + hour for hour in hours)) == [False, False, True, True, False]


def test_a_window_is_on_the_wall_clock_across_daylight_saving() -> None:
    spec = {"weekly": [{"days": ["sun"], "from": "02:00", "to": "04:00"}]}
    assert excluded(spec, utc(2027, 3, 28, 0, 59), utc(2027, 3, 28, 1), utc(2027, 3, 28, 2)) == [False, True, False]
    hours = [utc(2027, 10, 30, 23, 59), utc(2027, 10, 31, 0), utc(2027, 10, 31, 1), utc(2027, 10, 31, 3)]
    assert excluded(spec, *hours) == [False, True, True, False]


def test_an_interval_is_absolute() -> None:
    spec = {"intervals": [{"from": "2026-12-01T00:00:00Z", "to": "2026-12-02T00:00:00+01:00"}]}
    instants = [utc(2026, 11, 30, 23, 59), utc(2026, 12, 1), utc(2026, 12, 1, 22, 59), utc(2026, 12, 1, 23)]
    assert excluded(spec, *instants) == [False, True, True, False]


def test_an_event_of_a_whole_day_is_on_the_schedules_clock() -> None:
    spec = events("SUMMARY:Christmas\\, the first", "DTSTART;VALUE=DATE:20261225", "TRANSP:TRANSPARENT")
    assert excluded(spec, local(2026, 12, 24, 23, 59), local(2026, 12, 25), local(2026, 12, 26)) == [False, True, False]
    found = parse_calendar({"name": "holidays", **spec}).reason(1798182000_000_000, zone(BERLIN))
    assert found == "calendar holidays: Christmas, the first"
    days = events("DTSTART;VALUE=DATE:20261224", "DTEND;VALUE=DATE:20261227")
    assert excluded(days, *(local(2026, 12, day, 12) for day in (23, 24, 26, 27))) == [False, True, True, False]


def test_an_event_with_a_time_is_in_its_own_zone() -> None:
    spec = events("DTSTART;TZID=America/New_York:20261201T090000", "DTEND;TZID=America/New_York:20261201T103000")
    assert excluded(spec, *(utc(2026, 12, 1, 14) + timedelta(minutes=m) for m in (-1, 0, 89, 90))) == [
        False,
        True,
        True,
        False,
    ]
    spec = events("DTSTART:20261201T140000Z", "DURATION:PT1H30M")
    assert excluded(spec, *(utc(2026, 12, 1, 14) + timedelta(minutes=m) for m in (-1, 0, 89, 90))) == [
        False,
        True,
        True,
        False,
    ]
    spec = events("DTSTART:20261201T140000", "DURATION:P1D")
    assert excluded(spec, local(2026, 12, 1, 14), local(2026, 12, 2, 13, 59), local(2026, 12, 2, 14)) == [
        True,
        True,
        False,
    ]


def test_a_recurring_event_leaves_out_its_exceptions() -> None:
    spec = events(
        "DTSTART;TZID=Europe/Berlin:20261201T080000",
        "DTEND;TZID=Europe/Berlin:20261201T090000",
        "RRULE:FREQ=DAILY;COUNT=5",
        "EXDATE;TZID=Europe/Berlin:20261203T080000",
        "RDATE;TZID=Europe/Berlin:20261210T080000",
    )
    found = excluded(spec, *(local(2026, 12, day, 8, 30) for day in range(1, 12)))
    assert [day for day, inside in enumerate(found, start=1) if inside] == [1, 2, 4, 5, 10]


def test_a_moved_occurrence_is_where_it_was_moved_to_and_a_cancelled_one_nowhere() -> None:
    text = events("DTSTART:20261201T080000Z", "DTEND:20261201T090000Z", "RRULE:FREQ=DAILY")["icalendar"]
    moved = ["UID:1", "RECURRENCE-ID:20261202T080000Z", "DTSTART:20261202T120000Z", "DTEND:20261202T130000Z"]
    cancelled = ["UID:1", "RECURRENCE-ID:20261203T080000Z", "DTSTART:20261203T080000Z", "STATUS:CANCELLED"]
    more = "".join("\r\n".join(["BEGIN:VEVENT", *lines, "END:VEVENT", ""]) for lines in (moved, cancelled))
    spec = {"icalendar": text.replace("END:VCALENDAR", more + "END:VCALENDAR")}
    hours = [utc(2026, 12, 2, 8, 30), utc(2026, 12, 2, 12, 30), utc(2026, 12, 3, 8, 30), utc(2026, 12, 4, 8, 30)]
    assert excluded(spec, *hours) == [False, True, False, True]


def test_a_yearly_event_of_the_last_century_still_counts() -> None:
    spec = events("DTSTART;VALUE=DATE:19701003", "RRULE:FREQ=YEARLY", "SUMMARY:Unity")
    assert excluded(spec, local(2026, 10, 3, 12), local(2199, 10, 3), local(2026, 10, 4)) == [True, True, False]


def test_what_the_file_says_beside_events_is_passed_over() -> None:
    lines = [
        "BEGIN:VCALENDAR", "PRODID:-//A//B//EN", "X-WR-TIMEZONE:Europe/Berlin", "BEGIN:VTIMEZONE", "TZID:Europe/Berlin",
        "BEGIN:STANDARD", "DTSTART:19701025T030000", "TZOFFSETFROM:+0200", "TZOFFSETTO:+0100",
        "RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU", "END:STANDARD", "END:VTIMEZONE", "BEGIN:VEVENT",
        'ATTENDEE;CN="A; B: C":mailto:a@example.org', "DESCRIPTION:a", "  folded: line",
        "DTSTART;VALUE=DA", " TE:20261225",
        "BEGIN:VALARM", "TRIGGER:-PT15M", "DURATION:PT5M", "END:VALARM", "END:VEVENT", "BEGIN:VTODO",
        "DTSTART;VALUE=DATE:20270101", "END:VTODO", "END:VCALENDAR",
    ]  # fmt: skip
    for end in ("\r\n", "\n"):
        spec = {"icalendar": end.join(lines)}
        assert excluded(spec, local(2026, 12, 25, 12), local(2027, 1, 1, 12), local(2026, 12, 26)) == [
            True,
            False,
            False,
        ]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["FREQ=WEEKLY;BYDAY=MO,WE", "FREQ=MONTHLY;BYDAY=-1FR", "FREQ=DAILY;INTERVAL=3", "FREQ=YEARLY;COUNT=2"]
    ),
    st.datetimes(datetime(2025, 1, 1), datetime(2026, 1, 1)).map(lambda at: at.replace(microsecond=0, fold=0)),  # noqa: DTZ001
    st.integers(1, 200_000),
    st.lists(st.integers(0, 3600 * 24 * 500), min_size=20, max_size=20),
)
def test_an_instant_is_in_an_event_when_it_is_in_one_of_its_occurrences(
    rule: str, start: datetime, seconds: int, offsets: list[int]
) -> None:
    spec = events(f"DTSTART:{start:%Y%m%dT%H%M%S}Z", f"DURATION:PT{seconds}S", f"RRULE:{rule}")
    starts = list(dateutil_rrule.rrulestr(rule, dtstart=start).between(start, start + timedelta(days=510), inc=True))
    calendar = parse_calendar(spec)
    for offset in offsets:
        at = start + timedelta(seconds=offset)
        inside = any(one <= at < one + timedelta(seconds=seconds) for one in {start, *starts})
        assert calendar.excludes(at.replace(tzinfo=zone("UTC").info), BERLIN) == inside


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=20),
    st.integers(-5, 140),
)
def test_a_moment_is_in_spans_when_it_is_in_one(ranges: list[tuple[int, int]], moment: int) -> None:
    spans = Spans(Span(start, start + length, "x") for start, length in ranges)
    inside = any(start <= moment < start + length for start, length in ranges)
    assert spans.find(moment) == ("x" if inside else None)


def test_a_schedule_skips_holidays_and_weekends_of_a_calendar() -> None:
    calendar = parse_calendar(
        {
            "name": "work",
            "weekly": [{"days": ["sat", "sun"]}],
            **events("DTSTART;VALUE=DATE:20261225", "SUMMARY:Christmas"),
        }
    )
    timing = parse_timing({"cron": "0 9 * * *", "timezone": BERLIN}, [calendar])
    found = [(one.local[8:10], one.note) for one in islice(nominal_times(timing, utc(2026, 12, 23)), 6)]
    assert found == [
        ("23", None), ("24", None), ("25", "calendar work: Christmas"), ("26", "calendar work: weekly window"),
        ("27", "calendar work: weekly window"), ("28", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"days": []}, "days"),
        ({"name": 5}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"name": "a" * 201}, "name"),
        ({"dates": "2026-12-25"}, "dates"),
        ({"dates": ["2026-12-25", "2026-02-30"]}, "dates.1"),
        ({"dates": ["20261225"]}, "dates.0"),
        ({"dates": ["1999-12-31"]}, "dates.0"),
        ({"dates": ["2026-12-25"] * (CALENDAR_DATES_MAXIMUM + 1)}, "dates"),
        ({"weekly": [{}]}, "weekly.0.days"),
        ({"weekly": [{"days": []}]}, "weekly.0.days"),
        ({"weekly": [{"days": ["mon"] * 8}]}, "weekly.0.days"),
        ({"weekly": [{"days": ["mon", "day"]}]}, "weekly.0.days.1"),
        ({"weekly": [{"days": ["mon"], "from": "24:00"}]}, "weekly.0.from"),
        ({"weekly": [{"days": ["mon"], "from": "9:00"}]}, "weekly.0.from"),
        ({"weekly": [{"days": ["mon"], "to": "24:01"}]}, "weekly.0.to"),
        ({"weekly": [{"days": ["mon"], "to": None}]}, "weekly.0.to"),
        ({"weekly": [{"days": ["mon"], "until": "10:00"}]}, "weekly.0.until"),
        ({"weekly": ["mon"]}, "weekly.0"),
        ({"weekly": [{"days": ["mon"]}] * (CALENDAR_WINDOWS_MAXIMUM + 1)}, "weekly"),
        ({"intervals": [{"from": "2026-12-01T00:00:00Z"}]}, "intervals.0.to"),
        ({"intervals": [{"from": "2026-12-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}]}, "intervals.0.to"),
        ({"intervals": [{"from": "2026-12-01", "to": "2026-12-01T00:00:00Z"}]}, "intervals.0.from"),
        ({"intervals": [None] * (CALENDAR_INTERVALS_MAXIMUM + 1)}, "intervals"),
        ({"icalendar": 5}, "icalendar"),
        ({"icalendar": "x" * (ICALENDAR_TEXT_MAXIMUM + 1)}, "icalendar"),
    ],
)
def test_what_is_wrong_is_named(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_calendar(spec)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file ends before END:VCALENDAR"),
        ("BEGIN:VCALENDAR", "the file ends before END:VCALENDAR"),
        ("hello", "line 1: 'hello' is not of the form NAME:VALUE"),
        ("VERSION:2.0", "line 1: this is no iCalendar file"),
        ("BEGIN:VEVENT", "line 1: BEGIN:VCALENDAR must come first"),
        ("BEGIN:VCALENDAR\nEND:VEVENT", "line 2: END:VEVENT where END:VCALENDAR must stand"),
        ("BEGIN:VCALENDAR\nBEGIN:VTODO\nBEGIN:VEVENT", "line 3: an event must stand directly in VCALENDAR"),
        ("BEGIN:VCALENDAR\nBEGIN:A\nBEGIN:B\nBEGIN:C\nBEGIN:D", "line 5: components nest deeper than 4"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_line(text: str, message: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_calendar({"icalendar": text})
    assert refused.value.field == "icalendar"
    assert refused.value.message.startswith(message)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["SUMMARY:x"], "line 3: the event has no DTSTART"),
        (["DTSTART:20270101"], None),
        (["DTSTART:20270230"], "line 5: '20270230' is no possible date"),
        (["DTSTART;VALUE=DATE:20270101", "DTEND:20270102T000000"], "line 3: DTSTART and DTEND must both be dates"),
        (["DTSTART;VALUE=DATE:20270102", "DTEND;VALUE=DATE:20270101"], "line 3: the event ends before it begins"),
        (["DTSTART;VALUE=DATE:20270102", "DTEND;VALUE=DATE:20280104"], "line 3: the event is longer than 366 days"),
        (["DTSTART:20270102T000000Z", "DURATION:1 hour"], "line 6: '1 hour' is no duration"),
        (["DTSTART:20270102T000000Z", "DURATION:-PT1H"], "line 3: the event ends before it begins"),
        (["DTSTART:20270102T000000Z", "RRULE:FREQ=HOURLY"], "line 6: an event recurs daily or more rarely"),
        (["DTSTART:20270102T000000Z", "RRULE:FREQ=NEVER"], "line 6: FREQ=NEVER is none of"),
        (["DTSTART:20270102T000000Z", "DTSTART:20270102T000000Z"], "line 6: a second DTSTART"),
        (["DTSTART:20270102T000000Z", "hello"], "line 6: 'hello' is not of the form NAME:VALUE"),
        (["DTSTART:20270102T000000Z", "RRULE:FREQ=DAILY;RSCALE=HEBREW"], "line 6: RSCALE is GREGORIAN"),
        (["DTSTART:20270102T000000Z", "RRULE:FREQ=DAILY;SKIP=BACKWARD"], "line 6: SKIP=BACKWARD is not understood"),
        (["RECURRENCE-ID;RANGE=THISANDPRIOR:20270102", "DTSTART:20270102"], "line 5: RANGE=THISANDPRIOR is not"),
        (["DTSTART;TZID=Nowhere/Land:20270102T000000"], "line 5: 'Nowhere/Land' is no time zone"),
        (["DTSTART;TZID=europe/berlim:20270102T000000"], "line 5: 'europe/berlim' is no time zone"),
        (["DTSTART:20270102T000000Z", "EXDATE:" + ",".join(["20270102"] * 1001)], "line 6: more than 1000 dates"),
    ],
)
def test_a_bad_event_is_refused_with_the_line(lines: list[str], message: str | None) -> None:
    if message is None:
        parse_calendar(events(*lines))
        return
    with pytest.raises(Rejected) as refused:
        parse_calendar(events(*lines))
    assert refused.value.field == "icalendar"
    assert refused.value.message.startswith(message)


def test_the_number_of_events_is_limited() -> None:
    def file(count: int, *lines: str) -> dict[str, str]:
        event = "\n".join(["BEGIN:VEVENT", "DTSTART:20270101", *lines, "END:VEVENT"])
        return {"icalendar": "\n".join(["BEGIN:VCALENDAR", *[event] * count, "END:VCALENDAR"])}

    parse_calendar(file(CALENDAR_EVENTS_MAXIMUM))
    with pytest.raises(Rejected, match="more than"):
        parse_calendar(file(CALENDAR_EVENTS_MAXIMUM + 1))
    parse_calendar(file(CALENDAR_RECURRING_MAXIMUM, "RRULE:FREQ=DAILY"))
    with pytest.raises(Rejected, match="events with a rule"):
        parse_calendar(file(CALENDAR_RECURRING_MAXIMUM + 1, "RRULE:FREQ=DAILY"))
    half = f"RRULE:FREQ=DAILY;COUNT={CALENDAR_COUNT_MAXIMUM // 2}"
    parse_calendar(file(2, half))
    with pytest.raises(Rejected, match="all COUNTs together"):
        parse_calendar(file(3, half))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["DTSTART:", "DTEND:", "RRULE:", "BEGIN:", "END:", "20270101", "T09", "Z", "VEVENT", "\n", ";", '"', " "]
        ),
        max_size=30,
    )
)
def test_no_text_does_anything_but_parse_or_be_refused(parts: list[str]) -> None:
    with contextlib.suppress(Rejected):
        parse_calendar(events("".join(parts)))
