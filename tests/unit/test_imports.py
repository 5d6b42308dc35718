"""What lines of other schedulers become: read as those read them, named forever, refused with a reason."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota_server.apps.cli.imports.crontab import Entry, parse_crontab
from rota_server.apps.cli.imports.plans import Names, Plan, plan_of_entry, plan_of_line, stale
from rota_server.apps.cli.imports.workflows import parse_workflow
from rota_server.apps.store.schedules.parsing import parse_schedule
from rota_server.domain.builtin.tasks import check_arguments
from rota_server.domain.recurrence.cron import parse_cron

FIXTURES = Path(__file__).parents[1] / "fixtures" / "imports"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def entries_of(name: str, *, system: bool = False) -> tuple[list[Entry], dict[int, str]]:
    entries, problems = parse_crontab((FIXTURES / name).read_bytes(), system=system)
    return entries, {problem.line: problem.reason for problem in problems}


def one(text: str, *, system: bool = False) -> Entry:
    entries, problems = parse_crontab(text.encode(), system=system)
    assert problems == []
    (entry,) = entries
    return entry


def reason(text: str, *, system: bool = False) -> str:
    entries, problems = parse_crontab(text.encode(), system=system)
    assert entries == []
    (problem,) = problems
    return problem.reason


def test_a_users_crontab_is_read_as_cron_reads_it() -> None:
    entries, _ = entries_of("user")
    assert {entry.line: entry.rule for entry in entries} == {
        12: "30 4 * * 1",
        14: "*/10 * * * *",
        15: "0 9-17/2 * * MON-FRI",
        16: "0 0 1,15 * 5",
        17: "@weekly",
        25: "15 2 * * *",
        26: "15 2 * * *",
    }
    rotate, ping, report, either, weekly, nightly, _ = entries
    assert rotate.command == "/srv/shop/bin/rotate --keep 14 >> /srv/shop/log/rotate.log 2>&1"
    assert rotate.comment == "Rotate what the shop has written.\nTakes an hour on Mondays."
    assert "ada@example.org" in rotate.notes[0]
    assert ping.command == "curl -fsS https://example.org/ping?x=1%2B2 > /dev/null"
    assert ping.comment == ""
    assert (report.command, report.stdin) == ("cat > /tmp/report", "Dear all,\n\nthe rate is 5%.\n\n")
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GREETING": "  hello  ", "QUOTED NAME": "it''s"}
    assert either.env == env
    assert weekly.command == "printf '%s' \"$GREETING\""
    assert (weekly.shell, weekly.timezone) == ("sh", None)
    assert (nightly.shell, nightly.timezone, nightly.env) == (
        "/bin/bash",
        "Europe/Berlin",
        {**env, "HOME": "/srv/shop"},
    )


def test_what_cron_would_not_run_or_rota_can_not_is_named_with_its_line() -> None:
    _, problems = entries_of("user")
    assert sorted(problems) == [18, 19, 20, 21, 29]
    assert "@reboot" in problems[18]
    assert "never comes" in problems[19]
    assert "step of 0" in problems[20]
    assert problems[21] == "4 fields; an entry has five for the time, and a command"
    assert "Mars/Olympus" in problems[29]


def test_a_machines_crontab_names_a_user() -> None:
    entries, problems = entries_of("system", system=True)
    assert [(entry.line, entry.user) for entry in entries] == [
        (5, "root"),
        (6, "root"),
        (7, "www-data"),
        (8, "postgres"),
        (11, "backup"),
    ]
    assert problems == {9: "there is no command behind the user"}
    assert entries[0].command == "cd / && run-parts --report /etc/cron.hourly"
    assert "ran as root" in entries[0].notes[0]
    assert (entries[2].rule, len(entries[2].notes)) == ("*/15 * * * *", 2)
    last = entries[-1]
    assert (last.timezone, last.command, last.stdin) == ("America/New_York", "/opt/backup/run ", "--noon\n")
    assert last.env["TZ"] == ":America/New_York"


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("A=b", "A", "b"),
        ("  A\t=  b c  ", "A", "b c"),
        ('A = " b "', "A", " b "),
        ("A=' b '", "A", " b "),
        ('"A B"=c', "A B", "c"),
        ("A=$B/c", "A", "$B/c"),
        ("A=", "A", ""),
        ("A=\"b'", "A", "\"b'"),
    ],
)
def test_assignments_are_taken_as_they_stand(line: str, name: str, value: str) -> None:
    assert one(f"{line}\n* * * * * x").env == {name: value}


def test_an_assignment_within_a_command_is_part_of_it() -> None:
    assert one("* * * * * A=b c").command == "A=b c"
    assert one("@hourly A=b c").command == "A=b c"


def test_comments_belong_to_the_entry_right_below_them() -> None:
    entries, _ = parse_crontab(b"# far\n\n# near\n#   nearer\n* * * * * a\n* * * * * b\n# env\nX=1\n* * * * * c\n")
    assert [entry.comment for entry in entries] == ["near\nnearer", "", ""]


def test_line_ends_of_other_systems_and_a_missing_last_one_do_no_harm() -> None:
    entries, problems = parse_crontab(b"A=b\r\n* * * * * x\r\n* * * * * y")
    assert problems == []
    assert [(entry.command, entry.env) for entry in entries] == [("x", {"A": "b"}), ("y", {"A": "b"})]


def test_what_is_no_line_of_a_crontab_is_refused() -> None:
    assert "not UTF-8" in parse_crontab(b"* * * * * \xff\n")[1][0].reason
    assert "is none of" in reason("@sometimes x")
    assert "fields" in reason("hello world")
    assert reason("* * * * * %only input") == "there is no command"
    assert "day of week" in reason("* * * * root x") + reason("* * * * nobody x")


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("cat%one%two", "one\ntwo\n"),
        (r"echo 100\% sure", "100% sure\n"),
        (r"cat%50\%", "50%\n"),
        ("cat%", "\n"),
        ('echo "$A"', "x y\n"),
    ],
)
def test_the_command_does_what_cron_would_have_done(line: str, printed: str) -> None:
    args = planned(f"A=x y\n* * * * * {line}").request["job"]["args"]
    done = subprocess.run(
        args["command"], env=args["env"] | {"PATH": "/usr/bin:/bin"}, input=args.get("stdin", ""), text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == printed


def planned(text: str, **options: Any) -> Plan:
    names = Names("here")
    return plan_of_entry(one(text), names, **{"timezone": "UTC", "queue": None, **options})


def test_a_line_becomes_a_schedule_that_the_store_takes() -> None:
    for fixture, system in (("user", False), ("system", True)):
        names = Names("here")
        for entry in entries_of(fixture, system=system)[0]:
            plan = plan_of_entry(entry, names, timezone="Europe/Paris", queue="cron")
            request = parse_schedule(plan.request)
            assert request.timezone == (entry.timezone or "Europe/Paris")
            assert request.job["queue"] == "cron"
            assert (request.job["retry"], request.job["timeout"]) == ({"max_attempts": 1, "max_losses": 0}, None)
            check_arguments("shell.run", request.job["args"])
            assert len(plan.next_times(NOW)) == 3


def test_home_is_where_the_command_runs() -> None:
    assert planned("HOME=/srv\n* * * * * x").request["job"]["args"]["cwd"] == "/srv"
    assert "cwd" not in planned("* * * * * x").request["job"]["args"]


def names_of(text: str, source: str = "here") -> list[str]:
    names = Names(source)
    return [plan_of_entry(e, names, timezone="UTC", queue=None).name for e in parse_crontab(text.encode())[0]]


def test_a_name_follows_from_the_line_and_its_source_alone() -> None:
    text = (FIXTURES / "user").read_text()
    assert names_of(text) == names_of("# more\n\n" + text)
    assert len(set(names_of(text))) == len(names_of(text)) == 7
    assert names_of(text)[-1] == names_of(text)[-2] + "-2"
    assert not set(names_of(text)) & set(names_of(text, "there"))
    assert names_of("1 * * * * x") != names_of("2 * * * * x")
    assert names_of("A=1\n* * * * * x") != names_of("A=2\n* * * * * x")


def test_schedules_without_a_line_are_stale() -> None:
    plan = planned("* * * * * x")
    found = [(plan.name, "active"), ("old", "active"), ("older", "archived"), ("ill", "paused")]
    assert stale([{"name": name, "state": state} for name, state in found], [plan]) == ["old", "ill"]


def test_cron_lines_of_a_workflow_are_read_with_their_zones() -> None:
    lines, problems = parse_workflow((FIXTURES / "workflow.yml").read_text())
    assert [(line.line, line.rule, line.timezone, line.workflow) for line in lines] == [
        (6, "30 5 * * 1,3", "UTC", "Nightly checks"),
        (7, "30 5 * * 2,4", "Europe/Berlin", "Nightly checks"),
    ]
    assert [(problem.line, problem.text) for problem in problems] == [
        (9, "@daily"),
        (10, "0 0 * *"),
        (11, "0 25 * * *"),
        (12, ""),
    ]
    assert "hour" in problems[2].reason


def test_a_plain_list_of_cron_lines_will_do() -> None:
    lines, problems = parse_workflow((FIXTURES / "list.yml").read_text())
    assert problems == []
    assert [(line.rule, line.timezone) for line in lines] == [("0 6 * * *", "UTC"), ("15 6 * * 1-5", "Asia/Kolkata")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("on: push", "no list under"),
        ("on: [push]", "no list under"),
        ("on:\n  schedule: daily", "no list under"),
        ("on: {schedule: [", "not YAML"),
        ("on:\n  schedule:\n    - cron: */15 * * * *\n", "write '*/15 * * * *'"),
        ("- * 3 * * *\n", "write '* 3 * * *'"),
        ("", "no list under"),
        ("- [1]", "an item is a cron line"),
        ("- {cron: '0 0 * * *', timezone: Nowhere}", "Nowhere"),
        ("- {cron: '0 0 * * *', branch: x}", "branch"),
    ],
)
def test_what_is_no_workflow_is_refused(text: str, said: str) -> None:
    lines, problems = parse_workflow(text)
    assert lines == []
    assert said in problems[0].reason


def line_plan(task: str | None, args: Mapping[str, Any]) -> Plan:
    (line,), _ = parse_workflow("name: My Checks\non: {schedule: [{cron: '0 6 * * *'}]}")
    return plan_of_line(line, Names("x/ci.yml"), task=task, args=args, timezone=None, queue=None)


def test_a_workflow_runs_the_task_that_is_named() -> None:
    plan = line_plan("ci.run", {"workflow": "nightly"})
    assert parse_schedule(plan.request).job == {"task": "ci.run", "args": {"workflow": "nightly"}}
    assert plan.name.startswith("My-Checks-")
    assert "workflow My Checks" in plan.request["notes"]
    assert line_plan("ci.run", {}).name != plan.name


def test_without_a_task_a_workflow_only_shows_its_times() -> None:
    plan = line_plan(None, {})
    assert "job" not in plan.request
    assert plan.notes == ("say what it runs: --task",)
    assert next(tick["utc"] for tick in plan.next_times(NOW)) == "2026-11-25T06:00:00Z"


FIELD = st.sampled_from(["*", "*/5", "1-5", "1,2,3", "5"])


@given(st.lists(FIELD, min_size=5, max_size=5), st.text(st.characters(exclude_characters="\n\r%\\", codec="utf-8")))
def test_any_entry_keeps_its_rule_and_its_command(fields: list[str], command: str) -> None:
    line = " ".join(fields) + " x" + command
    entries, problems = parse_crontab(line.encode())
    assert problems == []
    assert [(entry.rule, entry.command) for entry in entries] == [(" ".join(fields), "x" + command)]
    parse_cron(entries[0].rule)


@given(st.binary(max_size=300), st.booleans())
def test_nothing_makes_the_reader_stumble(data: bytes, system: bool) -> None:  # noqa: FBT001
    entries, problems = parse_crontab(data, system=system)
    lines = [entry.line for entry in entries] + [problem.line for problem in problems]
    assert len(lines) == len(set(lines)) <= data.count(b"\n") + 1
