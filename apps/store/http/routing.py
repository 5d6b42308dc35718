"""How routes are made and found: FastAPI documents them, and nothing of it stands between a request and its handler.

Never answers that a method is not allowed without naming all those that are, whatever route has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rota_server.domain.errors import Unavailable

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


async def _head(response: Response, send: Send) -> None:
    """Send what the response would begin with: the answer to HEAD, also of a stream that never ends."""
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": b""})


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
        if scope["method"] == "HEAD":
            await _head(response, send)
        else:
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


class _Path:
    """One path and its routes by method. GET answers HEAD as well, and each path says what it takes (OPTIONS)."""

    def __init__(self, route: Route) -> None:
        self.path = route.path
        self.routes: dict[str, Route] = {}
        self._shape = route

    def matches(self, path: str) -> bool:
        """Whether a request's path is one of these."""
        return self._shape.path_regex.match(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises HTTPException for a method that the path does not have."""
        method = scope["method"]
        route = self.routes.get("GET" if method == "HEAD" else method)
        _, about = (route or self._shape).matches(scope)
        scope.update(about)  # the parameters in the path, and the route for the metrics
        if route is not None:
            await route.app(scope, receive, send)
            return
        allowed = {"Allow": ", ".join(sorted({*self.routes, *(["HEAD"] if "GET" in self.routes else []), "OPTIONS"}))}
        if method != "OPTIONS":
            raise HTTPException(405, headers=allowed)
        await Response(None, 204, allowed)(scope, receive, send)


class _Paths:
    """Finds a request's path: one that is written out comes before one with parameters."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        found: dict[str, _Path] = {}
        for route in routes:
            if isinstance(route, Route):
                path = found.setdefault(route.path, _Path(route))
                path.routes |= dict.fromkeys((route.methods or set()) - {"HEAD"}, route)
        self._exact = {name: path for name, path in found.items() if "{" not in name}
        self._shapes = [path for name, path in found.items() if "{" in name]

    def find(self, path: str) -> _Path | None:
        """The routes of this path; None when there are none."""
        return self._exact.get(path) or next((shape for shape in self._shapes if shape.matches(path)), None)


def bare(app: FastAPI) -> ASGIApp:
    """The application's routes without its middleware, which would turn errors into plain texts of its own."""
    paths = _Paths(app.router.routes)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await (paths.find(scope["path"]) or app.router)(scope, receive, send)

    return answer
