"""A real PgBouncer for the tests: Debian's package, which is installed where there is root and apt. On loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from rota_server.adapters.embedded.directory import usable_port
from rota_server.adapters.embedded.process import spawn, stop, unprivileged_account
from tests import debian_packages
from tests.waiting import until_sync

PROGRAM = "usr/sbin/pgbouncer"
START_SECONDS = 20.0


@contextmanager
def pgbouncer(url: str, mode: str, **settings: str) -> Iterator[str]:
    """The address of a PgBouncer before the server of `url`, in this pool mode, with further settings."""
    program = debian_packages.program("pgbouncer", PROGRAM)
    parts = urlsplit(url)
    port = usable_port(0)
    account = unprivileged_account()
    with TemporaryDirectory(prefix="rota-tests-pgbouncer-") as name:
        place = Path(name)
        users = {parts.username: parts.password, "rota_app": _password_of("rota_app", url)}
        (place / "users.txt").write_text("".join(f'"{user}" "{password}"\n' for user, password in users.items()))
        chosen = {
            "listen_addr": "127.0.0.1", "listen_port": str(port), "unix_socket_dir": "", "auth_type": "scram-sha-256",
            "auth_file": f"{place}/users.txt", "pool_mode": mode, "max_client_conn": "500", **settings,
        }  # fmt: skip
        lines = [f"[databases]\n* = host={parts.hostname} port={parts.port}\n[pgbouncer]\n"]
        lines += [f"{key} = {value}\n" for key, value in chosen.items()]
        (place / "pgbouncer.ini").write_text("".join(lines))
        if account is not None:
            for path in (place, *place.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        log = place / "pgbouncer.log"
        with log.open("wb") as out:
            process = spawn([program, place / "pgbouncer.ini"], account=account, log=out, death_signal=signal.SIGKILL)
        try:
            until_sync(lambda: _answers(process, port, log), timeout_seconds=START_SECONDS, what="PgBouncer's answer")
            yield url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{port}")
        finally:
            stop(process, [(signal.SIGKILL, 10.0)])


def _answers(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"PgBouncer did not start:\n{log.read_text(errors='replace')[-2000:]}")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _password_of(user: str, url: str) -> str:
    from tests.servers import APP_PASSWORD

    parts = urlsplit(url)
    return str(parts.password) if parts.username == user else APP_PASSWORD
