"""Tasks that run in a real system and in memory alike, and must do the same there."""

from __future__ import annotations

from typing import Any

from rota import NoRetry, current_job, task


@task(name="oracle.add", queue="sums")
def add(a: int, b: int = 0) -> int:
    return a + b


@task(name="oracle.fail", retry={"max_attempts": 1})
def fail(said: str = "on purpose") -> None:
    raise ValueError(said)


@task(name="oracle.twice", retry={"max_attempts": 3, "initial": 0.1, "jitter": 0})
def twice() -> int:
    if current_job().attempt < 2:
        raise OSError("not yet")
    return current_job().attempt


@task(name="oracle.never")
def never() -> None:
    raise NoRetry("no use")


@task(name="oracle.gather")
def gather() -> dict[str, Any]:
    return {"results": dict(current_job().results)}


@task(name="oracle.fetch")
def fetch(url: str, timeout: float = 1.0) -> dict[str, Any]:
    return {"url": url, "timeout": timeout}
