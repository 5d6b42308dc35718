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
from typing import Any, Literal

from apps.executor.attempts import Attempt, AttemptSink
from apps.executor.builtin.errors import TaskFailed
from domain.builtin_tasks import ShellRun

GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""

READ_BYTES = 16_384
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR")
"""What a program sees of the executor's own environment; nothing of Rota's settings."""


async def run_command(arguments: ShellRun, attempt: Attempt, sink: AttemptSink) -> dict[str, Any]:
    """The exit status. Raises TaskFailed when it is not 0; kills the group when it is cancelled."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env.update(arguments.env)
    if attempt.traceparent is not None:
        env.setdefault("TRACEPARENT", attempt.traceparent)
    try:
        process = await asyncio.create_subprocess_exec(
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
    assert process.stdout is not None  # noqa: S101 - both are pipes
    assert process.stderr is not None  # noqa: S101
    try:
        readers = [
            asyncio.ensure_future(_copy(process.stdout, attempt, sink, "stdout")),
            asyncio.ensure_future(_copy(process.stderr, attempt, sink, "stderr")),
        ]
        try:
            if arguments.stdin is not None:
                await _feed(process, arguments.stdin)
            status = await process.wait()
            # A child that was left behind may hold the pipes open: what it does later is not this job's output.
            await asyncio.wait(readers, timeout=0.5)
        finally:
            for reader in readers:
                reader.cancel()
    finally:
        await _end_group(process)
    return _result(status, arguments.command[0])


def _result(status: int, program: str) -> dict[str, Any]:
    if status == 0:
        return {"exit_status": 0}
    if status < 0:
        raise TaskFailed("Signal", f"{program} was ended by signal {signal.Signals(-status).name}")
    raise TaskFailed("ExitStatus", f"{program} ended with exit status {status}")


async def _feed(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(text.encode())
        await process.stdin.drain()
    process.stdin.close()


async def _copy(
    reader: asyncio.StreamReader, attempt: Attempt, sink: AttemptSink, stream: Literal["stdout", "stderr"]
) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while data := await reader.read(READ_BYTES):
        sink.output(attempt, stream, decoder.decode(data))


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End what is left of the group: after a cancellation all of it, after a normal end what was left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    if process.returncode is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        await process.wait()


def _die_with_executor() -> Any:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGKILL)
