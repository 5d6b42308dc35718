"""What an import makes: one schedule for each line, with a name that follows from what it does. Pure.

The same line of the same source always has the same name. So an import can be repeated, and a line that was changed is
another schedule, whose predecessor is found by the tag of its source.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rota_server.apps.cli.imports.crontab import Entry
from rota_server.apps.cli.imports.workflows import CronLine
from rota_server.domain.builtin.tasks import BUILTIN_TASKS, check_arguments
from rota_server.domain.recurrence.preview import preview
from rota_server.domain.recurrence.timing import parse_timing

SOURCE_TAG = "imported-from"
SHOWN_TIMES = 3
SLUG_CHARS = 32
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._]+")
ONCE = {"max_attempts": 1, "max_losses": 0}
"""Cron tries once; and it sets no limit to how long a command may run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A schedule to be. `request` is the body of `POST /v1/schedules`; without a job it cannot be created.

    `paused`: it is paused as soon as it is there.
    """

    line: int
    name: str
    request: dict[str, Any]
    notes: tuple[str, ...] = ()
    paused: bool = False

    def next_times(self, after: datetime) -> list[dict[str, Any]]:
        """Its next times. Raises Rejected when it never comes."""
        return preview(parse_timing(self.request), after, SHOWN_TIMES)


@dataclass(slots=True)
class Names:
    """Gives each line of a source its name; lines that are the same get numbers."""

    source: str
    _seen: Counter[str] = field(default_factory=Counter)

    def name(self, title: str, content: Any) -> str:
        """The name of a line that does `content`; `title` is for people."""
        text = json.dumps([self.source, content], sort_keys=True, ensure_ascii=False)
        words = [word.rpartition("/")[2] for word in title.split()[:4]]
        slug = NOT_IN_NAMES.sub("-", " ".join(words)).strip("-.")[:SLUG_CHARS].rstrip("-.") or "line"
        name = f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
        self._seen[name] += 1
        return name if self._seen[name] == 1 else f"{name}-{self._seen[name]}"


def plan_of_entry(entry: Entry, names: Names, *, timezone: str, queue: str | None) -> Plan:
    """The schedule of a crontab's line; `timezone` where the crontab names none. Raises Rejected."""
    args: dict[str, Any] = {"command": [entry.shell, "-c", entry.command]}
    if entry.env:
        args["env"] = entry.env
    if entry.env.get("HOME"):
        args["cwd"] = entry.env["HOME"]
    if entry.stdin is not None:
        args["stdin"] = entry.stdin
    check_arguments("shell.run", args)
    rule = {"cron": entry.rule, "timezone": entry.timezone or timezone}
    job = _job("shell.run", args, queue) | {"retry": ONCE, "timeout": None}
    notes = "\n".join(text for text in (entry.comment, *entry.notes, f"line {entry.line} of {names.source}") if text)
    content = [rule, args, entry.user, *([entry.policies] if entry.policies else [])]
    name = names.name(entry.command, content)
    request = {
        "name": name,
        **rule,
        **entry.policies,
        "job": job,
        "tags": {SOURCE_TAG: names.source} | ({} if entry.user is None else {"user": entry.user}),
        "notes": notes,
    }
    return Plan(line=entry.line, name=name, request=request, notes=entry.notes)


def plan_of_line(
    cron: CronLine, names: Names, *, task: str | None, args: Mapping[str, Any], timezone: str | None, queue: str | None
) -> Plan:
    """The schedule of a workflow's cron line. Without a task it only shows when it would run. Raises Rejected."""
    rule = {"cron": cron.rule, "timezone": timezone or cron.timezone}
    title = cron.workflow or names.source.rpartition("/")[2].partition(".")[0]
    about = f"line {cron.line} of {names.source}"
    if cron.workflow is not None:
        about = f"workflow {cron.workflow}, {about}"
    request: dict[str, Any] = {
        "name": names.name(title, [rule, task, dict(args)]),
        **rule,
        "tags": {SOURCE_TAG: names.source},
        "notes": about,
    }
    if task is None:
        return Plan(line=cron.line, name=request["name"], request=request, notes=("say what it runs: --task",))
    if task in BUILTIN_TASKS:
        check_arguments(task, args)
    request["job"] = _job(task, dict(args), queue)
    return Plan(line=cron.line, name=request["name"], request=request)


def _job(task: str, args: dict[str, Any], queue: str | None) -> dict[str, Any]:
    return {"task": task, "args": args} | ({} if queue is None else {"queue": queue})


def stale(found: Iterable[Mapping[str, Any]], plans: Sequence[Plan]) -> list[str]:
    """The names of schedules of the same source, archived ones apart, that no line stands for any more."""
    wanted = {plan.name for plan in plans}
    living = (schedule["name"] for schedule in found if schedule["state"] != "archived")
    return [name for name in living if name not in wanted]
