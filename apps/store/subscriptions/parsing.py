"""From a request's JSON to a checked subscription."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from rota_server.adapters.http.addresses import AddressRefused, check_host
from rota_server.apps.store.http.json_body import check_depth, shown
from rota_server.apps.store.jobs.parsing import DelaysRequest
from rota_server.apps.store.triggers.parsing import parse_description
from rota_server.domain.errors import Rejected
from rota_server.domain.matching.patterns import compile_pattern
from rota_server.domain.subscriptions.subscription import NAMES, Definition
from rota_server.domain.urls import has_userinfo, url_problem

URL_LIMIT_CHARS = 2048
TIMEOUTS = (0.1, 60.0)
DEFAULT_TIMEOUT_SECONDS = 10.0
MAX_ATTEMPTS = 20
"""Unless the subscription says otherwise: with the other defaults, about nine hours."""

MODES = ("structured", "binary")


def parse_subscription(value: Mapping[str, Any]) -> Definition:
    """The subscription's definition, from `url`, `match`, `mode`, `retry`, `timeout` and `description`.

    Raises Rejected.
    """
    match = value.get("match")
    if match is None:
        raise Rejected("match: is needed", field="match", code="missing")
    if isinstance(match, dict | list):
        check_depth(match, "match")
    compile_pattern(match, names=NAMES)
    mode = value.get("mode", "structured")
    if mode not in MODES:
        raise Rejected(f"mode: must be one of {', '.join(MODES)}", field="mode", code="invalid-argument")
    return Definition(
        url=_url(value.get("url")),
        match=match,
        mode=mode,
        retry=_retry(value.get("retry")),
        timeout=_timeout(value.get("timeout")),
        description=parse_description(value),
    )


def parse_after(value: Any) -> int | None:
    """The position behind which deliveries begin. Raises Rejected."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62):
        raise Rejected("after: must be a position, or null", field="after", code="invalid-argument")
    return value


def _url(url: Any) -> str:
    if url is None:
        raise Rejected("url: is needed", field="url", code="missing")
    if not isinstance(url, str) or len(url) > URL_LIMIT_CHARS or not url.isascii():
        raise _wrong("url", f"must be an http or https URL of up to {URL_LIMIT_CHARS} ASCII characters")
    if (problem := url_problem(url)) is not None:
        raise _wrong("url", problem)
    if has_userinfo(url):
        raise _wrong("url", "must not hold a user or a password: it is shown to whoever reads the subscription")
    if "#" in url:
        raise _wrong("url", "must not have a fragment")
    try:
        check_host(urlsplit(url).hostname or "", refuse_private=False)  # what it resolves to, at each delivery
    except AddressRefused as error:
        raise Rejected(f"url: {error}", field="url", code="address-refused") from None
    return url


def _retry(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise _wrong("retry", "must be an object")
    try:
        return DelaysRequest.model_validate({"max_attempts": MAX_ATTEMPTS, **(value or {})}).model_dump()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = shown(".".join(["retry", *(str(part) for part in first["loc"])]))
        raise Rejected(f"{field}: {first['msg']}", field=field, code="invalid-argument") from None


def _timeout(value: Any) -> float:
    if value is None:
        return DEFAULT_TIMEOUT_SECONDS
    low, high = TIMEOUTS
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high:
        raise _wrong("timeout", f"must be a number of seconds from {low} to {high}")
    return float(value)


def _wrong(field: str, what: str) -> Rejected:
    return Rejected(f"{field}: {what}", field=field, code="invalid-argument")
