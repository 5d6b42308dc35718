"""Roles and commands as processes of their own that start at once: forked from one that has imported everything.

What they run is the command line, as a program would; only the seconds of importing are had once for all.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.waiting import POLL_SECONDS

ROLES = ("store", "relay", "scheduler", "executor")
IMPORTED = (
    *(f"apps.{role}.main" for role in ROLES),
    "rota_server.apps.cli.main",
    "rota_server.apps.cli.up",
    "rota_server.adapters.zookeeper.coordination",
)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*IMPORTED, __name__])


@dataclass
class RoleProcess:
    """One that was started; `log` has what it says."""

    name: str
    process: ForkServerProcess
    log: Path
    port: int
    """Where it serves, if it is a store."""

    def said(self) -> str:
        """Everything that it has said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def send(self, number: int) -> None:
        """Send a signal; nothing where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def pid(self) -> int:
        """Its process id."""
        pid = self.process.pid
        assert pid is not None
        return pid

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self.process.exitcode


def start(
    arguments: Sequence[str], env: Mapping[str, str], place: Path, name: str, *, log: Path | None = None
) -> RoleProcess:
    """Start `rota ARGUMENTS` in the folder `place`, with these settings and no others of Rota."""
    log = log or place / f"{name}.log"
    process = _started(arguments, env, place, log, log)
    return RoleProcess(name, process, log, int(env.get("ROTA_PORT", 0)))


def run(
    arguments: Sequence[str], env: Mapping[str, str], place: Path, *, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `rota ARGUMENTS` in the folder `place` to its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _started(arguments, env, place, out, err)
        process.join(timeout)
        status = process.exitcode
        if status is None:
            process.kill()
            raise subprocess.TimeoutExpired(["rota", *arguments], timeout)
        process.close()
        return subprocess.CompletedProcess(list(arguments), status, out.read_text(), err.read_text())


def _started(arguments: Sequence[str], env: Mapping[str, str], place: Path, out: Path, err: Path) -> ForkServerProcess:
    words = (list(arguments), dict(env), str(place), str(out), str(err))
    process = _context.Process(target=_live, args=words)
    process.start()
    return process


def _live(arguments: Sequence[str], env: Mapping[str, str], place: str, *outputs: str) -> None:
    os.setsid()
    for number, output in enumerate(outputs, start=1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    os.chdir(place)
    for name in [name for name in os.environ if name.startswith("ROTA_")]:
        del os.environ[name]
    os.environ.update(env)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from rota_server.apps.cli.entry import main

    sys.argv = ["rota", *arguments]
    main()


@contextmanager
def killed_at_the_end(processes: Sequence[RoleProcess]) -> Iterator[None]:
    """Whatever still runs when the context ends is killed, with what it has started."""
    try:
        yield
    finally:
        for one in processes:
            if one.status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGKILL)
            one.process.join(10)
            one.process.close()


def ends(processes: Sequence[RoleProcess], seconds: float) -> dict[str, tuple[int, float]]:
    """Wait at most so long; the exit status of each that has ended, and after how many seconds."""
    began = time.monotonic()
    found: dict[str, tuple[int, float]] = {}
    while len(found) < len(processes) and time.monotonic() < began + seconds:
        for one in processes:
            status = one.status
            if one.name not in found and status is not None:
                found[one.name] = (status, time.monotonic() - began)
        time.sleep(POLL_SECONDS)
    return found
