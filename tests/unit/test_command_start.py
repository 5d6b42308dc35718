"""How the command line starts: what only some commands need, the others do not wait for."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("sqlalchemy", "alembic", "asyncpg", "redis", "kazoo", "faststream", "fastapi", "uvicorn", "httpx", "pydantic")


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The packages that `import apps.cli.main` brings along."""
    program = "import sys, rota_server.apps.cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", HEAVY)
def test_a_command_loads_only_what_it_needs(package: str, imported: set[str]) -> None:
    assert package not in imported
