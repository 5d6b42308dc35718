"""How routes are made: FastAPI documents them, and nothing of it stands between a request and its handler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from domain.errors import Unavailable

READ_SECONDS = 15.0
"""How long a read may take, waiting for a position included."""

Handler = Callable[[Request], Awaitable[Response]]


class PlainRoute(APIRoute):
    """A route whose handler gets the request as it came and answers a response.

    FastAPI's own resolving of parameters and bodies costs more than an append, and tells less about what is wrong.
    """

    def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        self.app = _reading(endpoint) if self.methods == {"GET"} else _plain(endpoint)


def _plain(handler: Handler) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)

    return answer


def _reading(handler: Handler) -> ASGIApp:
    """As `_plain`, within bounded time; sending the answer, which may be endless, is not counted.

    Writes have their own bound where they wait for the append: breaking them off here would leave them unanswered.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                response = await handler(Request(scope, receive, send))
        except TimeoutError:
            raise Unavailable(f"no answer within {READ_SECONDS} s", server="postgres") from None
        await response(scope, receive, send)

    return answer


class Routes:
    """Adds handlers to an application."""

    def __init__(self, app: FastAPI, tag: str) -> None:
        self._app = app
        self._app.router.route_class = PlainRoute
        self._tag = tag

    def add(self, method: str, path: str, handler: Handler, **documentation: Any) -> None:
        """Serve `path` by the handler, whose docstring describes it in OpenAPI."""
        self._app.add_api_route(
            path,
            handler,
            methods=[method],
            tags=[self._tag],
            response_model=None,
            response_class=Response,
            operation_id=getattr(handler, "__name__", path),
            **documentation,
        )


def bare(app: FastAPI) -> ASGIApp:
    """The application's routes without its middleware, which would turn errors into plain texts of its own."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await app.router(scope, receive, send)

    return answer
