"""Reads cron lines from YAML: workflows of GitHub Actions (`on: schedule:`), or a plain list. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from rota_server.apps.cli.imports.crontab import Problem
from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.cron import parse_cron
from rota_server.domain.recurrence.zones import parse_zone_name

FIELDS = frozenset({"cron", "timezone"})
UNQUOTED_STAR = re.compile(r"(?:^|[:\-]\s+)(\*[^'\"#]*)")
SHOWN_CHARS = 100
MACRO = "GitHub knows five fields only; write them out"


@dataclass(frozen=True, slots=True, kw_only=True)
class CronLine:
    """One cron line of a workflow; its times are UTC unless it says otherwise."""

    line: int
    rule: str
    timezone: str
    workflow: str | None


def parse_workflow(text: str) -> tuple[list[CronLine], list[Problem]]:
    """The cron lines and the problems of a workflow or a list, in order."""
    try:
        # Nodes, not values: they know their lines, and `on` is not yet the truth value that YAML 1.1 makes of it.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        line = mark.line if mark else 0
        shown = text.splitlines()[line].strip() if line < len(text.splitlines()) else ""
        starred = UNQUOTED_STAR.search(shown)
        if starred is not None:
            reason = f"a * that is not quoted is a reference to YAML: write '{starred[1].strip()}'"
        return [], [Problem(line=line + 1, text=shown[:SHOWN_CHARS], reason=f"this is not YAML: {reason}")]
    if isinstance(root, yaml.SequenceNode):
        return _lines(root, None)
    schedule = _under(_under(root, "on"), "schedule")
    if not isinstance(schedule, yaml.SequenceNode):
        line = 1 if schedule is None else _line_of(schedule)
        return [], [Problem(line=line, text="", reason="there is no list under `on: schedule:`")]
    name = _under(root, "name")
    return _lines(schedule, name.value if isinstance(name, yaml.ScalarNode) else None)


def _lines(items: yaml.SequenceNode, workflow: str | None) -> tuple[list[CronLine], list[Problem]]:
    lines: list[CronLine] = []
    problems: list[Problem] = []
    for item in items.value:
        try:
            lines.append(_cron_line(item, workflow))
        except Rejected as error:
            rule = item if isinstance(item, yaml.ScalarNode) else _under(item, "cron")
            shown = rule.value if isinstance(rule, yaml.ScalarNode) else ""
            problems.append(Problem(line=_line_of(item), text=shown, reason=error.message))
    return lines, problems


def _cron_line(item: yaml.Node, workflow: str | None) -> CronLine:
    rule, zone = (item, None) if isinstance(item, yaml.ScalarNode) else (_under(item, "cron"), _under(item, "timezone"))
    if not isinstance(rule, yaml.ScalarNode):
        raise Rejected("an item is a cron line, or has one under `cron`")
    for key, _ in _pairs(item):
        if key.value not in FIELDS:
            raise Rejected(f"{key.value!r} is not understood")
    if rule.value.strip().startswith("@"):
        raise Rejected(MACRO)
    if len(rule.value.split()) != 5:
        raise Rejected(f"{len(rule.value.split())} fields; five are needed")
    parse_cron(rule.value)
    timezone = "UTC" if not isinstance(zone, yaml.ScalarNode) else parse_zone_name(zone.value)
    return CronLine(line=_line_of(rule), rule=rule.value.strip(), timezone=timezone, workflow=workflow)


def _pairs(node: yaml.Node | None) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            yield key, value


def _under(node: yaml.Node | None, name: str) -> yaml.Node | None:
    return next((value for key, value in _pairs(node) if key.value == name), None)


def _line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
