"""What a connection to the store may take: bytes, time, and a place among a bounded number.

A client that sends half a request, or nothing, or does not read what it asked for, costs the others nothing: its
connection ends after bounded time, and earlier when its place is needed. Never ends one whose request is being
answered to somebody who reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger("rota.store.http")

OTHER_FILES = 200
"""File descriptors that are kept for what is no client's connection."""

LINGER_SECONDS = 2.0
STEP_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one server. Seconds count from the first byte; `stalled_seconds` without a reader's taking anything."""

    connections: int = 1000
    head_bytes: int = 64 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 120.0
    stalled_seconds: float = 20.0
    sweep_seconds: float = 1.0


class Connection(HttpToolsProtocol):
    """One connection, within limits. The server's sweep calls `check`."""

    def __init__(self, limits: Limits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._now = self.loop.time
        self._deadline: float | None = None
        self._head_bytes = 0
        self._in_head = True
        self._receiving = False
        self._said_why = False
        self._unread = 0
        self._unread_since: float | None = None

    # -- what the transport and the parser call ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take the place of another that is only waiting when there is none left."""
        super().connection_made(transport)
        self._deadline = self._now() + self._limits.head_seconds
        if len(self.connections) > self._limits.connections and not self._make_room():
            self._end(503, "too many connections")

    def data_received(self, data: bytes) -> None:
        """Pass on what has come, unless it is a head that is too long."""
        if self._said_why or self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self._limits.head_bytes and not self.transport.is_closing():
            self._end(431, "the head of the request is too large")

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._in_head, self._receiving = True, True
        self._deadline = self._now() + self._limits.head_seconds

    def on_headers_complete(self) -> None:
        """Wait for the body from now on."""
        self._in_head, self._head_bytes = False, 0
        self._deadline = self._now() + self._limits.body_seconds
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing."""
        self._in_head, self._receiving, self._deadline = True, False, None
        super().on_message_complete()

    def resume_writing(self) -> None:
        """Note that the reader reads."""
        self._unread_since = None
        super().resume_writing()

    # -- what the server calls ---------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer on it."""
        return self.cycle is None or self.cycle.response_complete

    def check(self) -> None:
        """End the connection when its time is over."""
        now = self._now()
        if self._deadline is not None and now > self._deadline:
            self._deadline = None
            if self._receiving and not self._said_why:
                self._end(408, "the request did not arrive in time")
            else:
                self.transport.abort()
            return
        unread = self.transport.get_write_buffer_size()
        if unread == 0:
            self._unread_since = None
        elif self._unread_since is None or unread < self._unread - STEP_BYTES:
            self._unread_since, self._unread = now, unread
        elif now - self._unread_since > self._limits.stalled_seconds:
            log.info("%s reads nothing any more and is cut off", self.client)
            self.transport.abort()

    def _make_room(self) -> bool:
        """End the connection that has been waiting for the longest without a request; False when there is none."""
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        waiting = [other for other in others if other.idle and not other.transport.is_closing()]
        if not waiting:
            return len(others) < self._limits.connections
        oldest = min(waiting, key=lambda other: other._deadline or float("-inf"))  # noqa: SLF001 - of the same class
        oldest.transport.abort()
        self.connections.discard(oldest)
        return True

    def _end(self, status: int, text: str) -> None:
        """Say why and close, unless an answer has begun."""
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            body = text.encode()
            head = f"HTTP/1.1 {status} {text}\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\nretry-after: 2\r\n\r\n".encode() + body)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # Closed at once, with bytes that nobody has read, the connection would be reset before the answer is read.
        self._said_why, self._deadline = True, self._now() + LINGER_SECONDS
        self.transport.write_eof()


def connection_factory(limits: Limits) -> Callable[..., Connection]:
    """What makes the connections of one server."""

    def make(**options: Any) -> Connection:
        return Connection(limits, **options)

    return make


def allow_files(connections: int) -> None:
    """Let the process have as many open files as so many connections need, as far as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
