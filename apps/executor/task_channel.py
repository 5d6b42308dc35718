"""The pipes to one task process: many messages in a write, one JSON array a line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson

log = logging.getLogger("rota.executor.tasks")

LINE_LIMIT_BYTES = 64 * 1024 * 1024
RAW_CHUNK_BYTES = 64 * 1024

Received = Callable[[list[Any]], None]


class _Lines(asyncio.Protocol):
    """Splits what arrives into lines of messages."""

    def __init__(self, received: Received) -> None:
        self._received = received
        self._parts: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        if b"\n" not in data:
            self._parts.append(data)
            return
        *lines, rest = (b"".join(self._parts) + data).split(b"\n")
        self._parts = [rest] if rest else []
        for line in lines:
            for message in orjson.loads(line):
                self._received(message)


class _Raw(asyncio.Protocol):
    """What the process wrote to its standard output or error itself."""

    def __init__(self, stream: str, received: Received) -> None:
        self._stream = stream
        self._received = received

    def data_received(self, data: bytes) -> None:
        self._received(["raw", self._stream, data.decode(errors="replace")])


class TaskChannel:
    """A started task process; `serve` passes on what it says, until it ends."""

    def __init__(self, process: subprocess.Popen[bytes], read_fd: int, write_fd: int) -> None:
        self._process = process
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._writer: asyncio.WriteTransport | None = None
        self._out: list[Any] = []
        self._flush_planned = False
        self._loop = asyncio.get_running_loop()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @classmethod
    async def start(cls, argv: Sequence[str], environment: dict[str, str]) -> TaskChannel:
        """Start it in a session of its own, its standard input empty."""
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        env = {**environment, "ROTA_TASK_FDS": f"{theirs_in},{theirs_out}", "ROTA_TASK_PARENT": str(os.getpid())}
        try:
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - forking takes a moment, and there is no shell
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
                env=env,
            )
        except OSError:
            os.close(ours_in)
            os.close(ours_out)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        return cls(process, ours_in, ours_out)

    async def serve(self, received: Received) -> int:
        """Pass on every message until the process has ended; its exit status."""
        loop = self._loop
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(self._write_fd, "wb", 0))
        self._writer = transport
        readers: list[tuple[asyncio.ReadTransport, asyncio.BaseProtocol]] = [
            await loop.connect_read_pipe(lambda: _Lines(received), os.fdopen(self._read_fd, "rb", 0))
        ]
        for name, pipe in (("stdout", self._process.stdout), ("stderr", self._process.stderr)):
            readers.append(await loop.connect_read_pipe(partial(_Raw, name, received), pipe))
        self._plan_flush()
        try:
            status = await loop.run_in_executor(None, self._process.wait)
            await asyncio.sleep(0.01)  # what it wrote last is still in the pipes
            return status
        finally:
            transport.close()
            for reader, _ in readers:
                reader.close()

    def send(self, message: list[Any]) -> None:
        """Queue a message; those of one turn of the loop travel in one write."""
        self._out.append(message)
        self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_planned and self._writer is not None and self._out:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        messages, self._out = self._out, []
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(orjson.dumps(messages) + b"\n")

    def kill(self) -> None:
        """End the process and everything that it has started, at once."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
