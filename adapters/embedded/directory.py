"""The data directory of an embedded system: one owner at a time, secrets and ports that stay the same."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from rota_server.domain.errors import Rejected

KINDS = ("store", "relay", "scheduler", "executor")


class DataDirectory:
    """A locked directory. Entering it raises Rejected when another process holds it, and says which."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    def __enter__(self) -> Self:
        keep_private(self.path)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise Rejected(
                f"{self.path} is in use by another rota (process {holder}); stop it, or choose another --data-dir",
                field="data_dir",
                code="data-dir-in-use",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remembered(self) -> dict[str, Any]:
        """Ports and passwords chosen at the first start; readable by the owner only."""
        file = self.path / "embedded.json"
        if file.exists():
            values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if "role_passwords" not in values:  # made by an earlier version
                values["role_passwords"] = _passwords()
                self.remember(values)
            return values
        values = {
            "owner_password": secrets.token_urlsafe(24),
            "app_password": secrets.token_urlsafe(24),
            "role_passwords": _passwords(),
            "valkey_password": secrets.token_urlsafe(24),
            "postgres_port": 0,
            "valkey_port": 0,
        }
        self.remember(values)
        return values

    def remember(self, values: dict[str, Any]) -> None:
        """Keep the values for the next start."""
        file = self.path / "embedded.json"
        fresh = file.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(values, out)
        fresh.replace(file)


def _passwords() -> dict[str, str]:
    """A password for each kind of process."""
    return {kind: secrets.token_urlsafe(24) for kind in KINDS}


def keep_private(folder: Path) -> None:
    """Make the folder, for its owner only. Others may pass through root's: PostgreSQL's account is another."""
    root = os.geteuid() == 0
    folder.mkdir(parents=True, exist_ok=True, mode=0o711 if root else 0o700)
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(folder.stat().st_mode & (0o711 if root else 0o700))


def private_log(path: Path) -> BinaryIO:
    """Open a log for appending that its owner alone reads: tasks and servers may print anything."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "ab")


def usable_port(wanted: int) -> int:
    """`wanted` when it is free on loopback, else any free one."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    raise OSError("no free port on loopback")
