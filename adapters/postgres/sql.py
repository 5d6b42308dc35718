"""Reads the `.sql` files beside this package. Holds no SQL itself."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from sqlalchemy import Connection


def script(name: str) -> str:
    """The text of a migration's SQL file."""
    return files("rota_server.adapters.postgres.migrations").joinpath(name).read_text(encoding="utf-8")


def run_script(connection: Connection, name: str) -> None:
    """Run a file of several statements; asyncpg takes those only through its own `execute`."""
    adapted: Any = connection.connection.dbapi_connection
    text = script(name)
    adapted.run_async(lambda driver: driver.execute(text))
