"""Keeps the processes of one machine running: one a role, restarted when it dies, all ended together.

Each runs in a session of its own and dies with the supervisor, however that ends. Never touches a process that it did
not start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rota_server.adapters.embedded.directory import keep_private, private_log
from rota_server.adapters.embedded.process import spawn

log = logging.getLogger("rota.supervisor")

RESTART_SECONDS = (0.2, 5.0)
STABLE_SECONDS = 30.0
"""After so long a life a process starts with the shortest pause again."""

STOP_SECONDS = 15.0
LOG_LIMIT_BYTES = 10_000_000
USAGE_STATUS = 2
"""The exit status of a process whose settings are wrong; starting it again would not help."""


class Misconfigured(Exception):
    """A process refuses its settings; the message carries its last words."""


@dataclass
class Role:
    """A process to keep running, or (`restart`) anything that can tell whether it lives and start itself."""

    name: str
    argv: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause_seconds: float = RESTART_SECONDS[0]
    restarts: int = 0


@dataclass
class Server:
    """A server that knows how to start itself."""

    name: str
    alive: Callable[[], bool]
    start: Callable[[], None]
    pid: Callable[[], int | None] = lambda: None


class Supervisor:
    """Starts servers and roles in order, watches them, stops them in the reverse order."""

    def __init__(self, servers: Sequence[Server], roles: Sequence[Role], log_directory: Path) -> None:
        self.servers = list(servers)
        self.roles = list(roles)
        self._logs = log_directory

    def start(self) -> None:
        """Start all roles; the servers run already."""
        keep_private(self._logs)
        for role in self.roles:
            self._start(role)

    def check(self) -> None:
        """Start again what has died. To be called a few times a second.

        Raises:
            Misconfigured: a role ended because of its settings.
        """
        now = time.monotonic()
        for server in self.servers:
            if not server.alive():
                log.warning("%s has died and is started again", server.name)
                server.start()
        for role in self.roles:
            self._check(role, now)

    def _check(self, role: Role, now: float) -> None:
        if role.process is None:
            if now >= role.restart_at:
                self._start(role)
            return
        status = role.process.poll()
        if status is None:
            return
        if status == USAGE_STATUS:
            raise Misconfigured(f"{role.name} refuses to start:\n{self.last_words(role)}")
        shortest, longest = RESTART_SECONDS
        role.pause_seconds = (
            shortest if now - role.started_at > STABLE_SECONDS else min(role.pause_seconds * 2, longest)
        )
        log.warning("%s has ended with status %d and is started again in %.1f s", role.name, status, role.pause_seconds)
        role.process = None
        role.restarts += 1
        role.restart_at = now + role.pause_seconds

    def _start(self, role: Role) -> None:
        path = self._log_path(role)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_LIMIT_BYTES:
                path.replace(path.with_suffix(".log.1"))
        with private_log(path) as out:
            role.process = spawn(role.argv, log=out, death_signal=signal.SIGTERM, env={**os.environ, **role.env})
        role.started_at = time.monotonic()

    def _log_path(self, role: Role) -> Path:
        return self._logs / f"{role.name}.log"

    def last_words(self, role: Role, lines: int = 8) -> str:
        """The end of a role's log."""
        try:
            return "\n".join(self._log_path(role).read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask all roles to end, the last started first; end by force what has not within the time."""
        running = [role.process for role in reversed(self.roles) if role.process is not None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + seconds
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("process %d does not end and is killed", process.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
