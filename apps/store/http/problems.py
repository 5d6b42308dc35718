"""Errors as `application/problem+json` (RFC 9457). Never a traceback, never a secret."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from rota_server.apps.store.http.json_body import shown
from rota_server.domain.errors import NotFound, NotPossible, NotUnique, Rejected, Unavailable

MEDIA_TYPE = "application/problem+json"
DETAIL_LIMIT_CHARS = 1000
STATUSES = {
    "malformed-json": 400,
    "too-large": 413,
    "key-reused": 409,
    "media-type": 415,
    "unauthenticated": 401,
    "forbidden": 403,
}
TITLES = {
    400: "Bad request",
    401: "Authentication needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid",
    500: "Internal error",
    503: "Unavailable",
}


def status_of(error: Rejected) -> int:
    """The HTTP status that stands for this refusal."""
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, NotPossible):
        return 409
    return STATUSES.get(error.code, 422)


def problem(status: int, detail: str, *, code: str | None = None, field: str | None = None) -> dict[str, Any]:
    """The problem document."""
    document: dict[str, Any] = {
        "type": f"urn:rota:problem:{code}" if code else "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail[:DETAIL_LIMIT_CHARS],
    }
    if code is not None:
        document["code"] = code
    if field is not None:
        document["field"] = shown(field)
    return document


def problem_of(error: Rejected | Unavailable, *, writing: bool = True) -> dict[str, Any]:
    """The problem document of a refusal, or of a server that is away while something was to be read or written."""
    if isinstance(error, Unavailable):
        detail = f"{error.server} does not answer now"
        if writing:
            detail += "; whether the request took effect is unknown. With an Idempotency-Key it can safely be repeated"
        return problem(503, detail, code="unavailable")
    document = problem(status_of(error), error.message, code=error.code, field=error.field)
    if isinstance(error, NotUnique):
        document["job"] = str(error.job)
    return document


def problem_response(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """The response that carries the document."""
    content = orjson.dumps(document, default=str)
    return Response(content, document["status"], headers, MEDIA_TYPE)
