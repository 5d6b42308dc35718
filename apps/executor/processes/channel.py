"""Starts one task process and speaks with it: pipes for messages, pipes for what it prints, its end.

Writes never block the event loop. Knows nothing of what the messages mean.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

log = logging.getLogger("rota.executor.tasks")

PIPE_BYTES = 256 * 1024
CONGESTED_BYTES = 1024 * 1024
"""With so much not yet taken by the process, it should get no further attempts."""

RAW_READ_BYTES = 64 * 1024
DRAIN_SECONDS = 1.0
"""How long the pipes of a dead process are read for what it wrote last."""

Messages = Callable[[list[list[Any]]], None]
Printed = Callable[[str, str], None]


class TaskChannel:
    """A started task process.

    `received(messages)`, `printed(stream, text)` and `writable()`, when it is no longer congested, are called on the
    event loop.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        received: Messages,
        printed: Printed,
        writable: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.pid = process.pid
        self.congested = False
        """Whether the process is so far behind with reading that it should get nothing more."""
        self._process = process
        self._received = received
        self._writable = writable
        self._loop = loop
        self._out: list[bytes] = []
        self._flush_planned = False
        self._writer: asyncio.WriteTransport | None = None
        self._raw = [_RawOutput(name, printed, loop) for name in ("stdout", "stderr")]
        self._ended: asyncio.Future[int] = loop.create_future()
        self._messages_ended = asyncio.Event()
        self._reaped = False
        self._reap_lock = threading.Lock()

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        identity: Mapping[str, Any],
        received: Messages,
        printed: Printed,
        writable: Callable[[], None],
    ) -> TaskChannel:
        """Start it in a session of its own, its standard input empty. Raises OSError."""
        loop = asyncio.get_running_loop()
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        for fd in (theirs_in, theirs_out):
            _enlarge(fd)
        env = {**environment, "ROTA_TASK_FDS": f"{theirs_in},{theirs_out}", "ROTA_TASK_PARENT": str(os.getpid())}
        try:
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - takes a moment, and there is no shell
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
                env=env,
                **identity,
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(ours_in)
            os.close(ours_out)
            raise OSError(str(error)) from error
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        channel = cls(process, received=received, printed=printed, writable=writable, loop=loop)
        await channel._connect(ours_in, ours_out)
        return channel

    async def _connect(self, read_fd: int, write_fd: int) -> None:
        loop = self._loop
        self._writer, _ = await loop.connect_write_pipe(lambda: _Writing(self), os.fdopen(write_fd, "wb", 0))
        self._writer.set_write_buffer_limits(high=CONGESTED_BYTES)
        self._reader, _ = await loop.connect_read_pipe(lambda: _Lines(self), os.fdopen(read_fd, "rb", 0))
        for raw, pipe in zip(self._raw, (self._process.stdout, self._process.stderr), strict=True):
            raw.connect(pipe)
        threading.Thread(target=self._wait_in_thread, name=f"task-process-{self.pid}", daemon=True).start()

    def send(self, message: list[Any]) -> None:
        """Queue a message; those of one turn of the loop travel in one write. Raises TypeError if it is not JSON."""
        self._out.append(orjson.dumps(message))
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        messages, self._out = self._out, []
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(b"[" + b",".join(messages) + b"]\n")

    def set_congested(self, *, congested: bool) -> None:
        """Remember whether it keeps up with reading."""
        self.congested = congested
        if not congested:
            self._writable()

    async def wait(self) -> int:
        """Wait for its end; what it wrote has been passed on then. Its exit status, negative for a signal."""
        status = await self._ended
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._messages_ended.wait(), DRAIN_SECONDS)
        if self._writer is not None and not self._writer.is_closing():
            self._writer.abort()
        self._reader.close()
        for raw in self._raw:
            raw.close()
        return status

    def kill(self) -> None:
        """End the process and everything that it has started, at once."""
        with self._reap_lock:
            if not self._reaped:
                _kill_group(self.pid)

    def _wait_in_thread(self) -> None:
        if sys.platform != "darwin":
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        with self._reap_lock:
            # What it has started dies with it. Not yet reaped, its number cannot belong to anybody else.
            _kill_group(self.pid)
            status = self._process.wait()
            self._reaped = True
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._end, status)

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    def messages_arrived(self, lines: list[bytes]) -> None:
        """Pass on whole lines of messages, after what was printed before they were sent."""
        for raw in self._raw:
            raw.drain()
        try:
            for line in lines:
                self._received(orjson.loads(line))
        except (ValueError, LookupError, TypeError):
            log.exception("task process %d sent what is no message of its protocol and is killed", self.pid)
            self.kill()

    def messages_ended(self) -> None:
        """Nothing more will come: the process is ending, or has lost its pipe."""
        self._messages_ended.set()
        self._loop.call_later(DRAIN_SECONDS, self.kill)


class _Writing(asyncio.BaseProtocol):
    """Hears whether the process keeps up with reading."""

    def __init__(self, channel: TaskChannel) -> None:
        self._channel = channel

    def pause_writing(self) -> None:
        self._channel.set_congested(congested=True)

    def resume_writing(self) -> None:
        self._channel.set_congested(congested=False)


class _Lines(asyncio.Protocol):
    """Splits what arrives into lines of messages."""

    def __init__(self, channel: TaskChannel) -> None:
        self._channel = channel
        self._parts: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if b"\n" in data:
            *lines, rest = b"".join(self._parts).split(b"\n")
            self._parts = [rest] if rest else []
            self._channel.messages_arrived(lines)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the pipe's end, however it came
        self._channel.messages_ended()


class _RawOutput:
    """What the process, its subprocesses and C code write to a standard stream themselves."""

    def __init__(self, stream: str, printed: Printed, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._printed = printed
        self._loop = loop
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pipe: Any = None

    def connect(self, pipe: Any) -> None:
        """Begin to read."""
        self._pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def drain(self) -> None:
        """Read now what is there."""
        while self._pipe is not None and self._read():
            pass

    def close(self) -> None:
        """Read the rest and stop."""
        self.drain()
        if self._pipe is not None:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
            self._pipe = None

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self._pipe.fileno(), RAW_READ_BYTES)
        except BlockingIOError:
            return False
        text = self._decode(data, not data)
        if text:
            self._printed(self._stream, text)
        if not data:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
            self._pipe = None
        return len(data) == RAW_READ_BYTES


def _enlarge(pipe: int) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the user's limit of pipe memory is reached: then it is a smaller one
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
