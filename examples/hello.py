"""A task to try Rota with: `rota up --tasks examples/hello.py`."""

from __future__ import annotations

from rota import current_job, task


@task(timeout=30)
def greet(name: str) -> str:
    """Greet somebody."""
    current_job().progress(0.5, "half way")
    print(f"greeting {name}")
    return f"Hello, {name}!"
