"""The outermost layer of the store: who may call, request ids, errors as problems, counts.

Plain ASGI, since it is on the path of every request. Lets no request through that it does not know to be allowed.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rota_server.apps.api_tokens import ApiToken
from rota_server.apps.store.http import pages
from rota_server.apps.store.http.failures import AccessFailures
from rota_server.apps.store.http.hosts import SAFE_METHODS, Hosts
from rota_server.apps.store.http.json_body import shown
from rota_server.apps.store.http.large_bodies import Busy
from rota_server.apps.store.http.positions import NotReached
from rota_server.apps.store.http.problems import problem, problem_of, problem_response
from rota_server.apps.store.http.request_body import RequestBody
from rota_server.domain.errors import Rejected, Unavailable, Unexpected
from rota_server.observability.metrics import RequestMetrics

log = logging.getLogger("rota.store")

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/asyncapi"}) | pages.PATHS
"""What needs no token: it tells nothing that the documentation does not."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that are counted by name."""

RETRY_AFTER_SECONDS = "2"
WORD = re.compile(r"[\x21-\x7e]{1,128}")
ANONYMOUS = "anonymous"
WARNING_LIMIT_CHARS = 800

PROTECTION = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
NOTHING_RUNS = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""For every answer but pages, which say themselves what may run in them."""

Headers = Mapping[bytes, str]


class Guard:
    """Wraps the application.

    `tokens`: the name of the one that is given is the actor. Without any, only requests that were meant for one of
    the `hosts` are answered: a web page elsewhere must not reach the store through somebody's browser.
    """

    def __init__(self, app: ASGIApp, *, tokens: Sequence[ApiToken], hosts: Hosts, metrics: RequestMetrics) -> None:
        self._app = app
        self._tokens = [(token.name, token.secret.encode()) for token in tokens]
        self._failures = AccessFailures()
        self._hosts = hosts
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", "")
        request_id = given if WORD.fullmatch(given) else secrets.token_hex(8)
        began = time.perf_counter()
        status = 0
        body = RequestBody(headers, receive)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                whole = await body.discard()
                own = list(message.get("headers", ()))
                policy = () if any(name == NOTHING_RUNS[0] for name, _ in own) else (NOTHING_RUNS,)
                more = () if whole else ((b"connection", b"close"),)
                message["headers"] = [*own, *PROTECTION, *policy, *more, *_warning(scope)]
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            _refuse_bad_query(scope["query_string"])
            scope["rota"] = {"actor": self._admit(scope, headers), "request_id": request_id}
            await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            status = status or 499  # nobody is there to be answered
            log.info("request %s ended with its client, within its body", request_id)
        except Exception as error:
            if status:  # the answer has begun: all that is left is to break it off
                raise
            if isinstance(error, Rejected) and error.code == "unauthenticated":
                address = scope["client"][0] if scope.get("client") else "an unknown address"
                await self._failures.failed(address, scope["method"], scope["path"])
            document, extra = _explain(error, scope, request_id)
            await problem_response(document, extra)(scope, body.receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.answered(method, route, status, time.perf_counter() - began)

    def _admit(self, scope: Scope, headers: Headers) -> str:
        """The actor's name. Raises Rejected."""
        if self._tokens:
            return ANONYMOUS if scope["path"] in OPEN_PATHS else self._token_name(headers)
        host, origin = headers.get(b"host", "localhost"), headers.get(b"origin")
        self._hosts.refuse_foreign(scope["method"], host, origin)
        actor = headers.get(b"rota-actor", ANONYMOUS)
        if not WORD.fullmatch(actor):
            message = "Rota-Actor: must have 1 to 128 printable ASCII characters without spaces"
            raise Rejected(message, field="Rota-Actor", code="invalid-argument")
        return actor

    def _token_name(self, headers: Headers) -> str:
        kind, _, token = headers.get(b"authorization", "").partition(" ")
        given = token.strip().encode("latin-1")  # the bytes as they came: secrets are UTF-8
        # Every token is compared, so that the time taken tells nothing.
        found = [name for name, secret in self._tokens if hmac.compare_digest(secret, given)]
        if kind.lower() != "bearer" or not found:
            raise Rejected("Authorization: a bearer token is needed", field="Authorization", code="unauthenticated")
        return found[0]


def _warning(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The header that says where plain arguments seem to hold secrets; see `warn_of_secrets`."""
    places = scope.get("rota", {}).get("secrets")
    if not places:
        return []
    said = ", ".join(shown(place) for place in places)[:WARNING_LIMIT_CHARS]
    text = f'looks like a secret that everybody will read in the log: {said}; name it instead: {{"$secret": NAME}}'
    return [(b"rota-warning", text.encode("ascii", "backslashreplace"))]


def _refuse_bad_query(query: bytes) -> None:
    """PostgreSQL's texts have no NUL; no parameter of ours needs one."""
    if b"%00" in query or b"\x00" in query:
        names = [name for name, value in parse_qsl(query.decode("latin-1"), True) if "\x00" in name + value]
        field = names[0] if names else "query"
        raise Rejected(f"{field.replace(chr(0), '')}: contains a NUL", field=field, code="invalid-text")


def _explain(error: Exception, scope: Scope, request_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    if isinstance(error, Rejected):
        document = problem_of(error)
        return document, {"www-authenticate": 'Bearer realm="rota"'} if document["status"] == 401 else {}
    if isinstance(error, Unavailable) and not isinstance(error, Unexpected):
        log.warning("request %s answered with 503: %s", request_id, error)
        document = problem_of(error, writing=scope["method"] not in SAFE_METHODS)
        return document, {"retry-after": RETRY_AFTER_SECONDS}
    if isinstance(error, Busy):
        return problem(503, str(error), code="busy"), {"retry-after": RETRY_AFTER_SECONDS}
    if isinstance(error, NotReached):
        return problem(503, str(error), code="not-reached", field="at_least"), {"retry-after": RETRY_AFTER_SECONDS}
    if isinstance(error, HTTPException):  # no such path, no such method
        return problem(error.status_code, f"{error.detail}: {scope['method']} {scope['path']}"), dict(
            error.headers or {}
        )
    log.error("request %s failed", request_id, exc_info=error)
    return problem(500, f"an internal error; the store's log has it under {request_id}", code="internal"), {}
