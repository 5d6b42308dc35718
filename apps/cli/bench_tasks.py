"""The task of `rota bench`: nothing, so that only Rota is measured. Runs in task processes."""

from __future__ import annotations

from rota import task


@task(name="bench.noop")
async def noop() -> None:
    """Do nothing."""
