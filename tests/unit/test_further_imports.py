"""What Kubernetes, systemd, Quartz, EventBridge and cronie say becomes schedules, or is told by its line."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from rota_server.apps.cli.imports.crontab import parse_crontab
from rota_server.apps.cli.imports.eventbridge import parse_eventbridge
from rota_server.apps.cli.imports.found import Found, Wanted, plan_of_found
from rota_server.apps.cli.imports.kubernetes import parse_manifests
from rota_server.apps.cli.imports.on_calendar import rule_of
from rota_server.apps.cli.imports.plans import Names, plan_of_entry
from rota_server.apps.cli.imports.quartz import parse_quartz
from rota_server.apps.cli.imports.systemd import parse_timer, seconds_of
from rota_server.apps.store.schedules.parsing import parse_schedule
from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.times import nominal_times
from rota_server.domain.recurrence.timing import parse_timing

FIXTURES = Path(__file__).parents[1] / "fixtures" / "imports"
CASES = Path(__file__).parents[1] / "cases"
NOW = datetime(2027, 1, 1, tzinfo=UTC)


def next_times(rule: dict[str, Any], count: int = 3) -> list[str]:
    return [one.local[:16] for one in islice(nominal_times(parse_timing(rule), NOW), count)]


def crontab_plans(text: str) -> list[dict[str, Any]]:
    entries, problems = parse_crontab(text.encode())
    assert problems == []
    plans = [plan_of_entry(entry, Names("c"), timezone="UTC", queue=None) for entry in entries]
    for plan in plans:
        parse_schedule(plan.request)
    return [plan.request | {"said": plan.notes} for plan in plans]


def quartz(expression: str) -> Found:
    (found,), problems = parse_quartz(expression)
    assert problems == []
    return found


def test_what_cronie_understands_beside_the_command_is_honoured_and_told() -> None:
    quiet, plain = crontab_plans((CASES / "crontab").read_text(encoding="utf-8"))
    assert quiet["job"]["args"]["command"] == ["sh", "-c", "echo quiet"]
    assert (quiet["jitter"], plain["jitter"]) == (2700, 2700)
    assert any(note.startswith("-n:") for note in quiet["said"])
    assert any(note.startswith("RANDOM_DELAY:") for note in plain["said"])
    assert "env" not in plain["job"]["args"]
    for flags in ("-n -q -s", "-nqs", "-s\t-nq"):
        (one,) = crontab_plans(f"0 3 * * * {flags} /srv/x -n 5\n")
        assert (one["job"]["args"]["command"][2], one["overlap"]) == ("/srv/x -n 5", "skip")
        assert len(one["said"]) == 3
    (without,) = crontab_plans("RANDOM_DELAY=soon\n0 3 * * * -x\n")
    assert ("jitter" in without, without["job"]["args"]["command"][2]) == (False, "-x")
    assert without["said"][0].startswith("RANDOM_DELAY=soon is no number")
    entries, _ = parse_crontab(b"0 3 * * * root -n /srv/x\n", system=True)
    assert (entries[0].user, entries[0].command) == ("root", "/srv/x")


def test_a_choice_by_chance_is_made_once_for_all() -> None:
    text = "0~30 2~4 * * 1~5,7 echo x\n~ * * * * echo y\n10~ 3 * * * echo z\n"
    rules = [plan["cron"] for plan in crontab_plans(text)]
    assert rules == [plan["cron"] for plan in crontab_plans(text)]
    minute, hour, *_, weekday = rules[0].split()
    assert 0 <= int(minute) <= 30
    assert 2 <= int(hour) <= 4
    assert 1 <= int(weekday.split(",")[0]) <= 5
    assert 10 <= int(rules[2].split()[0]) <= 59
    assert "by chance" in crontab_plans(text)[0]["said"][0]
    for wrong in ("30~0", "0~60", "0~30/5", "a~b"):
        _, (problem,) = parse_crontab(f"{wrong} * * * * echo\n".encode())
        assert "no range to choose from" in problem.reason


def test_a_step_beyond_its_field_is_told() -> None:
    (plan,) = crontab_plans("*/90 * * * * echo\n")
    assert "give every: 5400" in plan["said"][0]


def test_a_cron_job_keeps_its_policies() -> None:
    (nightly, bare), problems = parse_manifests((FIXTURES / "cronjobs.yaml").read_text(encoding="utf-8"))
    assert problems == []
    plan = plan_of_found(nightly, Names("k"), Wanted())
    parse_schedule(plan.request)
    assert (plan.request["cron"], plan.request["timezone"]) == ("0 2 1-31/2 * 1", "Europe/Berlin")
    assert (plan.request["overlap"], plan.paused) == ("skip", True)
    assert plan.request["catch_up"] == {"policy": "latest", "window": 200}
    assert plan.request["job"]["args"] == {"command": ["/bin/sh", "-c", "date; echo hi"], "env": {"A": "1"}}
    assert plan.request["job"]["retry"] == {"max_attempts": 3}
    said = "\n".join(plan.notes)
    assert "busybox:1.36 is not used" in said
    assert "variable B" in said
    assert (bare.line, bare.rule, bare.job) == (26, {"every": 5400}, None)
    assert "job" not in plan_of_found(bare, Names("k"), Wanted()).request
    given = plan_of_found(bare, Names("k"), Wanted(task="hello", args={"a": 1}, queue="q", timezone="Asia/Tokyo"))
    assert given.request["job"] == {"task": "hello", "args": {"a": 1}, "queue": "q"}
    assert given.request["timezone"] == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("schedule: '0 24 * * *'", "hour, position 3"),
        ("timeZone: UTC", "spec.schedule is missing"),
        ("{schedule: '@daily', concurrencyPolicy: Sometimes}", "concurrencyPolicy: 'Sometimes'"),
        ("{schedule: '@daily', timeZone: europe/berlin}", "did you mean Europe/Berlin?"),
        ("{schedule: '@daily', startingDeadlineSeconds: soon}", "startingDeadlineSeconds"),
        ("[", "this is not YAML"),
    ],
)
def test_a_cron_job_that_can_not_be_mapped_is_named(spec: str, said: str) -> None:
    indented = spec if spec.startswith("{") else f"\n  {spec}"
    found, (problem,) = parse_manifests(f"kind: CronJob\nmetadata: {{name: x}}\nspec: {indented}\n")
    assert found == []
    assert said in problem.reason


def test_lists_and_other_kinds_are_looked_through() -> None:
    job = "{kind: CronJob, metadata: {name: x}, spec: {schedule: 'TZ=Asia/Tokyo 0 9 ? * 1-5'}}"
    found, problems = parse_manifests(f"kind: Deployment\n---\nkind: List\nitems: [{job}, {{kind: Pod}}]\n")
    assert problems == []
    assert found[0].rule == {"cron": "0 9 * * 1-5", "timezone": "Asia/Tokyo"}
    assert "no CronJob" in parse_manifests("kind: Pod\n")[1][0].reason
    assert parse_manifests("&a [*a]")[0] == []


def test_a_timer_starts_what_its_service_starts() -> None:
    def service(unit: str) -> str | None:
        return (FIXTURES / unit).read_text(encoding="utf-8") if unit == "backup.service" else None

    text = (FIXTURES / "backup.timer").read_text(encoding="utf-8")
    (found,), (problem,) = parse_timer(text, "backup", service)
    assert (problem.line, "start of a machine" in problem.reason) == (8, True)
    plan = plan_of_found(found, Names("t"), Wanted(default_timezone="Europe/Berlin"))
    parse_schedule(plan.request)
    assert plan.request["cron"] == ["30 2 * * MON,TUE,WED,THU,FRI", "0 4 1 * *"]
    assert (plan.request["jitter"], plan.request["overlap"]) == (5400, "skip")
    assert plan.request["catch_up"]["policy"] == "latest"
    assert plan.request["job"]["args"] == {
        "command": ["/usr/bin/backup", "--all", "--fast"],
        "env": {"A": "b c", "D": "e"},
        "cwd": "/srv",
    }
    ((alone,), _) = parse_timer("[Timer]\nOnCalendar=daily\n", "x", lambda _unit: None)
    assert (alone.job, alone.policies["catch_up"]) == (None, {"policy": "none"})
    ((again,), problems) = parse_timer("[Timer]\nOnBootSec=1\nOnUnitActiveSec=15min\n", "x", lambda _unit: None)
    assert (again.rule, problems) == ({"every": 900.0}, [])
    assert parse_timer("[Unit]\n", "x", lambda _unit: None)[1][0].reason == "there is no section [Timer]"
    assert parse_timer("[Timer]\nOnCalendar=daily\nOnCalendar=\n", "x", lambda _unit: None)[0] == []


@pytest.mark.parametrize(
    ("event", "rule"),
    [
        ("daily", {"cron": "0 0 * * *"}),
        ("hourly", {"cron": "0 * * * *"}),
        ("weekly", {"cron": "0 0 * * MON"}),
        ("quarterly", {"cron": "0 0 1 1,4,7,10 *"}),
        ("*:0/15", {"cron": "0,15,30,45 * * * *"}),
        ("Mon..Fri 09:00", {"cron": "0 9 * * MON,TUE,WED,THU,FRI"}),
        ("Sat,Sun *-*-* 10:00:30 Europe/Berlin", {"cron": "30 0 10 * * SAT,SUN", "timezone": "Europe/Berlin"}),
        ("*-*-01,15 04:00", {"cron": "0 4 1,15 * *"}),
        ("12-24 18:00", {"cron": "0 18 24 12 *"}),
        (
            "Mon *-*-01..07 03:00",
            {"rrule": "FREQ=DAILY;BYDAY=MO;BYMONTHDAY=1,2,3,4,5,6,7;BYMINUTE=0;BYSECOND=0;BYHOUR=3"},
        ),
        ("*-02~01 03:00", {"rrule": "FREQ=DAILY;BYMONTHDAY=-1;BYMONTH=2;BYMINUTE=0;BYSECOND=0;BYHOUR=3"}),
        ("2028-*-* 03:00", {"cron": "0 3 * * *", "start": "2028-01-01T00:00:00", "end": "2028-12-31T23:59:59"}),
    ],
)
def test_a_calendar_event_of_systemd_becomes_a_rule(event: str, rule: dict[str, Any]) -> None:
    assert rule_of(event) == rule
    assert next_times(rule)


@pytest.mark.parametrize(
    "event",
    ["", "Mon..Someday 9:00", "*-*-32", "25:00", "*:*:0.5", "2028/2-*-*", "daily x", "*-*-* a:b"],
)
def test_a_calendar_event_that_is_none_is_refused(event: str) -> None:
    with pytest.raises(Rejected):
        rule_of(event)


def test_time_spans_are_read() -> None:
    assert [seconds_of(text) for text in ("90", "1h 30min", "2days", "500ms", "1M")] == [
        90,
        5400,
        172_800,
        0.5,
        2_629_800,
    ]
    with pytest.raises(Rejected):
        seconds_of("soon")


@pytest.mark.parametrize(
    ("expression", "cron"),
    [
        ("0 0 12 * * ?", "0 12 * * *"),
        ("0 15 10 ? * 2-6", "15 10 * * MON,TUE,WED,THU,FRI"),
        ("0 15 10 ? * 1", "15 10 * * SUN"),
        ("0 15 10 ? * FRI-MON", "15 10 * * FRI,SAT,SUN,MON"),
        ("0 15 10 ? * 6L", "15 10 * * FRIL"),
        ("0 15 10 ? * 6#3", "15 10 * * FRI#3"),
        ("0 15 10 ? * L", "15 10 * * SAT"),
        ("0 15 10 ? * 1/2", "15 10 * * SUN,TUE,THU,SAT"),
        ("0 0 9 LW * ?", "0 9 LW * *"),
        ("0 0 9 15W JAN,MAR ?", "0 9 15W 1,3 *"),
        ("5 0/5 14,18 * * ?", "5 0/5 14,18 * * *"),
        ("0 0 22-2 * * ?", "0 22-23,0-2 * * *"),
    ],
)
def test_a_line_of_quartz_becomes_a_cron_line(expression: str, cron: str) -> None:
    found = quartz(expression)
    assert found.rule == {"cron": cron}
    assert next_times(found.rule)
    counted = any(character.isdigit() for character in expression.split()[5])
    assert any("Sunday = 1" in note for note in found.notes) == counted


def test_the_rest_of_quartz_is_mapped_or_refused() -> None:
    before_last = quartz("report.end = 0 0 9 L-2 1,2 ?")
    assert before_last.title == "report.end"
    assert next_times(before_last.rule) == ["2027-01-29T09:00", "2027-02-26T09:00", "2028-01-29T09:00"]
    years = quartz("0 0 9 1 1 ? 2028-2029")
    assert next_times(years.rule) == ["2028-01-01T09:00", "2029-01-01T09:00"]
    text = "# told\n0 0 0 1 1 1\n0 0 12 * *\n0 0 12 ? * 8\n0 0 12 * * ? 2027,2029\n0 0 12 ? * 2/0\n"
    found, problems = parse_quartz(text)
    assert found == []
    assert [problem.line for problem in problems] == [2, 3, 4, 5, 6]


def test_expressions_of_eventbridge_become_schedules() -> None:
    found, problems = parse_eventbridge(
        "cron(0 10 ? * MON-FRI *)\nnightly: cron(15 2 ? * 1 *)\nrate(5 minutes)\nat(2027-11-20T13:00:00)\n"
        "rate(0 days)\nx\n"
    )
    assert [one.rule for one in found] == [
        {"cron": "0 10 * * MON,TUE,WED,THU,FRI"},
        {"cron": "15 2 * * SUN"},
        {"every": 300},
        {"at": ["2027-11-20T13:00:00"]},
    ]
    assert (found[1].title, "Sunday = 1" in found[1].notes[0]) == ("nightly", True)
    assert [problem.line for problem in problems] == [5, 6]


def test_what_eventbridge_lists_is_read() -> None:
    text = """{"Schedules": [
      {"Name": "a", "ScheduleExpression": "rate(1 day)", "State": "DISABLED", "Target": {"Arn": "arn:x"}},
      {"Name": "b", "EventPattern": "{}"},
      {"Name": "c", "ScheduleExpression": "cron(0 10 1 * ? *)", "ScheduleExpressionTimezone": "Asia/Tokyo",
       "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15},
       "StartDate": "2027-03-01T00:00:00+00:00"},
      {"Name": "d", "ScheduleExpression": "cron(0 10 1 * ? *)", "ScheduleExpressionTimezone": "Nowhere"}]}"""
    (first, second), (problem,) = parse_eventbridge(text)
    assert (first.title, first.paused, first.notes) == ("a", True, ("its target is arn:x",))
    assert second.rule == {
        "cron": "0 10 1 * *",
        "timezone": "Asia/Tokyo",
        "start": "2027-03-01T00:00:00+00:00",
        "jitter": 900,
    }
    assert (problem.line, "Nowhere" in problem.reason) == (7, True)
    assert "nothing in it" in parse_eventbridge("{}")[1][0].reason
    assert "not JSON" in parse_eventbridge("{")[1][0].reason
