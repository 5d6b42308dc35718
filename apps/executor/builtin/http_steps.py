"""One request of `http.request`, and what a redirect makes of it. Sends nothing itself.

What a job gave for one origin never reaches another: no body, no credentials, and of its headers only those that say
what kind of answer is wanted.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx
import orjson

from rota_server.apps.executor.attempts import Attempt
from rota_server.apps.executor.builtin.errors import TaskFailed
from rota_server.domain.builtin.tasks import HttpRequest
from rota_server.domain.urls import url_problem

USER_AGENT = "rota/0.1"
KEPT_FOR_OTHERS = frozenset({"accept", "accept-encoding", "accept-language", "user-agent"})
OF_THE_CONNECTION = ("negotiate", "ntlm")
"""Schemes that authenticate a connection instead of a request (RFC 4559): such a connection must serve nobody else."""

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A request to send. Header names are lower-case; no credentials stand in the URL."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str]
    content: bytes | None

    def wire_headers(self) -> list[tuple[bytes, bytes]]:
        """Its headers as they are sent."""
        headers = dict(self.headers)
        scheme = headers.get("authorization", "").partition(" ")[0].lower()
        if scheme in OF_THE_CONNECTION:
            headers["connection"] = "close"
        return [(name.encode(), value.encode()) for name, value in headers.items()]

    def redirected(self, status: int, target: str) -> Step:
        """Where to go next (RFC 9110, 15.4). Raises TaskFailed where that must not be."""
        url = _following(self.url, target)
        method, headers, content = self.method, dict(self.headers), self.content
        if status == 303 or (status in (301, 302) and method == "POST"):
            method, content = "HEAD" if method == "HEAD" else "GET", None
            headers = {name: value for name, value in headers.items() if not name.startswith("content-")}
        if not _same_party(self.url, url):
            if content is not None:
                message = f"{status} leads to {shown_origin(url)}, which must not get the body: name that URL itself"
                raise TaskFailed("RedirectRefused", message, retryable=False)
            headers = {name: value for name, value in headers.items() if name in KEPT_FOR_OTHERS}
        return replace(self, method=method, url=url, headers=headers, content=content)


def first_step(arguments: HttpRequest, attempt: Attempt) -> Step:
    """The request as the job describes it."""
    headers = {
        "user-agent": USER_AGENT,
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
        "idempotency-key": str(attempt.job_id),
    }
    if attempt.traceparent is not None:
        headers["traceparent"] = attempt.traceparent
    headers.update({name.lower(): value for name, value in arguments.headers.items()})
    content = None
    if arguments.body is not None:
        content = arguments.body.encode()
    elif "json_" in arguments.model_fields_set:
        headers.setdefault("content-type", "application/json")
        content = orjson.dumps(arguments.json_)
    url = httpx.URL(arguments.url)
    if url.userinfo:
        headers.setdefault("authorization", _basic(url))
    return Step(method=arguments.method, url=url.copy_with(userinfo=b""), headers=headers, content=content)


def _basic(url: httpx.URL) -> str:
    return "Basic " + base64.b64encode(f"{url.username}:{url.password}".encode()).decode()


def origin_of(url: httpx.URL) -> str:
    """Scheme, host and port, the port always."""
    return f"{url.scheme}://{url.host}:{url.port or PORTS.get(url.scheme)}"


def shown_origin(url: httpx.URL | str) -> str:
    """What of a URL may stand in an error: neither credentials nor a query."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        return "the URL"
    return f"{found.scheme}://{found.netloc.decode()}"


def _following(url: httpx.URL, target: str) -> httpx.URL:
    """The URL that a redirect leads to. Raises TaskFailed."""
    try:
        following = url.join(target).copy_with(userinfo=b"")
    except (httpx.InvalidURL, ValueError) as error:
        message = f"a redirect leads to something that is no URL: {error}"
        raise TaskFailed("RedirectRefused", message, retryable=False) from error
    if following.scheme not in PORTS:
        raise TaskFailed("RedirectRefused", "a redirect leads to something that is not HTTP", retryable=False)
    if (problem := url_problem(str(following))) is not None:
        raise TaskFailed("RedirectRefused", f"a redirect leads to a URL that {problem}", retryable=False)
    return following


def _same_party(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether they are one origin, or the other is the same host over TLS, on the usual ports."""
    if origin_of(one) == origin_of(other):
        return True
    upgraded = (one.scheme, other.scheme) == ("http", "https") and one.port is None and other.port is None
    return upgraded and one.host == other.host
