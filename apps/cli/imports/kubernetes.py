"""Reads manifests of Kubernetes for their CronJobs. Pure.

What a container runs becomes a command of `shell.run` on the executor's machine; its image cannot be mapped: told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from rota_server.apps.cli.imports.crontab import Problem
from rota_server.apps.cli.imports.found import Found
from rota_server.apps.cli.imports.values import LinedMapping, load
from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.cron import parse_cron
from rota_server.domain.recurrence.zones import parse_zone_name

OVERLAPS = {"Allow": "allow", "Forbid": "skip", "Replace": "replace"}
_WINDOW_MAXIMUM = 366 * 86_400
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)")
_EVERY = re.compile(r"@every\s+((?:\d+(?:\.\d+)?[hms])+)")
_PART = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)([hms])")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def parse_manifests(text: str) -> tuple[list[Found], list[Problem]]:
    """The CronJobs and the problems of a file, in order."""
    try:
        documents = load(text.removeprefix("\ufeff"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        return [], [Problem(line=mark.line + 1 if mark else 1, text="", reason=f"this is not YAML: {reason}"[:300])]
    found: list[Found] = []
    problems: list[Problem] = []
    for item in _items(documents):
        title = str(_under(item, "metadata", "name") or "cronjob")
        try:
            found.append(_cron_job(item, title))
        except Rejected as error:
            problems.append(Problem(line=item.line, text=f"CronJob {title}"[:200], reason=error.message))
    if not found and not problems:
        problems.append(Problem(line=1, text="", reason="there is no CronJob in it"))
    return found, problems


def _items(documents: list[Any]) -> Iterator[LinedMapping]:
    for document in documents:
        if not isinstance(document, LinedMapping):
            continue
        if document.get("kind") == "CronJob":
            yield document
        elif str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            yield from _items(document["items"])


def _cron_job(item: LinedMapping, title: str) -> Found:
    spec = item.get("spec")
    if not isinstance(spec, Mapping) or not isinstance(spec.get("schedule"), str):
        raise Rejected("spec.schedule is missing")
    rule, notes = _rule(spec)
    policies = _policies(spec)
    job, job_notes = _job(spec)
    namespace = _under(item, "metadata", "namespace")
    if namespace is not None:
        notes.append(f"namespace {namespace}")
    paused = spec.get("suspend") is True
    return Found(
        line=item.line, title=title, rule=rule, policies=policies, job=job, paused=paused, notes=(*notes, *job_notes)
    )


def _rule(spec: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    text, zone = str(spec["schedule"]).strip(), spec.get("timeZone")
    prefixed = _ZONE.fullmatch(text)
    if prefixed is not None:
        zone, text = zone or prefixed[1], prefixed[2].strip()
    notes = [] if zone is not None else ["no timeZone: the controller's is meant, which is usually UTC"]
    named = {} if zone is None else {"timezone": parse_zone_name(zone)}
    every = _EVERY.fullmatch(text)
    if every is not None:
        return {"every": sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(every[1])), **named}, notes
    words = text.replace("?", "*").split()
    if len(words) == 5:
        # There a star with a step restricts its field; read as Debian's cron reads it, it would not.
        for place, whole in ((2, "1-31"), (4, "0-6")):
            if words[place].startswith("*/") and words[place] != "*/1":
                words[place] = whole + words[place][1:]
    rule = " ".join(words)
    parse_cron(rule)
    return {"cron": rule, **named}, notes


def _policies(spec: Mapping[str, Any]) -> dict[str, Any]:
    policy = spec.get("concurrencyPolicy", "Allow")
    if policy not in OVERLAPS:
        raise Rejected(f"concurrencyPolicy: {str(policy)[:40]!r} is none of {', '.join(OVERLAPS)}")
    policies: dict[str, Any] = {"overlap": OVERLAPS[policy]}
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None:
        if isinstance(deadline, bool) or not isinstance(deadline, int) or deadline < 0:
            raise Rejected("startingDeadlineSeconds is no number of seconds")
        policies["catch_up"] = {"policy": "latest", "window": min(deadline, _WINDOW_MAXIMUM)}
    return policies


def _job(spec: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    job_spec = _under(spec, "jobTemplate", "spec")
    pod = _under(job_spec, "template", "spec")
    containers = _under(pod, "containers")
    if not isinstance(containers, list) or not containers or not isinstance(containers[0], Mapping):
        return None, ["it has no container"]
    container = containers[0]
    notes = [f"the image {container.get('image')} is not used: the command runs on the executor's machine"]
    notes += [f"{len(containers) - 1} more containers do not run"] if len(containers) > 1 else []
    notes += [f"{name} is not mapped" for name in ("initContainers", "volumes") if _under(pod, name)]
    notes += [
        f"{name}: {value} is not mapped"
        for name in ("parallelism", "completions")
        if (value := _under(job_spec, name)) not in {None, 1}
    ]
    command = [*_texts(container.get("command")), *_texts(container.get("args"))]
    if not container.get("command"):
        return None, [*notes, "its command is that of the image"]
    args: dict[str, Any] = {"command": command}
    environment = _environment(container, notes)
    if environment:
        args["env"] = environment
    if isinstance(container.get("workingDir"), str):
        args["cwd"] = container["workingDir"]
    limit = _under(job_spec, "backoffLimit")
    job: dict[str, Any] = {"task": "shell.run", "args": args}
    job["retry"] = {"max_attempts": min(limit if isinstance(limit, int) else 6, 99) + 1}
    seconds = _under(job_spec, "activeDeadlineSeconds")
    job["timeout"] = seconds if isinstance(seconds, int) and seconds > 0 else None
    return job, notes


def _environment(container: Mapping[str, Any], notes: list[str]) -> dict[str, str]:
    environment: dict[str, str] = {}
    for item in container.get("env") or ():
        if isinstance(item, Mapping) and isinstance(item.get("name"), str):
            if "valueFrom" in item:
                notes.append(f"the variable {item['name']} comes from elsewhere and is not set")
            else:
                environment[item["name"]] = str(item.get("value") or "")
    if container.get("envFrom"):
        notes.append("envFrom is not mapped")
    return environment


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _under(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
