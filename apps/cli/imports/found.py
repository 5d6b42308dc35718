"""What other schedulers' files say, in Rota's terms: a rule, policies, perhaps a job, and what is to be told. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rota_server.apps.cli.imports.plans import SOURCE_TAG, Names, Plan
from rota_server.domain.builtin.tasks import BUILTIN_TASKS, check_arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One schedule of a file.

    `rule`: fields of `POST /v1/schedules` that say when, without a zone where the file names none. `policies`: further
    such fields. `job`: what it runs, None when the file does not say it in a way that Rota could run.
    """

    line: int
    title: str
    rule: dict[str, Any]
    policies: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] | None = None
    paused: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line says for all schedules of a source; a `task` stands for whatever the file runs."""

    task: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    timezone: str | None = None
    default_timezone: str = "UTC"
    queue: str | None = None


def plan_of_found(found: Found, names: Names, wanted: Wanted) -> Plan:
    """The schedule to be. Raises Rejected."""
    timezone = wanted.timezone or found.rule.get("timezone") or wanted.default_timezone
    rule = {**found.rule, "timezone": timezone}
    job, notes = found.job, list(found.notes)
    if wanted.task is not None:
        job = {"task": wanted.task, "args": dict(wanted.args)}
    if job is None:
        notes.append("say what it runs: --task")
    elif job["task"] in BUILTIN_TASKS:
        check_arguments(job["task"], job["args"])
    if found.paused:
        notes.append("it is suspended there, so it is created paused")
    about = f"line {found.line} of {names.source}"
    request: dict[str, Any] = {
        "name": names.name(found.title, [rule, found.policies, job]),
        **rule,
        **found.policies,
        "tags": {SOURCE_TAG: names.source},
        "notes": "\n".join((*notes, about)),
    }
    if job is not None:
        request["job"] = job | ({} if wanted.queue is None else {"queue": wanted.queue})
    return Plan(line=found.line, name=request["name"], request=request, notes=tuple(notes), paused=found.paused)
