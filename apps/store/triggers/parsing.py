"""From a request's JSON to a checked trigger. What depends on the event is checked when there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from rota_server.apps.store.http.json_body import check_depth
from rota_server.apps.store.jobs.parsing import parse_job
from rota_server.domain.builtin.tasks import BUILTIN_TASKS, check_templated_arguments
from rota_server.domain.errors import Rejected
from rota_server.domain.jobs.secret_references import check_secrets, secrets_in
from rota_server.domain.matching.patterns import compile_pattern
from rota_server.domain.matching.templates import check_template, holes, is_template, sample
from rota_server.domain.stored import without_defaults
from rota_server.domain.triggers.trigger import TEMPLATED, Definition

MATCH_LIMIT_BYTES = 32 * 1024
DESCRIPTION_LIMIT_CHARS = 1000
STAND_IN = "x"
"""In the place of a text that depends on the event, while the rest is checked."""

Known = Mapping[str, Mapping[str, Any]] | None


def parse_definition(value: Mapping[str, Any], now: datetime, known: Known) -> Definition:
    """The trigger's definition, from `match`, `job` and `description`. `known` as in `parse_job`. Raises Rejected."""
    match = value.get("match")
    if match is None:
        raise Rejected("match: is needed", field="match", code="missing")
    check_pattern(match)
    if value.get("job") is None:
        raise Rejected("job: is needed", field="job", code="missing")
    spec, templates = parse_template(value["job"], now, known)
    return Definition(
        match=match, job=value["job"], spec=spec, templates=templates, description=parse_description(value)
    )


def check_pattern(match: Any, field: str = "match") -> None:
    """Raise Rejected when the pattern is wrong or too large."""
    if isinstance(match, dict | list):
        check_depth(match, field)
    size = len(orjson.dumps(match))
    if size > MATCH_LIMIT_BYTES:
        raise Rejected(f"{field}: {size} bytes; the limit is {MATCH_LIMIT_BYTES}", field=field, code="too-large")
    compile_pattern(match, field)


def parse_description(value: Mapping[str, Any]) -> str | None:
    """A text for people. Raises Rejected."""
    text = value.get("description")
    if text is not None and (not isinstance(text, str) or len(text) > DESCRIPTION_LIMIT_CHARS):
        message = f"description: must be a text of up to {DESCRIPTION_LIMIT_CHARS} characters"
        raise Rejected(message, field="description", code="invalid-argument")
    return text


def parse_template(job: Any, now: datetime, known: Known) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job's fixed part as a JobSpec's JSON object, and the fields that are made from the event. Raises Rejected."""
    if not isinstance(job, dict):
        raise Rejected("job: must be a JSON object", field="job", code="wrong-type")
    check_depth(job, "job")
    try:
        templates = _templates(job)
        task, fixed = job.get("task"), _fixed(job, templates)
        if fixed.get("task") == task:
            spec = parse_job(fixed, now, known)
        else:
            args = sample(job["args"])
            secrets = secrets_in(args)
            check_secrets(str(task), secrets)
            check_templated_arguments(str(task), args, holes(job["args"]) | {one.place for one in secrets})
            spec = replace(parse_job(fixed, now, None), task=str(task))
    except Rejected as error:
        raise _within_job(error) from None
    return without_defaults(orjson.loads(orjson.dumps(replace(spec, run_at=None, expires_at=None)))), templates


def _templates(job: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("idempotency_key", "after", "after_mode", "on_failure"):
        if name in job:
            raise Rejected(f"{name}: has no place in a trigger's job", field=name, code="unknown-field")
    templates = {}
    for name in TEMPLATED:
        value = job.get(name)
        if value is None or not (is_template(value) or name == "delay"):
            if value is not None and name in ("run_at", "expires_at"):
                message = f'{name}: must come from the event, such as {{"$event": "data.at"}}; or use delay'
                raise Rejected(message, field=name, code="invalid-argument")
            continue
        check_template(value, name)
        if name == "tags" and not isinstance(value, dict):
            raise Rejected("tags: must be an object; its values may come from the event", field=name)
        if name == "args" and not isinstance(value, dict):
            raise Rejected("args: must be an object", field=name, code="invalid-argument")
        templates[name] = value
    if "run_at" in templates and "delay" in templates:
        raise Rejected("delay: run_at and delay exclude each other", field="delay", code="invalid-argument")
    return templates


def _fixed(job: Mapping[str, Any], templates: Mapping[str, Any]) -> dict[str, Any]:
    """The job with stand-ins where it depends on the event."""
    fixed = {name: value for name, value in job.items() if name not in ("run_at", "expires_at")}
    if "delay" in templates and is_template(templates["delay"]):
        fixed.pop("delay")
    if "key" in templates:
        fixed["key"] = STAND_IN
    if "tags" in templates:
        fixed["tags"] = {name: STAND_IN if is_template(part) else part for name, part in templates["tags"].items()}
    if "args" in templates and job.get("task") in BUILTIN_TASKS:
        # Its arguments are checked on their own.
        fixed["task"], fixed["args"] = STAND_IN, {}
    return fixed


def _within_job(error: Rejected) -> Rejected:
    field = "job" if error.field is None else f"job.{error.field}"
    return Rejected(f"job.{error.message}" if error.field else error.message, field=field, code=error.code)
