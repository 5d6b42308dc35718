"""The task of the failure drills: leaves a trace outside of Rota for each attempt that really ran."""

from __future__ import annotations

import asyncio
import os
import time

from rota import current_job, task

TRACE = os.environ.get("CHAOS_TRACE", "/dev/null")


def _leave_trace() -> None:
    job = current_job()
    descriptor = os.open(TRACE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, f"{job.id} {job.attempt}\n".encode())
    os.close(descriptor)


@task(name="chaos.work", timeout=30)
async def work(number: int, seconds: float = 0.02) -> int:
    _leave_trace()
    await asyncio.sleep(seconds)
    return number


@task(name="chaos.plain", timeout=120)
def plain(number: int, seconds: float) -> int:
    _leave_trace()
    time.sleep(seconds)
    return number


@task(name="chaos.layer", timeout=30)
async def layer() -> int:
    """The number of the layer in a workflow: one more than the greatest of those before it."""
    _leave_trace()
    await asyncio.sleep(0.02)
    return 1 + max(current_job().results.values(), default=0)
