"""`shell.run`: a program with its output kept, ended with all that it started.

Each has a supervisor (`supervisor.py`), below which all stays that the program starts, whatever sessions it makes.
"""

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
from pathlib import Path
from typing import Any, Literal, cast

from rota_server.apps.executor.account import OWN, TaskAccount
from rota_server.apps.executor.attempts import Attempt, AttemptSink
from rota_server.apps.executor.builtin.errors import TaskFailed
from rota_server.apps.executor.builtin.supervisor import GRACE_SECONDS, KILLING_SECONDS
from rota_server.domain.builtin.tasks import ShellRun

SUPERVISOR = Path(__file__).with_name("supervisor.py")
FINISH_SECONDS = GRACE_SECONDS + KILLING_SECONDS + 5.0
"""How long the supervisor is waited for; then it is killed itself."""

LAST_WORDS_SECONDS = 0.5
"""How long a program's output is waited for after its end."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

Stream = Literal["stdout", "stderr"]
STREAMS: dict[int, Stream] = {1: "stdout", 2: "stderr"}
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR")
"""What a program sees of the executor's own environment; nothing of Rota's settings."""


async def run_command(
    arguments: ShellRun, attempt: Attempt, sink: AttemptSink, account: TaskAccount = OWN
) -> dict[str, Any]:
    """The exit status. Raises TaskFailed when it is not 0; kills the group when it is cancelled."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env.update(account.environment)
    env.update(arguments.env)
    if attempt.traceparent is not None:
        env.setdefault("TRACEPARENT", attempt.traceparent)
    program = _Program(lambda stream, text: sink.output(attempt, stream, text))
    starting = asyncio.ensure_future(_start(arguments, program, env, account))
    try:
        # A start that is cancelled half-way would leave the program's children running, and wait for their pipes.
        transport = await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(TaskFailed):
            transport = await starting
            await _finish(transport, program)
        raise
    try:
        if arguments.stdin is not None:
            _feed(transport, arguments.stdin)
        await program.ended.wait()
        # A child that was left behind may hold the pipes open: what it does later is not this job's output.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await program.silent.wait()
    finally:
        await _finish(transport, program)
    program.finish()
    return _result(program.status, arguments.command[0])


async def _start(
    arguments: ShellRun, program: _Program, env: dict[str, str], account: TaskAccount
) -> asyncio.SubprocessTransport:
    loop = asyncio.get_running_loop()
    status_in, status_out = os.pipe()
    supervisor = (sys.executable, "-I", "-S", "-X", "utf8", str(SUPERVISOR), str(status_out))
    try:
        transport, _ = await loop.subprocess_exec(
            lambda: program,
            *supervisor,
            *arguments.command,
            stdin=subprocess.PIPE if arguments.stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=arguments.cwd,
            env=env,
            pass_fds=(status_out,),
            start_new_session=True,
            preexec_fn=_as_supervisor(account),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        os.close(status_in)
        raise TaskFailed("CommandNotStarted", f"{arguments.command[0]}: {error}", retryable=False) from error
    finally:
        os.close(status_out)
    program.listen(loop, status_in)
    return transport


class _Program(asyncio.SubprocessProtocol):
    """What a program prints, and when it has ended and fallen silent; `exited`: its supervisor as well.

    Not asyncio's own `Process`: its `wait` goes on for as long as anybody holds the pipes open (CPython 3.11 to 3.13),
    so that a daemon left behind, or output that nobody reads any more, would hold the attempt forever.
    """

    def __init__(self, say: Callable[[Stream, str], None]) -> None:
        self.ended = asyncio.Event()
        self.exited = asyncio.Event()
        self.status: tuple[str, str] | None = None
        self.pid: int | None = None
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

    def listen(self, loop: asyncio.AbstractEventLoop, status_fd: int) -> None:
        """Heed what the supervisor says there, until it says no more."""
        loop.add_reader(status_fd, self._hear, loop, status_fd)

    def _hear(self, loop: asyncio.AbstractEventLoop, status_fd: int) -> None:
        said = os.read(status_fd, 65536)
        if not said:
            loop.remove_reader(status_fd)
            os.close(status_fd)
            self.ended.set()
        for line in said.decode(errors="replace").splitlines():
            kind, _, text = line.partition(" ")
            if kind == "started":
                self.pid = int(text)
            elif self.status is None or kind == "error":  # a command that cannot be started also ends, with 127
                self.status = (kind, text)
                self.ended.set()

    def process_exited(self) -> None:
        """The supervisor has ended, and the program with it."""
        self.exited.set()
        self.ended.set()

    def finish(self) -> None:
        """Pass on what is left of a character that was cut."""
        for fd, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                self._say(STREAMS[fd], text)


def _result(status: tuple[str, str] | None, program: str) -> dict[str, Any]:
    kind, text = status or ("signal", str(int(signal.SIGKILL)))  # its supervisor was killed
    if kind == "error":
        raise TaskFailed("CommandNotStarted", f"{program}: {text}", retryable=False)
    if kind == "signal":
        raise TaskFailed("Signal", f"{program} was ended by signal {_signal_name(int(text))}")
    if text != "0":
        raise TaskFailed("ExitStatus", f"{program} ended with exit status {text}")
    return {"exit_status": 0}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals between the first and the last
        return str(number)


def _feed(transport: asyncio.SubprocessTransport, text: str) -> None:
    pipe = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
    pipe.write(text.encode())
    pipe.close()  # after what was written


async def _finish(transport: asyncio.SubprocessTransport, program: _Program) -> None:
    """End what is left: after a cancellation all of it, after a normal end what was left behind."""
    with contextlib.suppress(ProcessLookupError):
        transport.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(FINISH_SECONDS):
            await program.exited.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            transport.kill()
        await program.exited.wait()
    if program.status is None and program.pid is not None:
        # The supervisor was killed: the program's own group can still be found.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, signal.SIGKILL)
    transport.close()


def _as_supervisor(account: TaskAccount) -> Any:
    """What makes the supervisor one, under the account, before it is begun: all of it stays with it."""
    if sys.platform != "linux":
        return None if not account.identity else lambda: _become(account)
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        _become(account)  # first: a change of user clears the signal of the parent's death
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)

    return prepare


def _become(account: TaskAccount) -> None:
    """Take the account on, for good. Here, since uvloop's processes cannot be started with a user."""
    if account.identity:
        os.setgroups(account.identity["extra_groups"])
        os.setgid(account.identity["group"])
        os.setuid(account.identity["user"])
