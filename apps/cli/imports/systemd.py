"""Reads timers of systemd, and the services that they start. Pure: texts in, schedules and problems out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from rota_server.apps.cli.imports.crontab import Problem
from rota_server.apps.cli.imports.found import Found
from rota_server.apps.cli.imports.on_calendar import rule_of
from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.limits import JITTER_SECONDS_MAXIMUM, RULES_MAXIMUM

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-zµ]*)")
_UNITS = {
    **dict.fromkeys(("us", "usec", "µs"), 0.000001), **dict.fromkeys(("ms", "msec"), 0.001),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0), **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0), **dict.fromkeys(("M", "month", "months"), 2_629_800.0),
    **dict.fromkeys(("y", "year", "years"), 31_557_600.0),
}  # fmt: skip
_TRUE = frozenset({"1", "yes", "y", "true", "t", "on"})
_ONCE_FROM = ("OnActiveSec", "OnBootSec", "OnStartupSec")
_AGAIN_AFTER = ("OnUnitActiveSec", "OnUnitInactiveSec")
CAUGHT_UP_SECONDS = 366 * 86_400

Service = Callable[[str], "str | None"]
"""The text of a unit of that name beside the timer, None when there is none."""


class _Setting(NamedTuple):
    line: int
    section: str
    name: str
    value: str


def parse_timer(text: str, name: str, service: Service) -> tuple[list[Found], list[Problem]]:
    """The schedules and the problems of a timer; `name`: what its file is called, without `.timer`."""
    settings = _settings(text)
    timer = [setting for setting in settings if setting.section == "Timer"]
    if not timer:
        return [], [Problem(line=1, text="", reason="there is no section [Timer]")]
    job, notes = _job(_last(timer, "Unit") or f"{name}.service", service)
    policies = _policies(timer, notes)
    found: list[Found] = []
    problems: list[Problem] = []
    for setting in _rules(timer):
        try:
            rule, told = _rule(setting)
            found.append(
                Found(line=setting.line, title=name, rule=rule, policies=policies, job=job, notes=(*notes, *told))
            )
        except Rejected as error:
            problems.append(
                Problem(line=setting.line, text=f"{setting.name}={setting.value}"[:200], reason=error.message)
            )
    found = _together(found)
    if not found and not problems:
        problems.append(Problem(line=timer[0].line, text="", reason="the timer says nothing about when"))
    return found, problems


def _together(found: list[Found]) -> list[Found]:
    """Several lines that cron can say as one schedule: what two of them name starts the unit once."""
    zones = {one.rule.get("timezone") for one in found}
    if len(found) < 2 or len(found) > RULES_MAXIMUM or len(zones) > 1:
        return found
    if any(set(one.rule) - {"timezone"} != {"cron"} for one in found):
        return found
    return [replace(found[0], rule={**found[0].rule, "cron": [one.rule["cron"] for one in found]})]


def seconds_of(text: str) -> float:
    """A time span such as `1h 30min`, in seconds. Raises Rejected."""
    total, rest = 0.0, text.strip()
    while rest:
        match = _SPAN.match(rest)
        unit = None if match is None else _UNITS.get(match[2], _UNITS.get(match[2].lower()))
        if match is None or unit is None:
            raise Rejected(f"{text[:40]!r} is no time span such as 1h 30min")
        total += float(match[1]) * unit
        rest = rest[match.end() :].strip()
    return total


def _settings(text: str) -> list[_Setting]:
    settings: list[_Setting] = []
    section, begun, joined = "", 0, ""
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.strip()
        if not joined and (not line or line[0] in "#;"):
            continue
        if not joined and line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        begun = begun if joined else number
        joined += line
        if line.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        name, _, value = joined.partition("=")
        settings.append(_Setting(begun, section, name.strip(), value.strip()))
        joined = ""
    return settings


def _rules(timer: list[_Setting]) -> list[_Setting]:
    """Settings that say when; an empty one takes those before it back."""
    rules: list[_Setting] = []
    for setting in timer:
        if setting.name in {"OnCalendar", *_ONCE_FROM, *_AGAIN_AFTER}:
            rules = [*rules, setting] if setting.value else [r for r in rules if r.name != setting.name]
    again = any(setting.name in _AGAIN_AFTER for setting in rules)
    return [setting for setting in rules if not (again and setting.name in _ONCE_FROM)]


def _rule(setting: _Setting) -> tuple[dict[str, Any], list[str]]:
    if setting.name == "OnCalendar":
        return rule_of(setting.value), []
    if setting.name in _ONCE_FROM:
        raise Rejected(
            f"{setting.name} counts from the start of a machine or of systemd, which a schedule does not know"
        )
    note = f"{setting.name} counts from the last run there; here it is a fixed interval, without overlaps"
    return {"every": seconds_of(setting.value)}, [note]


def _policies(timer: list[_Setting], notes: list[str]) -> dict[str, Any]:
    persistent = (_last(timer, "Persistent") or "no").lower() in _TRUE
    late = {"policy": "latest", "window": CAUGHT_UP_SECONDS} if persistent else {"policy": "none"}
    policies: dict[str, Any] = {"overlap": "skip", "catch_up": late}
    delay = _last(timer, "RandomizedDelaySec")
    if delay:
        try:
            seconds = seconds_of(delay)
        except Rejected as error:
            notes.append(f"RandomizedDelaySec: {error.message}")
            return policies
        if seconds > JITTER_SECONDS_MAXIMUM:
            notes.append(f"RandomizedDelaySec of {delay} is cut to a day")
        policies["jitter"] = min(seconds, JITTER_SECONDS_MAXIMUM)
    return policies


def _job(unit: str, service: Service) -> tuple[dict[str, Any] | None, list[str]]:
    text = service(unit)
    if text is None:
        return None, [f"the unit {unit} is not beside the timer"]
    settings = [setting for setting in _settings(text) if setting.section == "Service"]
    starts: list[str] = []
    for setting in settings:
        if setting.name == "ExecStart":
            starts = [*starts, setting.value] if setting.value else []
    notes = [
        f"{setting.name} of {unit} is not mapped"
        for setting in settings
        if setting.name in {"ExecStartPre", "ExecStartPost", "EnvironmentFile", "ExecCondition", "LoadCredential"}
    ]
    if not starts:
        return None, [*notes, f"{unit} has no ExecStart"]
    args: dict[str, Any] = {"command": _command(starts, unit, notes)}
    environment = _environment([setting.value for setting in settings if setting.name == "Environment"])
    if environment:
        args["env"] = environment
    directory = _last(settings, "WorkingDirectory")
    if directory:
        args["cwd"] = directory.removeprefix("-")
    user = _last(settings, "User")
    if user:
        notes.append(f"ran as {user}; Rota runs it as the user of the executor")
    return {"task": "shell.run", "args": args, "retry": {"max_attempts": 1}, "timeout": None}, notes


def _command(starts: list[str], unit: str, notes: list[str]) -> list[str]:
    plain = [start.lstrip("@-:+!|") for start in starts]
    if any(start.startswith("-") for start in starts):
        notes.append(f"{unit} ignores failures (ExecStart=-); Rota reports them")
    if any("%" in start.replace("%%", "") for start in plain):
        notes.append(f"specifiers such as %i in {unit} are not replaced")
    plain = [start.replace("%%", "%") for start in plain]
    try:
        words = shlex.split(plain[0])
    except ValueError:
        words = []
    if len(plain) == 1 and words and "$" not in plain[0]:
        return words
    return ["sh", "-c", " && ".join(plain)]


def _environment(values: list[str]) -> dict[str, str]:
    environment: dict[str, str] = {}
    for value in values:
        try:
            words = shlex.split(value)
        except ValueError:
            words = value.split()
        environment.update((name, text) for name, equals, text in (word.partition("=") for word in words) if equals)
    return environment


def _last(settings: list[_Setting], name: str) -> str | None:
    return next((setting.value for setting in reversed(settings) if setting.name == name), None)
