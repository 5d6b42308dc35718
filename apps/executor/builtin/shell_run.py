"""`shell.run`: a program in a process group of its own, its output kept, ended with all that it started."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal, cast

from apps.executor.attempts import Attempt, AttemptSink
from apps.executor.builtin.errors import TaskFailed
from domain.builtin_tasks import ShellRun

GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""

LAST_WORDS_SECONDS = 0.5
"""How long a program's output is waited for behind its end."""

Stream = Literal["stdout", "stderr"]
STREAMS: dict[int, Stream] = {1: "stdout", 2: "stderr"}
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR")
"""What a program sees of the executor's own environment; nothing of Rota's settings."""


async def run_command(arguments: ShellRun, attempt: Attempt, sink: AttemptSink) -> dict[str, Any]:
    """The exit status. Raises TaskFailed when it is not 0; kills the group when it is cancelled."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env.update(arguments.env)
    if attempt.traceparent is not None:
        env.setdefault("TRACEPARENT", attempt.traceparent)
    program = _Program(lambda stream, text: sink.output(attempt, stream, text))
    starting = asyncio.ensure_future(_start(arguments, program, env))
    try:
        # A start that is cancelled half-way would leave the program's children running, and wait for their pipes.
        transport = await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(TaskFailed):
            transport = await starting
            await _end_group(transport.get_pid(), program)
            transport.close()
        raise
    try:
        if arguments.stdin is not None:
            _feed(transport, arguments.stdin)
        await program.exited.wait()
        # A child that was left behind may hold the pipes open: what it does later is not this job's output.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await program.silent.wait()
    finally:
        await _end_group(transport.get_pid(), program)
        transport.close()
    program.finish()
    return _result(transport.get_returncode(), arguments.command[0])


async def _start(arguments: ShellRun, program: _Program, env: dict[str, str]) -> asyncio.SubprocessTransport:
    try:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: program,
            *arguments.command,
            stdin=subprocess.PIPE if arguments.stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=arguments.cwd,
            env=env,
            start_new_session=True,
            preexec_fn=_die_with_executor(),
        )
    except (OSError, ValueError) as error:
        raise TaskFailed("CommandNotStarted", f"{arguments.command[0]}: {error}", retryable=False) from error
    return transport


class _Program(asyncio.SubprocessProtocol):
    """What a program prints, and when it has ended and fallen silent.

    Not asyncio's own `Process`: its `wait` goes on for as long as anybody holds the pipes open (CPython 3.11 to 3.13),
    so that a daemon left behind, or output that nobody reads any more, would hold the attempt for ever.
    """

    def __init__(self, say: Callable[[Stream, str], None]) -> None:
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()
        self._say = say
        self._decoders = {fd: codecs.getincrementaldecoder("utf-8")(errors="replace") for fd in STREAMS}
        self._open = set(STREAMS)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        """Pass it on."""
        assert isinstance(data, bytes)  # noqa: S101 - pipes carry bytes
        if text := self._decoders[fd].decode(data):
            self._say(STREAMS[fd], text)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Note the end of an output."""
        self._open.discard(fd)
        if not self._open:
            self.silent.set()

    def process_exited(self) -> None:
        """Wake who waits."""
        self.exited.set()

    def finish(self) -> None:
        """Pass on what is left of a character that was cut."""
        for fd, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                self._say(STREAMS[fd], text)


def _result(status: int | None, program: str) -> dict[str, Any]:
    if status == 0:
        return {"exit_status": 0}
    assert status is not None  # noqa: S101 - it has ended
    if status < 0:
        raise TaskFailed("Signal", f"{program} was ended by signal {signal.Signals(-status).name}")
    raise TaskFailed("ExitStatus", f"{program} ended with exit status {status}")


def _feed(transport: asyncio.SubprocessTransport, text: str) -> None:
    pipe = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
    pipe.write(text.encode())
    pipe.close()  # behind what was written


async def _end_group(group: int, program: _Program) -> None:
    """End what is left of the group: after a cancellation all of it, after a normal end what was left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
    if not program.exited.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await program.exited.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    await program.exited.wait()


def _die_with_executor() -> Any:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGKILL)
