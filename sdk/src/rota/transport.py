"""HTTP to the store with the standard library: connections that are kept, problems that become errors."""

from __future__ import annotations

import http.client
import json
import logging
import select
import ssl
import threading
import time
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import quote, urlencode, urlsplit

from rota.errors import Unreachable, refusal
from rota.values import plain_body

log = logging.getLogger("rota")

IDLE_CONNECTIONS = 16
IDLE_SECONDS = 30.0
STREAM_SILENCE_SECONDS = 60.0
"""A live stream that says nothing for so long, not even that it is alive, is taken for dead."""


def in_path(name: object) -> str:
    """A name or id as one part of a path, whatever it holds."""
    return quote(str(name), safe="")


class Answer(NamedTuple):
    """The store's answer to a request that it did not refuse."""

    status: int
    headers: "Dict[str, str]"
    body: Any


class Transport:
    """A small pool of connections to one store; usable from several threads."""

    def __init__(self, url: str, token: Optional[str], timeout_seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http or https URL")
        self._host, self._port = parts.hostname, parts.port
        self._name = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._idle: "List[Tuple[float, http.client.HTTPConnection]]" = []
        self._lock = threading.Lock()
        self._closed = False

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
        patience: float = 0.0,
    ) -> Answer:
        """The answer, its JSON decoded.

        With `patience` the request is repeated for so many seconds while the store cannot be reached: only for
        requests that may arrive twice.

        Raises:
            Unreachable: no answer, or one that says that the store cannot serve now.
            Refused: the store refused; NotFound, Conflict and NotAllowed are kinds of it.
        """
        data = None if body is None else (body if isinstance(body, bytes) else json.dumps(plain_body(body)).encode())
        sent = self._headers({"Accept": "application/json", **(headers or {})})
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        deadline = time.monotonic() + patience
        pause = 0.1
        while True:
            try:
                return self._once(method, self._target(path, query), data, sent)
            except Unreachable:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 2.0)

    def stream(self, path: str, headers: Optional[Mapping[str, str]] = None) -> Iterator[str]:
        """The lines of an endless answer. Raises as `call`."""
        connection = self._fresh(STREAM_SILENCE_SECONDS)
        try:
            sent = self._headers({"Accept": "text/event-stream", **(headers or {})})
            connection.request("GET", self._prefix + path, None, sent)
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                _decoded(answer.status, answer.read())
            while True:
                line = answer.readline()
                if not line:
                    return
                yield line.decode().rstrip("\r\n")
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def close(self) -> None:
        """Close the kept connections."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _once(self, method: str, target: str, data: Optional[bytes], headers: "Dict[str, str]") -> Answer:
        connection = self._connection()
        try:
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error
        except BaseException:
            connection.close()  # interrupted in the middle of an exchange: not to be used again
            raise
        self._give_back(connection, answer)
        found = {name.lower(): value for name, value in answer.getheaders()}
        if "rota-warning" in found:
            log.warning("%s %s: %s", method, target.partition("?")[0], found["rota-warning"])
        return Answer(answer.status, found, _decoded(answer.status, content))

    def _headers(self, headers: "Dict[str, str]") -> "Dict[str, str]":
        return {**headers, "Authorization": f"Bearer {self._token}"} if self._token else headers

    def _target(self, path: str, query: Optional[Mapping[str, Any]]) -> str:
        pairs = [(name, value) for name, value in (query or {}).items() if value is not None]
        return self._prefix + path + ("?" + urlencode(pairs, doseq=True) if pairs else "")

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"the store at {self._name} does not answer: {error or type(error).__name__}")

    def _connection(self) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                since, connection = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and not _has_ended(connection):
                return connection
            connection.close()
        return self._fresh(self._timeout_seconds)

    def _fresh(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def _give_back(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        with self._lock:
            if not answer.will_close and not self._closed and len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """Whether the store has closed a kept connection: then it is readable though nothing was asked."""
    if connection.sock is None:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([connection.sock], [], [], 0)[0])


def _decoded(status: int, content: bytes) -> Any:
    try:
        value = json.loads(content) if content else None
    except (ValueError, RecursionError):
        value = None
    if status < http.client.BAD_REQUEST:
        return value
    problem = value if isinstance(value, dict) else {"title": content[:200].decode(errors="replace").strip()}
    if status in (502, 503, 504):
        raise Unreachable(f"the store answers {status}: {problem.get('detail') or problem.get('title')}")
    raise refusal(status, problem)
