"""The embedded servers on a data directory."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from rota_server.adapters.embedded.directory import DataDirectory
from rota_server.adapters.embedded.postgres import EmbeddedPostgres
from rota_server.adapters.postgres.migrate import migrate
from rota_server.domain.errors import Rejected


def test_a_data_directory_that_was_deleted_starts_afresh(tmp_path: Path) -> None:
    """pytest's own directory is closed to others, so that root's data are kept elsewhere: those must not come back."""
    for _ in range(2):
        with DataDirectory(tmp_path / "data") as directory, EmbeddedPostgres(directory) as postgres:
            assert asyncio.run(migrate(postgres.url, directory.remembered()["app_password"]))
            kept = Path(directory.remembered().get("postgres_data", directory.path / "postgres"))
            assert (kept / "PG_VERSION").exists()
        shutil.rmtree(tmp_path / "data")
        if kept.exists():
            assert os.geteuid() == 0
            assert (kept.parent / "belongs-to").read_text() == f"{tmp_path / 'data'}\n"
            shutil.rmtree(kept.parent)


def test_a_data_directory_has_one_owner(tmp_path: Path) -> None:
    in_use = pytest.raises(Rejected, match=rf"in use by another rota \(process {os.getpid()}\)")
    with DataDirectory(tmp_path), in_use:
        DataDirectory(tmp_path).__enter__()
    with DataDirectory(tmp_path) as again:
        assert again.remembered() == again.remembered()
        assert (tmp_path / "embedded.json").stat().st_mode & 0o777 == 0o600
