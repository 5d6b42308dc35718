"""Calendar files as published: whatever changes when an event is, is honoured, refused with its line, or told."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tzlocal.windows_tz import win_tz

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.calendars import Calendar, parse_calendar
from rota_server.domain.recurrence.icalendar_lines import Component, Line, read_components
from rota_server.domain.recurrence.icalendar_zones import Zones
from rota_server.domain.recurrence.instants import parse_instant
from rota_server.domain.recurrence.rrule_text import Reader
from rota_server.domain.recurrence.times import nominal_times
from rota_server.domain.recurrence.timing import parse_timing
from rota_server.domain.recurrence.windows_zones import WINDOWS_ZONES
from rota_server.domain.recurrence.zones import zone, zone_names
from tests.unit.recurrence.specification import transitions, utc

CASES = Path(__file__).parents[2] / "cases"
BERLIN = "Europe/Berlin"
NOON = "0 12 * * *"
WEEKDAY_ZONE = """\
BEGIN:VTIMEZONE
TZID:{name}
BEGIN:STANDARD
DTSTART:16010101T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
END:VTIMEZONE"""


def file(*events: str, before: str = "") -> str:
    """A file of events, each given by its lines."""
    bodies = (f"BEGIN:VEVENT\n{lines}\nEND:VEVENT" for lines in events)
    return "\n".join(part for part in ("BEGIN:VCALENDAR\nVERSION:2.0", before, *bodies, "END:VCALENDAR\n") if part)


def taken_out(calendar: Calendar, first: str, count: int, timezone: str = BERLIN, cron: str = NOON) -> list[str]:
    """The local days, of `count` from `first` on, at whose noon the calendar says that something is going on."""
    timing = parse_timing({"cron": cron, "timezone": timezone}, [calendar])
    after = datetime.combine(date.fromisoformat(first), datetime.min.time(), zone(timezone).info)
    shown = islice(nominal_times(timing, after - timedelta(seconds=1)), count)
    return [one.local[:10] for one in shown if one.reason == "calendar"]


def days(text: str, first: str = "2027-02-14", count: int = 10, **others: Any) -> list[int]:
    """The days of the month on which the file takes noon out."""
    return [int(day[8:]) for day in taken_out(parse_calendar({"icalendar": text}), first, count, **others)]


@pytest.mark.parametrize("line", (CASES / "calendars.jsonl").read_text(encoding="utf-8").splitlines())
def test_a_file_that_people_met_takes_out_what_it_must(line: str) -> None:
    case = json.loads(line)
    text = (CASES / case["file"]).read_bytes().decode()
    calendar = parse_calendar({"icalendar": text, "skip_invalid": case["file"] == "one-bad-event.ics"})
    timing = parse_timing({"cron": case["cron"], "timezone": case["timezone"]}, [calendar])
    shown = islice(nominal_times(timing, parse_instant(case["after"], "after")), case["count"])
    assert [one.local[:10] for one in shown if one.reason == "calendar"] == case["skipped"]


def test_a_bad_event_is_refused_with_its_line_or_skipped_and_told() -> None:
    text = (CASES / "one-bad-event.ics").read_text(encoding="utf-8")
    with pytest.raises(Rejected, match=r"line 13: 'Nowhere/Land' is no time zone.*skip_invalid"):
        parse_calendar({"icalendar": text})
    (skipped,) = parse_calendar({"icalendar": text, "skip_invalid": True}).events.skipped
    assert (skipped.line, skipped.event) == (13, "bad@cases.test")
    assert skipped.text.startswith("'Nowhere/Land' is no time zone")
    bad = ["DTSTART:20270230", "SUMMARY:x", "DTSTART:20270215\nDTEND:20270214", "DTSTART:20270215\nRRULE:FREQ=NEVER"]
    odd = parse_calendar({"icalendar": file(*bad, "DTSTART:20270217"), "skip_invalid": True})
    assert [told.line for told in odd.events.skipped] == [4, 6, 9, 15]
    assert taken_out(odd, "2027-02-14", 5) == ["2027-02-17"]
    with pytest.raises(Rejected, match="events with a rule"):
        parse_calendar({"icalendar": file(*["DTSTART:20270215\nRRULE:FREQ=DAILY"] * 201), "skip_invalid": True})
    with pytest.raises(Rejected, match="the file ends before"):
        parse_calendar({"icalendar": "BEGIN:VCALENDAR\nBEGIN:VEVENT", "skip_invalid": True})
    with pytest.raises(Rejected, match="true or false"):
        parse_calendar({"icalendar": text, "skip_invalid": "yes"})


@pytest.mark.parametrize(
    ("written", "timezone", "left"),
    [
        ("EXDATE;TZID=Europe/Berlin:20270216T000000", BERLIN, [15, 17, 18]),
        ("EXDATE;TZID=W. Europe Standard Time:20270216T000000", "Asia/Tokyo", [15, 17, 18]),
        ("EXDATE:20270215T230000Z", BERLIN, [15, 17, 18]),
        ("EXDATE:20270216T050000Z", "America/New_York", [15, 17, 18]),
        ("EXDATE:20270215T150000Z", "Asia/Tokyo", [15, 17, 18]),
        ("EXDATE:20270216T000000Z", "America/New_York", [15, 17, 18]),
        ("EXDATE:20270216T000000Z", "Asia/Tokyo", [15, 17, 18]),
        ("EXDATE:20270216T000000,20270217T120000", BERLIN, [15, 18]),
        ("EXDATE;VALUE=DATE:20270215,20270218", BERLIN, [16, 17]),
        ("EXDATE:20270214T230000Z", BERLIN, [16, 17, 18]),
        ("EXDATE:", BERLIN, [15, 16, 17, 18]),
        ("EXRULE:FREQ=DAILY;INTERVAL=2", BERLIN, [16, 18]),
        ("EXRULE:FREQ=DAILY;UNTIL=20270215T230000Z", BERLIN, [17, 18]),
    ],
)
def test_an_exception_to_a_series_of_whole_days_is_its_date(written: str, timezone: str, left: list[int]) -> None:
    text = file(f"DTSTART;VALUE=DATE:20270215\nRRULE:FREQ=DAILY;UNTIL=20270218\n{written}")
    assert days(text, timezone=timezone) == left


def test_an_exception_in_utc_is_a_date_in_the_zone_of_the_file() -> None:
    text = file(
        "DTSTART;VALUE=DATE:20270215\nRRULE:FREQ=DAILY;UNTIL=20270217T150000Z\nEXDATE:20270215T150000Z",
        before="X-WR-TIMEZONE:Asia/Tokyo",
    )
    assert days(text) == [15, 17, 18]


@pytest.mark.parametrize(
    ("until", "timezone", "last"),
    [
        ("20270217T230000Z", BERLIN, 18),
        ("20270218T000000Z", BERLIN, 18),
        ("20270218T000000Z", "America/New_York", 18),
        ("20270218T235959Z", BERLIN, 18),
        ("20270218T050000Z", "America/New_York", 18),
        ("20270217T150000Z", "Asia/Tokyo", 18),
        ("20270217T145959Z", "Asia/Tokyo", 17),
        ("20270218T120000", BERLIN, 18),
        ("20270218", BERLIN, 18),
        ("99991231T235959Z", BERLIN, 23),
    ],
)
def test_the_last_day_of_a_series_of_whole_days_counts(until: str, timezone: str, last: int) -> None:
    text = file(f"DTSTART;VALUE=DATE:20270215\nRRULE:FREQ=DAILY;UNTIL={until}")
    assert days(text, timezone=timezone) == list(range(15, last + 1))


def test_an_occurrence_is_moved_or_cancelled_however_its_time_is_written() -> None:
    series = "UID:1\nDTSTART;VALUE=DATE:20270215\nRRULE:FREQ=DAILY;COUNT=3"
    for written in (";VALUE=DATE:20270216", ";TZID=Europe/Berlin:20270216T000000", ":20270215T230000Z"):
        assert days(file(series, f"UID:1\nRECURRENCE-ID{written}\nDTSTART;VALUE=DATE:20270220")) == [15, 17, 20]
        assert days(file(series, f"UID:1\nRECURRENCE-ID{written}\nSTATUS:CANCELLED")) == [15, 17]
    timed = "UID:1\nDTSTART;TZID=Europe/Berlin:20270215T113000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3"
    for written in (";TZID=Europe/Berlin:20270216T113000", ":20270216T103000Z", ":20270216T113000"):
        moved = f"UID:1\nRECURRENCE-ID{written}\nDTSTART:20270220T103000Z\nDURATION:PT1H"
        assert days(file(timed, moved)) == [15, 17, 20]


def test_of_two_texts_of_one_event_the_later_one_counts() -> None:
    one = "UID:1@example.org\nDTSTART;VALUE=DATE:20270215\nDTSTAMP:20260101T000000Z"
    for other in (
        "UID:1@example.org\nSEQUENCE:1\nDTSTART;VALUE=DATE:20270218\nDTSTAMP:20251231T000000Z",
        "UID:1@example.org\nSEQUENCE:0\nDTSTART;VALUE=DATE:20270218\nDTSTAMP:20260102T000000Z",
        "UID:1@example.org\nDTSTART;VALUE=DATE:20270218\nDTSTAMP:20260101T000000Z\nLAST-MODIFIED:20260103T000000Z",
    ):
        for text in (file(one, other), file(other, one)):
            assert days(text) == [18]
            (told,) = parse_calendar({"icalendar": text}).events.warnings
            assert "a later text of this event" in told.text
    cancelled = "UID:1@example.org\nSEQUENCE:2\nSTATUS:CANCELLED\nDTSTART;VALUE=DATE:20270215"
    assert days(file(one, cancelled)) == days(file(cancelled, one)) == []
    series = "UID:2\nDTSTART;TZID=Europe/Berlin:20270215T113000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3"
    moved = "UID:2\nRECURRENCE-ID:20270216T103000Z\nSEQUENCE:1\nDTSTART:20270220T103000Z\nDURATION:PT1H"
    gone = "UID:2\nRECURRENCE-ID;TZID=Europe/Berlin:20270216T113000\nSEQUENCE:3\nSTATUS:CANCELLED"
    assert days(file(series, moved, gone)) == days(file(gone, series, moved)) == [15, 17]
    assert days(file(gone.replace("SEQUENCE:3", "SEQUENCE:0"), series, moved)) == [15, 17, 20]


def test_events_of_one_uid_and_the_same_age_all_count() -> None:
    same = [f"UID:holiday\nDTSTAMP:20260101T000000Z\nDTSTART;VALUE=DATE:202702{day}" for day in (15, 18)]
    assert days(file(*same)) == [15, 18]
    assert days(file(*(text.replace("UID:holiday\n", "") for text in same))) == [15, 18]


def test_what_is_no_sequence_or_time_is_passed_over_and_told() -> None:
    text = file("UID:1\nSEQUENCE:next\nDTSTAMP:yesterday\nDTSTART;VALUE=DATE:20270215")
    assert days(text) == [15]
    warnings = parse_calendar({"icalendar": text}).events.warnings
    assert [told.line for told in warnings] == [5, 6]


def test_a_change_of_this_and_all_later_occurrences_moves_them_all() -> None:
    series = "UID:1\nDTSTART;TZID=Europe/Berlin:20270201T113000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=6"
    first = "UID:1\nRECURRENCE-ID;RANGE=THISANDFUTURE;TZID=Europe/Berlin:20270215T113000\n"
    later = "UID:1\nRECURRENCE-ID;RANGE=THISANDFUTURE:20270301T103000Z\n"
    moved = f"{first}DTSTART;TZID=Europe/Berlin:20270216T113000\nDURATION:PT1H"

    def found(*others: str) -> list[str]:
        return [day[5:] for day in taken_out(parse_calendar({"icalendar": file(series, *others)}), "2027-01-31", 50)]

    assert found(moved) == ["02-01", "02-08", "02-16", "02-23", "03-02", "03-09"]
    assert found(f"{first}STATUS:CANCELLED") == ["02-01", "02-08"]
    again = f"{later}DTSTART:20270303T103000Z\nDURATION:PT1H"
    assert found(moved, again) == ["02-01", "02-08", "02-16", "02-23", "03-03", "03-10"]
    assert found(again, moved) == found(moved, again)
    one = "UID:1\nRECURRENCE-ID;TZID=Europe/Berlin:20270222T113000\nDTSTART:20270225T103000Z\nDURATION:PT1H"
    assert found(moved, one) == ["02-01", "02-08", "02-16", "02-25", "03-02", "03-09"]
    longer = f"{first}DTSTART;TZID=Europe/Berlin:20270215T113000\nDURATION:P1DT1H"
    assert found(longer)[:5] == ["02-01", "02-08", "02-15", "02-16", "02-22"]
    for wrong in (
        "DTSTART;VALUE=DATE:20270216",
        "DTSTART:20270216T113000",
        "DTSTART:20270216T103000Z\nRRULE:FREQ=DAILY",
    ):
        with pytest.raises(Rejected, match="line "):
            found(first + wrong)


def test_whole_days_move_and_daylight_saving_keeps_the_wall_clock() -> None:
    series = "UID:1\nDTSTART;VALUE=DATE:20270215\nRRULE:FREQ=DAILY;COUNT=4"
    moved = "UID:1\nRECURRENCE-ID;RANGE=THISANDFUTURE;VALUE=DATE:20270217\nDTSTART;VALUE=DATE:20270220"
    assert days(file(series, moved)) == [15, 16, 20, 21]
    weekly = "UID:1\nDTSTART;TZID=Europe/Berlin:20270315T113000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=4"
    moved = "UID:1\nRECURRENCE-ID;RANGE=THISANDFUTURE:20270322T103000Z\nDTSTART:20270323T103000Z\nDURATION:PT1H"
    assert days(file(weekly, moved), "2027-03-14", 30) == [15, 23, 30, 6]


def test_periods_are_as_long_as_they_say() -> None:
    event = "DTSTART:20270215T103000Z\nDTEND:20270215T113000Z\n"
    assert days(file(event + "RDATE;VALUE=PERIOD:20270217T103000Z/P2D,20270221T093000Z/20270221T100000Z")) == [
        15,
        17,
        18,
    ]
    zoned = "RDATE;VALUE=PERIOD;TZID=Europe/Berlin:20270217T113000/20270217T123000"
    assert days(file(event + zoned)) == [15, 17]
    assert days(file("DTSTART:20270215T113000\nDURATION:PT1H\nRDATE:20270217T103000Z")) == [15, 17]
    assert days(file("DTSTART;VALUE=DATE:20270215\nRDATE:20270217T000000Z\nRDATE;VALUE=DATE:20270219")) == [15, 17, 19]
    assert days(file(event + "RDATE:20270217T103000Z\nEXDATE:20270217T103000Z")) == [15]


def test_several_rules_of_an_event_add_up() -> None:
    text = file("DTSTART;VALUE=DATE:20270215\nRRULE:FREQ=DAILY;COUNT=2\nRRULE:FREQ=DAILY;INTERVAL=4;COUNT=2\nRRULE:")
    assert days(text) == [15, 16, 19]


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("W. Europe Standard Time", "113000"),
        ("w. europe standard time", "113000"),
        ("Tokyo Standard Time", "193000"),
        ("/freeassociation.sourceforge.net/Europe/Berlin", "113000"),
        ("/example.org/20270101_1/America/Argentina/Buenos_Aires", "073000"),
        ('"Europe/Berlin"', "113000"),
        ("europe/berlin", "113000"),
        ('"tzone://Microsoft/Utc"', "103000"),
        ("UTC", "103000"),
    ],
)
def test_a_zone_is_found_by_the_names_that_programs_give_it(name: str, local: str) -> None:
    assert days(file(f"DTSTART;TZID={name}:20270215T{local}\nDURATION:PT1H")) == [15]


@pytest.mark.parametrize("name", ["Custom Central", "(UTC+01:00) Amsterdam, Berlin", "Customized Time Zone", "x"])
def test_a_zone_that_the_file_defines_is_evaluated(name: str) -> None:
    named = f'"{name}"' if ":" in name or "," in name else name
    event = f"DTSTART;TZID={named}:20270215T113000\nDURATION:PT1H\nRRULE:FREQ=MONTHLY;BYMONTHDAY=15"
    text = file(event, before=WEEKDAY_ZONE.format(name=name))
    assert days(text, "2027-02-14", 160) == [15] * 6
    with pytest.raises(Rejected, match=r"line 4: .* is no time zone"):
        parse_calendar({"icalendar": file(event)})


def test_a_zone_of_a_file_changes_when_the_zone_that_it_describes_does() -> None:
    component = read_components(file(before=WEEKDAY_ZONE.format(name="mine")), "icalendar")[0].components[0]
    found = Zones({"mine": component}, "icalendar").named("mine", Reader("icalendar", None))
    hour = timedelta(hours=1)
    for year in (1997, 2027, 2199):
        for at in transitions(zone(BERLIN).info, utc(year, 1, 1), utc(year + 1, 1, 1)):
            for moment in (at - hour, at - timedelta(seconds=1), at, at + hour):
                second = int(moment.timestamp())
                assert found.offset_at(second) == zone(BERLIN).offset_at(second)
        assert [piece.offset for piece in found.pieces_from(int(utc(year, 1, 1).timestamp()))][:3] == [3600, 7200, 3600]


def test_a_definition_may_list_its_changes_and_end_its_rules() -> None:
    observances = [
        ("STANDARD", "+0300", "+0200", "20260101T000000", ""),
        ("DAYLIGHT", "+0200", "+0530", "20270216T000000", "RDATE:20270218T000000"),
        ("STANDARD", "+0530", "+0200", "20270217T000000", "RRULE:FREQ=DAILY;UNTIL=20270216T183000Z"),
    ]
    component = Component("VTIMEZONE", 1)
    for name, before, after, start, more in observances:
        lines = [("TZOFFSETFROM", before), ("TZOFFSETTO", after), ("DTSTART", start)]
        lines += [tuple(more.split(":", 1))] if more else []  # type: ignore[list-item]
        component.components.append(Component(name, 1, [Line(1, key, {}, value) for key, value in lines]))
    found = Zones({"mine": component}, "icalendar").named("mine", Reader("icalendar", None))

    def hours(*parts: int) -> float:
        return found.offset_at(int(utc(*parts).timestamp())) / 3600

    assert [hours(2025, 1, 1), hours(2026, 6, 1), hours(2027, 2, 16)] == [3, 2, 5.5]
    assert [hours(2027, 2, 16, 18, 29), hours(2027, 2, 16, 18, 30), hours(2027, 2, 18)] == [5.5, 2, 5.5]


def test_the_names_of_windows_are_those_of_cldr() -> None:
    assert win_tz == WINDOWS_ZONES
    assert set(WINDOWS_ZONES.values()) <= zone_names()


def test_what_is_passed_over_is_told() -> None:
    text = file(
        "DTSTART:20270215T103000Z",
        "DTSTART;TZID=Europe/Berlin;VALUE=DATE:20270217",
        "DTSTART:20270218T103000Z\nDTEND:20270218T113000Z\nDURATION:PT2H",
        "UID:1\nDTSTART;VALUE=DATE:20270219\nRRULE:FREQ=DAILY;COUNT=2",
        "UID:1\nRECURRENCE-ID;VALUE=DATE:20270220\nDTSTART;VALUE=DATE:20270222\nRRULE:FREQ=DAILY",
        before="X-WR-TIMEZONE:Mars/Olympus\nBEGIN:VTODO\nDUE:20270215\nEND:VTODO",
    )
    calendar = parse_calendar({"icalendar": text})
    told = {warning.line: warning.text for warning in calendar.events.warnings}
    assert {line: told[line].split()[0:2] for line in told} == {
        3: ["'Mars/Olympus'", "is"],
        4: ["VTODO", "is"],
        7: ["the", "event"],
        11: ["the", "zone"],
        13: ["the", "event"],
        23: ["an", "exception"],
    }
    assert taken_out(calendar, "2027-02-14", 10) == [f"2027-02-{day}" for day in (17, 18, 19, 22)]
    cancelled = file("DTSTART;VALUE=DATE:20270215", before="METHOD:CANCEL")
    assert days(cancelled) == []
    assert len(parse_calendar({"icalendar": cancelled}).events.warnings) == 1
    with pytest.raises(Rejected, match="line 3: CALSCALE is GREGORIAN"):
        parse_calendar({"icalendar": file(before="CALSCALE:HEBREW")})


def test_birthdays_without_a_year_recur() -> None:
    assert days(file("DTSTART;VALUE=DATE:16040216\nRRULE:FREQ=YEARLY")) == [16]


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(end: str) -> None:
    text = file("SUMMARY:a very\n  long one\nDTSTART;VALUE=DA\n TE:20270215").replace("\n", end)
    assert days("\ufeff" + text) == [15]
