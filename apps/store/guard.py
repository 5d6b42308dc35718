"""The outermost layer of the store: who may call, request ids, errors as problems, counts.

Plain ASGI, since it is on the path of every request.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.store.problems import problem, problem_of, problem_response
from domain.errors import Rejected, Unavailable
from observability.metrics import RequestMetrics

log = logging.getLogger("rota.store")

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
RETRY_AFTER_SECONDS = "2"
REQUEST_ID = re.compile(r"^[\x21-\x7e]{1,128}$")


class Guard:
    """Wraps the application.

    `tokens`: `name:token` or `token`; without any, and `loopback_only`, only requests that were meant for this
    machine are answered: a web page elsewhere must not reach the store through somebody's browser.
    """

    def __init__(self, app: ASGIApp, *, tokens: Sequence[str], loopback_only: bool, metrics: RequestMetrics) -> None:
        self._app = app
        self._tokens = [_named(token) for token in tokens]
        self._loopback_only = loopback_only and not tokens
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", "")
        request_id = given if REQUEST_ID.match(given) else secrets.token_hex(8)
        began = time.perf_counter()
        status = 500
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                started, status = True, message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            actor = self._admit(scope, headers)
            scope["rota"] = {"actor": actor, "request_id": request_id}
            await self._app(scope, receive, send_with_id)
        except Rejected as error:
            document, extra = _explain(error, request_id)
            await problem_response(document, extra)(scope, receive, send_with_id)
        except Exception:
            # Starlette hands an error on after it was answered (and logged, below); nobody is left to tell.
            if not started:
                raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(scope["method"], route, status, time.perf_counter() - began)

    def _admit(self, scope: Scope, headers: dict[bytes, str]) -> str:
        """The actor's name. Raises Rejected."""
        if self._tokens:
            if scope["path"] in OPEN_PATHS:
                return "anonymous"
            kind, _, token = headers.get(b"authorization", "").partition(" ")
            found = None
            for name, expected in self._tokens:
                if hmac.compare_digest(expected.encode(), token.strip().encode()):
                    found = name
            if kind.lower() != "bearer" or found is None:
                raise Rejected("a bearer token is needed", field="Authorization", code="unauthenticated")
            return found
        if self._loopback_only:
            host = re.sub(r":\d+$", "", headers.get(b"host", "localhost"))
            if host not in LOOPBACK_NAMES:
                raise Rejected(
                    f"this store only answers on loopback, not as {host[:100]!r}", field="Host", code="forbidden"
                )
            origin = headers.get(b"origin")
            if origin is not None and re.sub(r"^https?://|:\d+$", "", origin) not in LOOPBACK_NAMES:
                raise Rejected("requests of other sites' pages are refused", field="Origin", code="forbidden")
        return "anonymous"


async def answer_error(request: Request, error: Exception) -> Response:
    """What an error inside the application is answered with."""
    document, extra = _explain(error, request.scope["rota"]["request_id"])
    return problem_response(document, extra)


def _named(token: str) -> tuple[str, str]:
    name, separator, secret = token.rpartition(":")
    return (name, secret) if separator and name else ("token", token)


def _explain(error: Exception, request_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    if isinstance(error, Rejected):
        document = problem_of(error)
        extra = {"www-authenticate": "Bearer"} if document["status"] == 401 else {}
        return document, extra
    if isinstance(error, Unavailable):
        log.warning("answered 503: %s", error)
        detail = f"{error.server} is not available now; whether a write took effect may be unknown"
        return problem(503, detail, code="unavailable"), {"retry-after": RETRY_AFTER_SECONDS}
    log.error("request %s failed", request_id, exc_info=error)
    return problem(500, f"an internal error; the store's log has it under {request_id}", code="internal"), {}
