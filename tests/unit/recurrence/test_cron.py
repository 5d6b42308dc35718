from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.cron import MACROS, parse_cron, surprise
from rota_server.domain.recurrence.limits import CRON_TERMS_MAXIMUM, CRON_TEXT_MAXIMUM
from rota_server.domain.recurrence.times import nominal_times
from rota_server.domain.recurrence.timing import next_time, parse_timing
from rota_server.domain.recurrence.zones import zone as info_of
from tests.unit.recurrence.specification import utc

MONTHS = ["jan", "FEB", "Mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "MON", "Tue", "wed", "thu", "fri", "sat"]
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Africa/Casablanca",
    "America/Havana",
    "Asia/Beirut",
]


@st.composite
def number_terms(draw: st.DrawFn, low: int, high: int, names: list[str] | None = None) -> str:
    def shown(value: int) -> str:
        if names and draw(st.booleans()):
            return names[(value - low) % len(names)]
        return str(value)

    kind = draw(st.sampled_from(["value", "range", "range/step", "*/step", "value/step"]))
    first = draw(st.integers(low, high - 1))
    last = draw(st.integers(first + 1, high))
    step = draw(st.integers(1, high))
    return {
        "value": shown(first),
        "range": f"{shown(first)}-{last}",
        "range/step": f"{first}-{last}/{step}",
        "*/step": f"*/{step}",
        "value/step": f"{shown(first)}/{step}",
    }[kind]


def fields(low: int, high: int, names: list[str] | None = None, extra: st.SearchStrategy[str] | None = None):
    term = number_terms(low, high, names)
    if extra is not None:
        term = st.one_of(term, extra)
    return st.one_of(st.just("*"), st.lists(term, min_size=1, max_size=3).map(",".join))


@st.composite
def expressions(draw: st.DrawFn) -> str:
    weekday_extra = st.one_of(
        st.builds("{}#{}".format, st.sampled_from(["1", "fri", "0", "7"]), st.integers(1, 5)),
        st.integers(0, 7).map("{}L".format),
    )
    return " ".join(
        [
            draw(fields(0, 59)),
            draw(fields(0, 23)),
            draw(fields(1, 31, extra=st.sampled_from(["L", "LW"]))),
            draw(fields(1, 12, MONTHS)),
            draw(fields(0, 7, WEEKDAYS, weekday_extra)),
        ]
    )


def ours(expression: str, zone: str, after: datetime, count: int) -> list[datetime] | str:
    try:
        timing = parse_timing({"cron": expression, "timezone": zone})
    except Rejected as rejected:
        return rejected.code
    return [one.at for one in islice(nominal_times(timing, after), count)]


def theirs(expression: str, zone: str, after: datetime, count: int) -> list[datetime] | str:
    try:
        found = list(islice(CronSim(expression, after.astimezone(info_of(zone).info)), count))
    except CronSimError as error:
        return "never" if str(error) == "Bad day-of-month" else str(error)
    return [at.astimezone(UTC) for at in found] or "never"


@settings(max_examples=120, deadline=None)
@given(
    expressions(),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2015, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001 # the zone comes next
)
def test_ticks_are_cronsims(expression: str, zone: str, after: datetime) -> None:
    after = utc(after.year, after.month, after.day, 12, after.minute, after.second)
    assert ours(expression, zone, after, 40) == theirs(expression, zone, after, 40)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Africa/Casablanca", "America/Havana"])
@pytest.mark.parametrize(
    "expression",
    [
        "30 2 * * *",
        "0,30 0-3 * * *",
        "15 1 * * sun",
        "0 0 * * *",
        "*/30 2 * * *",
        "0 */2 * * *",
        "59 23 L * *",
        "0 1-3 * * *",
    ],
)
def test_years_of_ticks_are_cronsims(expression: str, zone: str) -> None:
    after = utc(2015, 1, 1, 12)
    timing = parse_timing({"cron": expression, "timezone": zone})
    last = utc(2023, 12, 31, 23, 59)
    cronsim = (at.astimezone(UTC) for at in CronSim(expression, after.astimezone(info_of(zone).info)))
    expected = list(takewhile(lambda at: at <= last, cronsim))
    assert [one.at for one in nominal_times(timing, after, until=last)] == expected


@settings(max_examples=100, deadline=None)
@given(expressions(), fields(0, 59), st.datetimes(datetime(2015, 1, 1), datetime(2040, 1, 1)))  # noqa: DTZ001
def test_six_fields_with_seconds_are_cronsims(expression: str, seconds: str, moment: datetime) -> None:
    after = utc(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
    expression = f"{seconds} {expression}"
    assert ours(expression, "UTC", after, 70) == theirs(expression, "UTC", after, 70)


def first(expression: str, after: datetime | None = None) -> str:
    nominal = next_time(parse_timing({"cron": expression}), after or utc(2026, 11, 24))
    assert nominal is not None
    return nominal.local[:16]


def test_a_step_over_a_range_of_one_is_that_one() -> None:
    assert first("0 23-23/24 * * *", utc(2026, 11, 24, 23, 30)) == "2026-11-25T23:00"
    assert first("5-5/10 * * * *", utc(2026, 11, 24, 12, 5)) == "2026-11-24T13:05"


def test_w_is_the_nearest_working_day_in_the_same_month() -> None:
    assert first("0 9 15W * *", utc(2026, 8, 1)) == "2026-08-14T09:00"  # the 15th is a Saturday
    assert first("0 9 15W * *", utc(2026, 11, 1)) == "2026-11-16T09:00"  # a Sunday
    assert first("0 9 1W * *", utc(2026, 7, 30)) == "2026-08-03T09:00"  # a Saturday, and July is another month
    assert first("0 9 31W * *", utc(2027, 1, 1)) == "2027-01-29T09:00"  # a Sunday, and February is another month
    assert first("0 9 LW 2 *") == "2027-02-26T09:00"


def test_day_of_month_and_day_of_week_both_restricted_match_either() -> None:
    timing = parse_timing({"cron": "0 0 13 * FRI"})
    found = [one.local[:10] for one in islice(nominal_times(timing, utc(2026, 11, 1)), 5)]
    assert found == ["2026-11-06", "2026-11-13", "2026-11-20", "2026-11-27", "2026-12-04"]


@pytest.mark.parametrize("macro", sorted(MACROS))
def test_a_macro_is_its_expression(macro: str) -> None:
    assert first(f" {macro.upper()} ") == first(MACROS[macro])


def test_a_rule_for_a_leap_day_that_is_a_monday_finds_it_years_away() -> None:
    assert first("0 0 29 2 */7", utc(2026, 1, 1)) == "2032-02-29T00:00"
    assert first("0 0 */29 2 1", utc(2025, 1, 1)) == "2027-02-01T00:00"


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 2 *", "0 0 31W 2 *"])
def test_a_rule_that_never_comes_is_told_at_once(expression: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_cron(expression)
    assert (refused.value.field, refused.value.code) == ("cron", "never")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("61 * * * *", "minute, position 1: 61 is not between 0 and 59"),
        ("0  24 * * *", "hour, position 4: 24 is not between 0 and 23"),
        ("0 1,2,x * * *", "hour, position 7: 'X' is not a number"),
        ("0 0 0 * *", "day of month, position 5: 0 is not between 1 and 31"),
        ("0 0 1 FOO *", "month, position 7: 'FOO' is not a number or a name"),
        ("0 0 * * 5#6", "day of week, position 11: #6 is not between #1 and #5"),
        ("0 0 * * 8L", "day of week, position 9: 8 is not between 0 and 7"),
        ("0 0 * * FRI-MON", "day of week, position 9: the range FRI-MON runs backwards"),
        ("5-1 * * * *", "minute, position 1: the range 5-1 runs backwards"),
        ("*/0 * * * *", "minute, position 3: a step of 0"),
        ("*/ * * * *", "minute, position 3: a number is missing"),
        ("1,,2 * * * *", "minute, position 3: an empty term"),
        ("-1 * * * *", "minute, position 1: a number is missing"),
        ("0 0 ? * *", "day of month, position 5: '?' is not a number"),
        ("0 0 L/2 * *", "day of month, position 5: 'L' is not a number"),
        ("\u0661 * * * *", "minute, position 1: '\u0661' is not a number"),
        ("0\x00 * * * *", "minute, position 1: '0\\x00' is not a number"),
        ("9" * 30 + " * * * *", "minute, position 1: 99999999999999999999 is too large"),
        ("* * * *", "4 fields"),
        ("", "0 fields"),
        ("* * * * * * *", "7 fields"),
        ("22-3 * * * *", "minute, position 1: the range 22-3 runs backwards; write 22-59,0-3"),
        ("0 0 * * 5-0", "day of week, position 9: the range 5-0 runs backwards; Sunday at its end is 7: write 5-7"),
        ("@reboot", "@reboot is no time"),
        ("@often", "'@often' is none of"),
    ],
)
def test_a_bad_expression_is_refused_with_field_position_and_reason(expression: str, message: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_cron(expression)
    assert refused.value.field == "cron"
    assert refused.value.message.startswith(message)


@pytest.mark.parametrize("value", [5, True, [], {}, b"* * * * *", 1.5])
def test_an_expression_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(Rejected, match="is a string"):
        parse_cron(value)


def test_lengths_are_limited() -> None:
    at_limit = ("*" + " " * CRON_TEXT_MAXIMUM)[: CRON_TEXT_MAXIMUM - 8] + " * * * *"
    assert len(at_limit) == CRON_TEXT_MAXIMUM
    parse_cron(at_limit)
    with pytest.raises(Rejected, match="longer than"):
        parse_cron(at_limit + " ")
    parse_cron(",".join(["1"] * CRON_TERMS_MAXIMUM) + " * * * *")
    with pytest.raises(Rejected, match="more than"):
        parse_cron(",".join(["1"] * (CRON_TERMS_MAXIMUM + 1)) + " * * * *")


@settings(max_examples=300)
@given(st.text(max_size=40) | st.text(alphabet="0123456789*/,-#LW FRIMON@", max_size=40))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    with contextlib.suppress(Rejected):
        assert parse_cron(text).next_local(0) is not None


def test_a_thousand_ticks_take_the_same_steps_whatever_the_rule() -> None:
    for expression in ("* * * * * *", "0 0 29 2 *", "59 23 31 12 *", "0 0 * * 5#5"):
        timing = parse_timing({"cron": expression})
        times = [one.at for one in islice(nominal_times(timing, utc(2000, 1, 1) - timedelta(seconds=1)), 1000)]
        assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("expression", "lead"),
    [
        ("CRON_TZ=Asia/Tokyo 0 9 * * *", "give timezone: Asia/Tokyo"),
        ("TZ=Asia/Tokyo 0 9 * * *", "give timezone: Asia/Tokyo"),
        ("0 0 ? * *", "? is Quartz's, write *"),
        ("H H * * *", "H is a choice of Jenkins"),
        ("H/15 * * * *", "H is a choice of Jenkins"),
        ("0~30 * * * *", "~ is a random choice of cronie"),
        ("@every 1h30m", "give every: 5400 (seconds)"),
        ("@every 1.5s", "give every: 1.5 (seconds)"),
        ("0 0 L-3 * *", "give rrule: FREQ=MONTHLY;BYMONTHDAY=-4"),
        ("0 0 12 1 1 * 2027", "a year is Quartz's"),
        ("0 5 * * * /srv/backup", "`rota import crontab` reads whole lines"),
        ("0 5 * * Monday", "names have three letters"),
        ("cron(0 10 * * ? *)", "`rota import eventbridge` reads"),
        ("0 5 * * *\n0 6 * * *", "several lines are given as a list"),
        ("0 0 * * FRI-MON", "write FRI-7,0-MON"),
    ],
)
def test_a_refusal_leads_on(expression: str, lead: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_cron(expression)
    assert lead in refused.value.message
    assert "position" not in refused.value.message.split(lead)[0] or "TZ" not in expression


def test_a_range_may_end_on_sunday_by_name() -> None:
    for named, numbered in (("FRI-SUN", "5-7"), ("sat-sun", "6-7"), ("MON-SUN/2", "1-7/2"), ("SUN-MON", "0-1")):
        assert parse_cron(f"0 9 * * {named}").days == parse_cron(f"0 9 * * {numbered}").days


@pytest.mark.parametrize("around", ["\n", "\r\n", " ", "\t"])
def test_what_stands_around_an_expression_does_not_matter(around: str) -> None:
    assert first(f"{around}15 2 * * *{around}") == first("15 2 * * *")
    assert first(f"@daily{around}") == first("@daily")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("*/90 * * * *", "minute, position 1: a step of 90 is longer than the field, so */90 is one value of it"),
        ("0 */36 * * *", "hour, position 3: a step of 36"),
        ("0 0 */40 * *", "day of month, position 5: a step of 40"),
        ("*/60 * * * *", None),
        ("0 */24 * * *", None),
        ("*/7 8-18/20 * * 1-5", None),
        ("@hourly", None),
    ],
)
def test_a_step_beyond_its_field_is_a_surprise(expression: str, told: str | None) -> None:
    found = surprise(parse_cron(expression))
    assert found is None if told is None else found is not None and found.startswith(told)


def test_a_surprise_says_what_to_do() -> None:
    assert "give every: 5400" in str(surprise(parse_cron("*/90 * * * *")))
