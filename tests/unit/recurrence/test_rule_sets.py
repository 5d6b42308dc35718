"""Several rules in one schedule: each ticks as it would alone, and what two of them name ticks once."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest
from dateutil import rrule as dateutil_rrule
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.limits import EXDATES_MAXIMUM, RULES_MAXIMUM
from rota_server.domain.recurrence.rrule import BoundRRule
from rota_server.domain.recurrence.times import Nominal, nominal_times
from rota_server.domain.recurrence.timing import parse_timing
from tests.unit.recurrence.specification import utc

BERLIN = "Europe/Berlin"
FROM = utc(2026, 3, 1)
LINES = ["30 2 * * *", "*/20 1-3 * * *", "0 3 * * 0", "15,30 2 25-31 * *", "0 0 1 * *"]
RULES = [
    "FREQ=DAILY;BYHOUR=2;BYMINUTE=30",
    "FREQ=WEEKLY;BYDAY=SU;BYHOUR=1,2,3",
    "FREQ=HOURLY;INTERVAL=7",
    "FREQ=MINUTELY;INTERVAL=50;BYDAY=SU",
    "FREQ=MONTHLY;BYDAY=-1SU;BYHOUR=2;BYMINUTE=0,30;BYSETPOS=-1",
]
policies = st.fixed_dictionaries(
    {
        "gap": st.sampled_from(["shift", "skip"]),
        "fold": st.sampled_from(["first", "last", "both"]),
        "timezone": st.sampled_from([BERLIN, "UTC", "Australia/Lord_Howe", "America/New_York"]),
    }
)


def times(spec: dict[str, Any], after: datetime = FROM, days: int = 250) -> list[Nominal]:
    return list(nominal_times(parse_timing(spec), after, until=after + timedelta(days=days)))


def instants(spec: dict[str, Any], after: datetime = FROM, days: int = 250) -> list[datetime]:
    return [one.at for one in times(spec, after, days)]


def utcs(text: str, count: int = 10, **others: Any) -> list[str]:
    timing = parse_timing({"rrule": text, **others})
    return [one.at.strftime("%Y%m%dT%H%M%SZ") for one in islice(nominal_times(timing, utc(2020, 1, 1)), count)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(LINES), min_size=2, max_size=4), policies)
def test_lines_of_cron_tick_when_any_of_them_does(lines: list[str], given_policies: dict[str, str]) -> None:
    alone = [times({"cron": line, **given_policies}) for line in lines]
    together = times({"cron": lines, **given_policies})
    assert [one.at for one in together] == sorted({one.at for found in alone for one in found})
    ticked = {one.at for found in alone for one in found if one.outcome == "tick"}
    assert {one.at for one in together if one.outcome == "tick"} == ticked


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(RULES), min_size=1, max_size=3), st.sampled_from(RULES), policies)
def test_a_set_is_what_its_rules_name_without_what_its_exceptions_name(
    rules: list[str], exception: str, given_policies: dict[str, str]
) -> None:
    assume(set(rules) != {exception})
    start = {"start": utc(2026, 3, 3, 0, 30), **given_policies}
    lines = [f"RRULE:{rule}" for rule in rules]
    try:
        together = times({"rrule": "\n".join([*lines, f"EXRULE:{exception}"]), **start})
    except Rejected:
        reject()
    named = [one for rule in rules for one in times({"rrule": rule, **start})]
    # An exception stands for what the wall clock reads, so it takes both passes of a fold, and nothing at a gap's end
    # but what it would have been without the gap; that has a test of its own.
    taken = times({"rrule": exception, **start, "fold": "both"})
    gaps = {one.at for one in (*named, *taken) if one.note is not None and "gap" in one.note}
    expected = {one.at for one in named} - {one.at for one in taken}
    assert {one.at for one in together} - gaps == expected - gaps


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.sampled_from(["DAILY", "WEEKLY", "HOURLY;INTERVAL=5", "MONTHLY;BYMONTHDAY=-1"]), min_size=1, max_size=3
    ),
    st.lists(st.sampled_from(["DAILY;INTERVAL=3", "WEEKLY;BYDAY=MO", "HOURLY;INTERVAL=10"]), max_size=2),
    st.lists(st.integers(0, 40), max_size=5),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_sets_are_those_of_dateutil(rules: list[str], exceptions: list[str], more: list[int], less: list[int]) -> None:
    start = datetime(2026, 2, 1, 9, 0)  # noqa: DTZ001 - as dateutil wants it
    lines = ["DTSTART:20260201T090000", *(f"RRULE:FREQ={rule}" for rule in rules)]
    lines += [f"EXRULE:FREQ={rule}" for rule in exceptions]
    lines += [f"RDATE:{start + timedelta(hours=12 * half):%Y%m%dT%H%M%S}" for half in more]
    lines += [f"EXDATE:{start + timedelta(hours=12 * half):%Y%m%dT%H%M%S}" for half in less]
    text = "\n".join(lines)
    theirs = list(islice(dateutil_rrule.rrulestr(text, forceset=True), 60))
    ours = islice(nominal_times(parse_timing({"rrule": text}), utc(2026, 1, 1)), len(theirs))
    assert [one.at.replace(tzinfo=None) for one in ours] == theirs


def test_every_ninety_minutes_needs_two_lines() -> None:
    found = instants({"cron": ["0 0-21/3 * * *", "30 1-22/3 * * *"]}, days=2)
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=90)}


def test_an_instant_among_the_exceptions_takes_that_instant_alone() -> None:
    start = "DTSTART;TZID=Europe/Berlin:20271031T013000\nRRULE:FREQ=HOURLY;COUNT=5\n"
    all_five = ["20271030T233000Z", "20271031T003000Z", "20271031T013000Z", "20271031T023000Z", "20271031T033000Z"]
    for place, instant in enumerate(all_five):
        assert utcs(f"{start}EXDATE:{instant}") == all_five[:place] + all_five[place + 1 :]
    assert utcs(f"{start}EXDATE;TZID=Europe/Berlin:20271031T023000") == [*all_five[:1], *all_five[3:]]
    elsewhere = f"{start}EXDATE;TZID=America/New_York:20271030T203000"
    assert utcs(elsewhere) == [all_five[0], *all_five[2:]]
    assert utcs(f"{start}EXDATE:20271031T013001Z") == all_five


def test_an_exception_takes_what_a_gap_would_have_moved() -> None:
    daily = "DTSTART;TZID=Europe/Berlin:20270327T023000\nRRULE:FREQ=DAILY;COUNT=3\n"
    without = ["20270327T013000Z", "20270329T003000Z"]
    assert utcs(daily) == [without[0], "20270328T010000Z", without[1]]
    for written in (";TZID=Europe/Berlin:20270328T023000", ":20270328T013000Z", ":20270328T010000Z", ":20270328"):
        assert utcs(f"{daily}EXDATE{written}") == without
    assert utcs(f"{daily}EXRULE:FREQ=WEEKLY;BYDAY=SU") == without


def test_an_extra_date_ticks_like_any_other() -> None:
    start = "DTSTART;TZID=Europe/Berlin:20270301T090000\n"
    assert utcs(f"{start}RDATE;TZID=Europe/Berlin:20270328T023000,20270302T090000") == [
        "20270302T080000Z",
        "20270328T010000Z",
    ]
    assert utcs(f"{start}RRULE:FREQ=DAILY;COUNT=1\nRDATE;VALUE=DATE:20270305\nRDATE:20270301T080000Z") == [
        "20270301T080000Z",
        "20270305T080000Z",
    ]
    assert utcs(f"{start}RDATE;VALUE=PERIOD:20270303T090000Z/PT1H,20270304T090000Z/20270304T100000Z") == [
        "20270303T090000Z",
        "20270304T090000Z",
    ]
    assert utcs(f"{start}RDATE:20270101T090000,20270303T090000") == ["20270303T080000Z"]


def test_long_stretches_of_exceptions_are_passed_over_at_once() -> None:
    seconds = "DTSTART:20270101T000000Z\nRRULE:FREQ=SECONDLY\n"
    assert utcs(f"{seconds}EXRULE:FREQ=SECONDLY;BYMONTH=1,2,3", 1) == ["20270401T000000Z"]
    assert utcs(f"{seconds}EXDATE:20270101,20270102", 1) == ["20270103T000000Z"]
    assert utcs(f"{seconds}EXRULE:FREQ=SECONDLY;UNTIL=20400101T000000Z", 1) == ["20400101T000001Z"]
    with pytest.raises(Rejected, match="this never comes"):
        parse_timing({"rrule": f"{seconds}EXRULE:FREQ=SECONDLY"})


def test_a_rare_rule_in_a_set_is_not_searched_for_on_each_day(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    asked = BoundRRule._day_counts

    def counting(rule: BoundRRule, day: int) -> bool:
        nonlocal looked
        looked += 1
        return asked(rule, day)

    monkeypatch.setattr(BoundRRule, "_day_counts", counting)
    rare = "RRULE:FREQ=YEARLY;BYWEEKNO=53\nRRULE:FREQ=DAILY\nEXRULE:FREQ=SECONDLY;INTERVAL=3"
    with pytest.raises(Rejected, match="this never comes"):
        parse_timing({"rrule": rare, "timezone": BERLIN, "count": 20_000}, created=FROM)
    assert looked < 200_000


def test_each_rule_has_its_own_end() -> None:
    text = "DTSTART:20270101T000000Z\nRRULE:FREQ=DAILY;COUNT=2\nRRULE:FREQ=DAILY;INTERVAL=2;UNTIL=20270105T000000Z"
    assert utcs(text) == [f"202701{day:02}T000000Z" for day in (1, 2, 3, 5)]
    assert utcs(f"{text}\nEXRULE:FREQ=DAILY;COUNT=1") == [f"202701{day:02}T000000Z" for day in (2, 3, 5)]


@pytest.mark.parametrize(
    "text",
    [
        "DTSTART;TZID=Europe/Berlin:20270301T090000 RRULE:FREQ=DAILY;COUNT=2",
        "DTSTART;TZID=Europe/Berlin:20270301T090000\n  RRULE:FREQ=DAILY;COUNT=2",
        "DTSTART;TZID=Europe/Berlin:20270301T0\r\n 90000\r\nRRULE:FREQ=DAI\r\n LY;COUNT=2\r\n",
        "\ufeffDTSTART;TZID=Europe/Berlin:20270301T090000\rrrule:freq=daily;count=2\n",
        "DTSTART;TZID=Europe/Berlin:20270301T090000\nRRULE:FREQ=DAILY;COUNT=2\nRRULE:\nEXDATE:\n\n",
    ],
)
def test_lines_are_read_as_they_are_published(text: str) -> None:
    assert utcs(text) == ["20270301T080000Z", "20270302T080000Z"]


def test_sets_are_limited_and_refused_with_their_place() -> None:
    parse_timing({"cron": [f"{minute} * * * *" for minute in range(RULES_MAXIMUM)]})
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"cron": []}, "cron", "a list has 1 to"),
        ({"cron": [f"{minute} * * * *" for minute in range(RULES_MAXIMUM + 1)]}, "cron", "a list has 1 to"),
        ({"cron": ["0 0 * * *", "0 24 * * *"]}, "cron.1", "hour, position 3"),
        ({"cron": ["0 0 * * *", 5]}, "cron.1", "a cron expression is a string"),
        ({"rrule": "\n".join(["RRULE:FREQ=DAILY"] * (RULES_MAXIMUM + 1))}, "rrule", "more than 16 rules"),
        ({"rrule": "RRULE:FREQ=DAILY\nRDATE:" + ",".join(["20270101"] * (EXDATES_MAXIMUM + 1))}, "rrule", "more than"),
        ({"rrule": "DTSTART:20270101T000000Z"}, "rrule", "there is no RRULE"),
        ({"rrule": "RRULE:FREQ=DAILY\nEXRULE:FREQ=DAILY"}, "rrule", "this never comes"),
    ]
    for spec, field, message in wrong:
        with pytest.raises(Rejected) as refused:
            parse_timing(spec)
        assert (refused.value.field, refused.value.message[: len(message)]) == (field, message)
