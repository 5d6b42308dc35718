"""What OpenAPI says of bodies that the routes read themselves."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_PROBLEM = {"description": "What is wrong, as application/problem+json."}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    return _inlined(schema, definitions)


def _inlined(value: Any, definitions: dict[str, Any]) -> Any:
    """The schema without references, since a route's extra can not add components."""
    if isinstance(value, dict):
        if "$ref" in value:
            return _inlined(definitions[value["$ref"].rpartition("/")[2]], definitions)
        return {key: _inlined(part, definitions) for key, part in value.items()}
    if isinstance(value, list):
        return [_inlined(part, definitions) for part in value]
    return value


def body(model: type[BaseModel], status: int, said: str) -> dict[str, Any]:
    """The options of a route with this body."""
    content = {"application/json": {"schema": _schema(model)}}
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}
    return {
        "status_code": status,
        "response_description": said,
        "responses": {422: _PROBLEM},
        "openapi_extra": {"requestBody": {"required": True, "content": content}, "parameters": [key]},
    }


def bulk(model: type[BaseModel]) -> dict[str, Any]:
    """The options of the bulk route."""
    schema = {"type": "array", "maxItems": 10_000, "items": _schema(model)}
    content = {"application/json": {"schema": schema}, "application/x-ndjson": {"schema": {"type": "string"}}}
    return {
        "responses": {422: _PROBLEM},
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def actions() -> dict[str, Any]:
    """The options of the route that acts on many jobs."""
    properties = {
        "action": {"enum": ["cancel", "retry", "reschedule"]},
        "filter": {"type": "object"},
        "dry_run": {"type": "boolean"},
        "reason": {"type": "string"},
        "run_at": {"type": "string", "format": "date-time"},
    }
    schema = {"type": "object", "properties": properties, "required": ["action", "filter"]}
    content = {"application/json": {"schema": schema}}
    return {"openapi_extra": {"requestBody": {"required": True, "content": content}}}


def job_list() -> dict[str, Any]:
    """The options of the list of jobs."""
    names = ("state", "queue", "task", "tag", "submitted_after", "submitted_before", "limit", "cursor", "at_least")
    return {"openapi_extra": {"parameters": [{"name": n, "in": "query", "schema": {"type": "string"}} for n in names]}}
