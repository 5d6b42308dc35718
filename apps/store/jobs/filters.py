"""Which jobs a list or an action means, from query parameters or a JSON object.

A filter that is not understood is refused: ignored, it would make an action hit more jobs than were meant.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from starlette.requests import Request

from rota_server.apps.store.http.json_body import shown
from rota_server.apps.store.http.requests import instant_of
from rota_server.domain.errors import Rejected
from rota_server.domain.ids import resource_id
from rota_server.domain.jobs.job import STATES
from rota_server.domain.ports.indexes import JobFilter

TEXTS = ("state", "queue", "task", "submitted_after", "submitted_before")
FILTERS = frozenset({*TEXTS, "tag", "schedule", "origin"})
PAGING = frozenset({"limit", "cursor", "at_least"})
TEXT_LIMIT_CHARS = 300


def filter_of_query(request: Request) -> JobFilter:
    """The filter in the query. Raises Rejected."""
    values = request.query_params
    _refuse_unknown(set(values) - FILTERS - PAGING, "")
    return _filter({name: values[name] for name in FILTERS & set(values)}, values.getlist("tag"), "")


def filter_of_json(value: Any) -> JobFilter:
    """The filter in a body, which must not be empty. Raises Rejected."""
    if not isinstance(value, dict) or not value:
        message = "filter: must be a JSON object with at least one filter"
        raise Rejected(message, field="filter", code="missing" if value is None else "invalid-argument")
    _refuse_unknown(set(value) - FILTERS, "filter.")
    tags = value.get("tag", [])
    tags = [tags] if isinstance(tags, str) else tags
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        message = "filter.tag: must be a text name:value, or a list of such"
        raise Rejected(message, field="filter.tag", code="invalid-argument")
    return _filter(value, tags, "filter.")


def _refuse_unknown(names: set[str], prefix: str) -> None:
    if names:
        name = prefix + min(names)
        raise Rejected(f"{shown(name)}: there is no such filter", field=name, code="unknown-field")


def _filter(values: dict[str, Any], tags: list[str], prefix: str) -> JobFilter:
    texts = {name: _text(values.get(name), prefix + name) for name in (*TEXTS, "schedule", "origin")}
    state, after, before = texts["state"], texts["submitted_after"], texts["submitted_before"]
    if state is not None and state not in STATES:
        message = f"{prefix}state: must be one of {', '.join(STATES)}"
        raise Rejected(message, field=f"{prefix}state", code="invalid-argument")
    return JobFilter(
        state=state,
        queue=texts["queue"],
        task=texts["task"],
        tags=_tags(tags, f"{prefix}tag"),
        submitted_after=None if after is None else instant_of(after, f"{prefix}submitted_after"),
        submitted_before=None if before is None else instant_of(before, f"{prefix}submitted_before"),
        origin_id=_origin(texts["schedule"], texts["origin"], prefix),
    )


def _origin(schedule: str | None, origin: str | None, prefix: str) -> UUID | None:
    """What has made the jobs: the schedule with this id or name, or the workflow, batch or trigger with this id."""
    if schedule is not None and origin is not None:
        message = f"{prefix}origin: schedule and origin exclude each other"
        raise Rejected(message, field=f"{prefix}origin", code="invalid-argument")
    text = origin if schedule is None else schedule
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        if schedule is not None:
            return resource_id("schedule", schedule)
        message = f"{prefix}origin: must be the id of a workflow, batch, schedule or trigger"
        raise Rejected(message, field=f"{prefix}origin", code="invalid-argument") from None


def _tags(tags: list[str], field: str) -> dict[str, str]:
    pairs = {}
    for tag in tags:
        name, separator, value = (_text(tag, field) or "").partition(":")
        if not separator or not name:
            raise Rejected(f"{field}: must be name:value", field=field, code="invalid-argument")
        pairs[name] = value
    return pairs


def _text(value: Any, field: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or "\x00" in value or len(value) > TEXT_LIMIT_CHARS:
        message = f"{field}: must be a text of up to {TEXT_LIMIT_CHARS} characters"
        raise Rejected(message, field=field, code="invalid-argument")
    return value
