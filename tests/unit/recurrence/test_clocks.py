"""Times without an offset are readings of the schedule's own clock; names and numbers are read as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.counting import count_times
from rota_server.domain.recurrence.instants import parse_instant
from rota_server.domain.recurrence.times import Nominal, nominal_times
from rota_server.domain.recurrence.timing import parse_timing
from rota_server.domain.recurrence.zones import parse_zone_name
from tests.unit.recurrence.specification import utc

BERLIN = "Europe/Berlin"


def times(spec: dict[str, Any], count: int = 10, timezone: str = BERLIN) -> list[Nominal]:
    return list(islice(nominal_times(parse_timing({"timezone": timezone, **spec}), utc(2020, 1, 1)), count))


def test_start_and_end_are_readings_of_the_schedules_clock() -> None:
    daily = {"cron": "0 9 * * *", "start": "2027-06-01T09:00:00", "end": "2027-06-02T09:00"}
    assert [one.at for one in times(daily)] == [utc(2027, 6, 1, 7), utc(2027, 6, 2, 7)]
    assert [one.at for one in times(daily, timezone="UTC")] == [utc(2027, 6, 1, 9), utc(2027, 6, 2, 9)]
    naive = {"cron": "0 9 * * *", "start": datetime(2027, 6, 1, 9), "count": 1}  # noqa: DTZ001 - a reading
    assert [one.at for one in times(naive)] == [utc(2027, 6, 1, 7)]
    ruled = {"rrule": "DTSTART;TZID=America/New_York:20270101T090000\nRRULE:FREQ=DAILY", "start": "2027-06-01T00:00:00"}
    assert next(nominal_times(parse_timing(ruled), utc(2020, 1, 1))).at == utc(2027, 6, 1, 13)


@pytest.mark.parametrize(("fold", "start", "end"), [("first", 0, 0), ("last", 1, 1), ("both", 0, 1)])
def test_bounds_that_come_twice_obey_the_policy(fold: str, start: int, end: int) -> None:
    spec = {"cron": "* * * * *", "timezone": BERLIN, "start": "2027-10-31T02:30:00", "end": "2027-10-31T02:30"}
    timing = parse_timing({**spec, "fold": fold})
    assert (timing.start, timing.end) == (utc(2027, 10, 31, start, 30), utc(2027, 10, 31, end, 30))


def test_a_bound_in_a_gap_is_its_end() -> None:
    timing = parse_timing({"cron": "* * * * *", "timezone": BERLIN, "start": "2027-03-28T02:30:00.5"})
    assert timing.start == utc(2027, 3, 28, 1)


def test_a_list_of_readings_obeys_the_policies() -> None:
    spec = {"at": ["2027-10-31T02:30:00", "2027-03-28T02:30:00", "2027-03-28T02:45", "2027-06-01T09:00:00.25"]}

    def found(**policies: str) -> list[tuple[datetime, str, str | None, str | None]]:
        return [(one.at, one.outcome, one.reason, one.note) for one in times({**spec, **policies})]

    gap, plain = utc(2027, 3, 28, 1), datetime(2027, 6, 1, 7, 0, 0, 250_000, tzinfo=UTC)
    first, second = utc(2027, 10, 31, 0, 30), utc(2027, 10, 31, 1, 30)
    assert found() == [
        (gap, "tick", None, "shifted from 02:30 by the gap"),
        (plain, "tick", None, None),
        (first, "tick", None, "first of two"),
    ]
    assert found(gap="skip", fold="both") == [
        (gap, "skip", "dst_gap", "02:30 falls into the gap"),
        (plain, "tick", None, None),
        (first, "tick", None, "first of two"),
        (second, "tick", None, "second of two"),
    ]
    assert found(fold="last")[2] == (second, "tick", None, "second of two")
    anyway = {"at": ["2027-03-28T02:30:00", "2027-03-28T01:00:00Z"], "gap": "skip"}
    assert [(one.at, one.outcome) for one in times(anyway)] == [(gap, "tick")]
    assert (
        count_times(parse_timing({**spec, "timezone": BERLIN, "fold": "both"}), utc(2027, 1, 1), utc(2028, 1, 1)) == 4
    )
    with pytest.raises(Rejected) as refused:
        parse_timing({"at": ["2027-06-01T09:00:00", "2027-06-01T07:00:00Z"], "timezone": BERLIN})
    assert refused.value.field == "at.1"
    for wrong in ("2027-02-30T09:00:00", "2327-02-03T09:00:00", "2027-06-01T09", "soon"):
        with pytest.raises(Rejected) as refused:
            parse_timing({"at": [wrong], "timezone": BERLIN})
        assert refused.value.field == "at.0"


@pytest.mark.parametrize("digits", ["1", "123456", "1234567", "123456789"])
def test_seconds_may_have_up_to_nine_digits(digits: str) -> None:
    text = f"2027-01-01T00:00:00.{digits}Z"
    expected = datetime(2027, 1, 1, microsecond=int(f"{digits:0<6.6}"), tzinfo=UTC)
    assert parse_instant(text, "after") == expected
    assert parse_instant(text + "\n", "after") == expected
    assert [one.at for one in times({"at": [text]})] == [expected]
    with pytest.raises(Rejected):
        parse_instant("2027-01-01T00:00:00.1234567890Z", "after")


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Berlin", "did you mean Europe/Berlin?"),
        ("new york", "did you mean America/New_York?"),
        ("Asia/Tokio", "did you mean Asia/Tokyo?"),
        ("W. Europe Standard Time", "that is what Windows calls Europe/Berlin"),
        ("+02:00", "an offset is no zone"),
        ("UTC+2", "an offset is no zone"),
        ("CEST", "an abbreviation stands for several zones"),
    ],
)
def test_a_zone_that_is_none_leads_to_the_one_that_is_meant(name: str, lead: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_zone_name(name)
    assert lead in refused.value.message
    assert parse_zone_name(" Europe/Berlin\n") == BERLIN
