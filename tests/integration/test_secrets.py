"""Secrets by reference on real servers: an executor process, its tasks, its log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rota_server.domain.jobs.retry import RetryPolicy
from tests.integration.executor_system import System, system
from tests.integration.http_server import Serve, say, servers

SECRET = "hunter22+and/more"
OTHER = "never-named-by-anybody"
NAMED = {"$secret": "billing-token", "prefix": "Bearer "}
TASKS = """
import os
import sys
from rota import current_job, task


@task(name="careless")
def careless(token: str) -> dict:
    print("token:", token, flush=True)
    sys.stderr.write(token[:9])
    sys.stderr.write(token[9:] + "\\n")
    os.write(1, token.encode())
    current_job().progress(0.5, token)
    return {"token": token, "environment": sorted(os.environ.items())}


@task(name="clumsy")
def clumsy(token: str) -> None:
    raise ValueError(f"cannot log in with {token}")
"""


@pytest.fixture
async def rota(postgres_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[System]:
    async with system(postgres_url, redis_url, tmp_path) as found:
        yield found


@pytest.fixture
def serve() -> Iterator[Serve]:
    with servers() as start:
        yield start


async def test_secrets_reach_the_tasks_that_name_them_and_nothing_else(rota: System, serve: Serve) -> None:
    def echo(handler: object) -> None:
        say(handler, 200, handler.headers["authorization"].encode())  # type: ignore[arg-type, attr-defined]

    server = serve(echo)
    (rota.directory / "secrets").mkdir()
    (rota.directory / "secrets" / "by-folder").write_text(f"{SECRET}\n")
    executor = await rota.executor(
        tasks=TASKS,
        allow_shell=True,
        secret_billing_token=SECRET,
        secret_other=OTHER,
        secrets_dir=rota.directory / "secrets",
    )
    url = {"$secret": "by-folder", "prefix": f"{server.url}/?token="}
    ids = [
        *await rota.submit("http.request", args={"url": url, "headers": {"Authorization": NAMED}}),
        *await rota.submit("shell.run", args={"command": ["sh", "-c", 'echo "$T"; env'], "env": {"T": NAMED}}),
        *await rota.submit("careless", args={"token": NAMED}),
    ]
    (failed,) = await rota.submit("clumsy", args={"token": NAMED}, retry=RetryPolicy(max_attempts=1))
    await rota.in_state("succeeded", ids)
    await rota.in_state("failed", [failed])

    ((_, path, headers, _),) = server.asked
    assert (path, headers["authorization"]) == (f"/?token={SECRET}", f"Bearer {SECRET}")
    answer = (await rota.job(ids[0])).result
    assert (answer["body"], answer["url"]) == ("Bearer ***", f"{server.url}/?token=***")
    assert "Bearer ***\n" in await rota.printed(ids[1])
    careless = (await rota.job(ids[2])).result
    assert careless["token"] == "Bearer ***"
    assert not [name for name, _ in careless["environment"] if name.startswith("ROTA_SECRET_")]
    assert "token: Bearer ***" in await rota.printed(ids[2])
    error = (await rota.job(failed)).error
    assert error is not None
    assert error.message == "cannot log in with Bearer ***"

    executor.signal(15)
    executor.wait()
    rows = await rota.execute("select data::text || meta::text as said from events")
    everything = executor.said() + "".join(row["said"] for row in rows)
    everything += "".join([await rota.printed(one) for one in (*ids, failed)])
    assert SECRET not in everything
    assert OTHER not in everything
