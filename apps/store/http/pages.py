"""The page that shows the interface (`/docs`): Swagger UI, served from here alone.

Asks nothing of other hosts, and its policy lets nothing run that is not one of its files.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from rota_server.apps.store.http.routing import Routes

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI sets styles of its own, hence `unsafe-inline` for these; no script may stand in the page."""

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rota</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """window.ui = SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null
});
"""
FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
PATHS = frozenset({"/docs", "/docs/start.js", *(f"/docs/{name}" for name in FILES)})
HEADERS = {"content-security-policy": POLICY, "cache-control": "public, max-age=3600"}


class PageRoutes:
    """The handlers."""

    def add_to(self, app: FastAPI) -> None:
        """Serve them; they are no part of what they show."""
        routes = Routes(app, "pages")
        routes.add("GET", "/docs", self.show, include_in_schema=False)
        routes.add("GET", "/docs/start.js", self.start, include_in_schema=False)
        for name in FILES:
            routes.add("GET", f"/docs/{name}", self.file, include_in_schema=False)

    async def show(self, _request: Request) -> Response:
        """The page."""
        return Response(HTML, 200, HEADERS, "text/html")

    async def start(self, _request: Request) -> Response:
        """What begins to run in it."""
        return Response(START, 200, HEADERS, "text/javascript")

    async def file(self, request: Request) -> Response:
        """One of Swagger UI's files, from the package fastapi_offline, which keeps them."""
        name = request.url.path.rpartition("/")[2]
        return Response(_content(name), 200, HEADERS, FILES[name])


@cache
def _content(name: str) -> bytes:
    return files("fastapi_offline").joinpath("static", name).read_bytes()
