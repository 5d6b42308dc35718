"""Reads schedules of EventBridge: expressions, one a line, or the JSON that its list commands print. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from rota_server.apps.cli.imports.crontab import Problem
from rota_server.apps.cli.imports.found import Found
from rota_server.apps.cli.imports.quartz import rule_of
from rota_server.apps.cli.imports.values import LinedMapping, load
from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.zones import parse_zone_name

_EXPRESSION = re.compile(r"(cron|rate|at)\((.*)\)", re.IGNORECASE)
_RATE = re.compile(r"(\d{1,6})\s+(minute|hour|day)s?", re.IGNORECASE)
_SECONDS = {"minute": 60, "hour": 3600, "day": 86_400}
_TITLED = re.compile(r"([A-Za-z_][\w.\-]*)\s*[=:]\s*((?:cron|rate|at)\(.*)", re.ASCII | re.IGNORECASE)


def parse_eventbridge(text: str) -> tuple[list[Found], list[Problem]]:
    """The schedules and the problems of a file, in order."""
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in {"{", "["}:
        return _parse_json(text)
    found: list[Found] = []
    problems: list[Problem] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        titled = _TITLED.fullmatch(line)
        title, expression = (titled[1], titled[2]) if titled is not None else ("eventbridge", line)
        try:
            rule, notes = _rule(expression.strip("\"' "))
            found.append(Found(line=number, title=title, rule=rule, notes=notes))
        except Rejected as error:
            problems.append(Problem(line=number, text=line[:200], reason=error.message))
    return found, problems


def _parse_json(text: str) -> tuple[list[Found], list[Problem]]:
    try:
        documents = load(text)
    except yaml.YAMLError as error:
        return [], [Problem(line=1, text="", reason=f"this is not JSON: {error}"[:300])]
    found: list[Found] = []
    problems: list[Problem] = []
    for item in _items(documents):
        expression = str(item["ScheduleExpression"])
        try:
            found.append(_described(item, expression))
        except Rejected as error:
            problems.append(Problem(line=item.line, text=expression[:200], reason=error.message))
    if not found and not problems:
        problems.append(Problem(line=1, text="", reason="nothing in it has a ScheduleExpression"))
    return found, problems


def _items(value: Any) -> Iterator[LinedMapping]:
    if isinstance(value, LinedMapping):
        if isinstance(value.get("ScheduleExpression"), str) and value["ScheduleExpression"]:
            yield value
        else:
            for inner in value.values():
                yield from _items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _items(inner)


def _described(item: LinedMapping, expression: str) -> Found:
    rule, notes = _rule(expression)
    told = list(notes)
    zone = item.get("ScheduleExpressionTimezone")
    if zone is not None:
        rule["timezone"] = parse_zone_name(zone)
    for name, ours in (("StartDate", "start"), ("EndDate", "end")):
        if isinstance(item.get(name), str):
            rule[ours] = item[name]
    window = item.get("FlexibleTimeWindow")
    if isinstance(window, Mapping) and window.get("Mode") == "FLEXIBLE":
        minutes = window.get("MaximumWindowInMinutes")
        if isinstance(minutes, int) and 0 < minutes <= 1440:
            rule["jitter"] = minutes * 60
    targets = item.get("Targets") or [item.get("Target")]
    told += [f"its target is {target['Arn']}" for target in targets if isinstance(target, Mapping) and "Arn" in target]
    paused = str(item.get("State", "ENABLED")).upper() == "DISABLED"
    title = str(item.get("Name") or "eventbridge")
    return Found(line=item.line, title=title, rule=rule, paused=paused, notes=tuple(told))


def _rule(text: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise Rejected("an expression is cron(...), rate(...) or at(...)")
    kind, body = match[1].lower(), match[2].strip()
    if kind == "rate":
        rate = _RATE.fullmatch(body)
        if rate is None or int(rate[1]) == 0:
            raise Rejected(f"{body!r} is no rate such as 5 minutes")
        return {"every": int(rate[1]) * _SECONDS[rate[2].lower()]}, ()
    if kind == "at":
        return {"at": [body]}, ()
    words = body.split()
    if len(words) != 6:
        raise Rejected(f"{len(words)} fields; six are needed: minute, hour, day of month, month, day of week, year")
    return rule_of(["0", *words])
