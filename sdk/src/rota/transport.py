"""HTTP to the store with the standard library: connections that are kept, problems that become errors."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import threading
from typing import Any, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import urlencode, urlsplit

from rota.errors import NotFound, Refused, Unreachable

IDLE_CONNECTIONS = 8


class Transport:
    """A small pool of connections to one store; usable from several threads."""

    def __init__(self, url: str, token: Optional[str], timeout_seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http or https URL")
        self._parts = parts
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._idle: "List[http.client.HTTPConnection]" = []
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
        repeatable: bool = True,
    ) -> Tuple[int, "dict[str, str]", Any]:
        """Status, headers and decoded JSON of the answer.

        A call on a kept connection that turns out to be closed is repeated once on a fresh one if it is `repeatable`.
        """
        data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
        sent = {"Accept": "application/json", **(headers or {})}
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        target = self._parts.path.rstrip("/") + path
        if query:
            pairs = [(k, v) for k, v in query.items() if v is not None]
            target += "?" + urlencode(pairs, doseq=True) if pairs else ""
        for last_try in (False, True):
            connection, kept = self._connection(fresh=last_try)
            try:
                connection.request(method, target, data, sent)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if kept and repeatable and not last_try:
                    continue
                raise Unreachable(f"{self._parts.netloc}: {error or type(error).__name__}") from error
            self._give_back(connection, answer)
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, _decoded(answer.status, content)
        raise AssertionError("unreachable")

    def stream(self, path: str, headers: Optional[Mapping[str, str]] = None) -> Iterator[str]:
        """The lines of an endless answer."""
        connection = self._fresh(timeout=None)
        sent = {"Accept": "text/event-stream", **(headers or {})}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request("GET", self._parts.path.rstrip("/") + path, None, sent)
            answer = connection.getresponse()
            if answer.status != 200:
                _decoded(answer.status, answer.read())
            while True:
                line = answer.readline()
                if not line:
                    return
                yield line.decode().rstrip("\r\n")
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self._parts.netloc}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def close(self) -> None:
        """Close the kept connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connection(self, fresh: bool) -> "Tuple[http.client.HTTPConnection, bool]":
        with self._lock:
            if self._idle and not fresh:
                return self._idle.pop(), True
        return self._fresh(self._timeout_seconds), False

    def _fresh(self, timeout: Optional[float]) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _give_back(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        with self._lock:
            if not answer.will_close and len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()


def _decoded(status: int, content: bytes) -> Any:
    try:
        value = json.loads(content) if content else None
    except ValueError:
        value = None
    if status < 400:
        return value
    problem = value if isinstance(value, dict) else {"title": content[:200].decode(errors="replace")}
    if status in (502, 503, 504):
        raise Unreachable(f"the store answers {status}: {problem.get('detail') or problem.get('title')}")
    raise (NotFound if status == 404 else Refused)(status, problem)


def default_url() -> str:
    """ROTA_URL, or the store on this machine."""
    return os.environ.get("ROTA_URL") or f"http://127.0.0.1:{os.environ.get('ROTA_PORT', '3000')}"
