"""A standby of an embedded PostgreSQL, by streaming replication with PostgreSQL's own programs."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from rota_server.adapters.embedded.directory import usable_port
from rota_server.adapters.embedded.postgres import SETTINGS, EmbeddedPostgres
from rota_server.adapters.embedded.process import spawn, stop


@contextmanager
def standby_of(primary: EmbeddedPostgres) -> Iterator[int]:
    """Copy the primary to a place beside it, and follow it from there; the standby's port."""
    url = make_url(primary.url)
    place = primary._data.with_name(f"standby-{primary.port}")  # where the server's account gets at it
    place.mkdir()
    account = primary._account
    if account is not None:
        os.chown(place, account.pw_uid, account.pw_gid)
    place.chmod(0o700)
    copying = spawn(
        [
            primary._binaries / "pg_basebackup", "--pgdata", place, "--host", "127.0.0.1", "--port", str(primary.port),
            "--username", str(url.username), "--checkpoint", "fast", "--write-recovery-conf",
        ],
        account=account,
        cwd=Path("/"),
        env={**os.environ, "PGPASSWORD": str(url.password)},
    )  # fmt: skip
    assert copying.wait(60) == 0
    port = usable_port(0)
    settings = [f"-c{name}={value}" for name, value in {**SETTINGS, "port": str(port)}.items()]
    process = spawn(
        [primary._binaries / "postgres", "-D", place, *settings],
        account=account,
        death_signal=signal.SIGINT,
        cwd=Path("/"),
    )
    try:
        yield port
    finally:
        stop(process, [(signal.SIGINT, 20.0), (signal.SIGKILL, 5.0)])
        shutil.rmtree(place, ignore_errors=True)
