"""The two pipes to the executor. Writing never blocks the event loop, and what fits is written at once."""

from __future__ import annotations

import asyncio
import json
import os
import select
import threading
from typing import Any, Callable, List

READ_BYTES = 1 << 20
ATOMIC_BYTES = getattr(select, "PIPE_BUF", 512)
"""Up to here a write to a pipe is done completely or not at all."""


class Pipes:
    """Frames in, frames out. `received` gets all messages that have arrived, at once, on the loop."""

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        *,
        loop: asyncio.AbstractEventLoop,
        received: "Callable[[List[List[Any]]], None]",
        closed: "Callable[[], None]",
    ) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._loop = loop
        self._received = received
        self._closed = closed
        self._parts: "List[bytes]" = []
        self._out: "List[str]" = []
        self._planned = False
        self._unsent = memoryview(b"")
        self._busy = False
        self._lock = threading.RLock()  # a destructor that prints may run in the middle of a write
        self._loop_thread = threading.get_ident()
        self._forgotten = False
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)

    def forget(self) -> None:
        """In a forked child: close them, and pass nothing on from now on. They are the task process's."""
        self._lock = threading.RLock()  # another thread may have held it
        self._forgotten = True
        os.close(self._read_fd)
        os.close(self._write_fd)

    def listen(self) -> None:
        """Begin to read."""
        self._loop.add_reader(self._read_fd, self._readable)

    def on_loop_thread(self) -> bool:
        """Whether the caller runs on the event loop's thread."""
        return threading.get_ident() == self._loop_thread

    def send(self, message: str) -> None:
        """Queue an encoded message, on the loop; those of one turn of the loop travel in one write."""
        self._out.append(message)
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self.flush)

    def send_now(self, message: str) -> None:
        """Write an encoded message before anything else happens, so that even a crash does not lose it.

        From any thread. What does not fit into the pipe is queued. A thread's write may be interrupted by the exception
        of a cancellation: so it writes only what the system takes as a whole, and rather twice than never.
        """
        if self._forgotten:
            return
        if self.on_loop_thread():
            self._out.append(message)
            self.flush()
            return
        with self._lock:
            self._out.append(message)
            count = len(self._out)  # the loop may append more at any time
            frame = _frame(self._out[:count])
            if not self._busy and len(frame) <= ATOMIC_BYTES:
                try:
                    os.write(self._write_fd, frame)
                except BlockingIOError:
                    pass
                except OSError:
                    return  # the executor is gone; so will we be
                else:
                    del self._out[:count]
                    return
        call_in_loop(self._loop, self.flush)

    def send_around_loop(self, message: str) -> None:
        """Write everything queued and this message, from a thread of our own, because the loop is blocked."""
        with self._lock:
            self._out.append(message)
            self.flush()

    def flush(self) -> None:
        """Write what is queued, as far as the pipe takes it.

        On the loop, or from a thread that no cancellation interrupts: a part of a frame must be followed by its rest.
        """
        self._planned = False
        with self._lock:
            if self._busy or self._forgotten or not self._out:
                return
            self._busy = True
            messages, self._out = self._out, []
            self._unsent = memoryview(_frame(messages))
            self._write()

    def _write(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._write_fd, self._unsent) :]
        except BlockingIOError:
            if self.on_loop_thread():
                self._loop.add_writer(self._write_fd, self._writable)
            else:
                call_in_loop(self._loop, self._loop.add_writer, self._write_fd, self._writable)
            return
        except OSError:
            self._closed()
        self._busy = False

    def _writable(self) -> None:
        self._loop.remove_writer(self._write_fd)
        with self._lock:
            self._write()
        self.flush()

    def _readable(self) -> None:
        try:
            data = os.read(self._read_fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._read_fd)
            self._closed()
            return
        self._parts.append(data)
        if b"\n" not in data:
            return
        *lines, rest = b"".join(self._parts).split(b"\n")
        self._parts = [rest] if rest else []
        for line in lines:
            self._received(json.loads(line))


def call_in_loop(loop: asyncio.AbstractEventLoop, callback: "Callable[..., Any]", *arguments: Any) -> None:
    """As `call_soon_threadsafe`; nothing happens when the loop has closed."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _frame(messages: "List[str]") -> bytes:
    # A lone surrogate cannot be encoded; no other text is changed by this.
    return ("[" + ",".join(messages) + "]\n").encode("utf-8", "replace")
