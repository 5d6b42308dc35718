"""What an executor's /metrics says of its attempts."""

from __future__ import annotations

import asyncio
import urllib.request

from prometheus_client import start_http_server

from tests.unit.executor_parts import MemoryLog, MemoryQueue, TestExecutor, item_of
from tests.waiting import until


def figures(port: int) -> dict[str, float]:
    """What a scraper reads there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:  # loopback
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


async def test_metrics_say_how_long_attempts_wait_from_their_claim_to_their_beginning() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    jobs = [log.submit() for _ in range(3)]
    queue.put(*(item_of(log, job_id) for job_id in jobs))
    async with TestExecutor(log, queue).working() as executor:
        await until(lambda: all(log.job(job_id).state == "succeeded" for job_id in jobs))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=executor.registry)
    try:
        found = await asyncio.to_thread(figures, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert found["rota_attempt_wait_seconds_count"] == 3
    assert 0 <= found["rota_attempt_wait_seconds_sum"] < 30
    assert found['rota_attempt_wait_seconds_bucket{le="+Inf"}'] == 3
