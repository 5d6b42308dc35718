"""The store as a process: what it refuses to do, how it starts and ends, two of them side by side."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from rota_server.apps.settings import Settings
from rota_server.apps.store.main import main
from tests.integration.store.test_live import take
from tests.waiting import until, until_sync

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from rota_server.apps.settings import load_settings
from rota_server.apps.store.main import main

sys.exit(main(load_settings()))
"""


class StoreProcess:
    """A store of its own, from its settings."""

    def __init__(self, log: Path, **settings: Any) -> None:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("ROTA_", "OTEL_"))}
        env = {**kept, "PYTHONPATH": str(ROOT), **{f"ROTA_{n.upper()}": str(v) for n, v in settings.items()}}
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM], env=env, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def url(self) -> str:
        """Where it listens, once it does."""
        until_sync(lambda: "listens on" in self.output or self.process.poll() is not None, what="the store's start")
        found = re.search(r"listens on (http://\S+)", self.output)
        assert found is not None, self.output
        return found[1]

    def ended(self) -> int:
        """The exit status, once it has ended."""
        return self.process.wait(timeout=30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[StoreProcess] = []

    def start_one(**settings: Any) -> StoreProcess:
        store = StoreProcess(tmp_path / f"store{len(started)}.log", **settings)
        started.append(store)
        return store

    yield start_one
    for store in started:
        store.process.kill()
        store.process.wait()


def test_it_refuses_to_listen_beyond_loopback_without_tokens(capsys):
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        settings = Settings(_env_file=None, database_url="postgresql://nowhere/", host=host)  # type: ignore[call-arg]
        assert main(settings) == 2
        said = capsys.readouterr().err
        assert "ROTA_API_TOKENS" in said
        assert "--insecure" in said


def test_the_refusal_is_the_exit_status_of_the_process(start: Any):
    store = start(host="0.0.0.0", port=0, database_url="postgresql://rota:x@127.0.0.1:1/rota")
    assert store.ended() == 2
    assert "ROTA_API_TOKENS" in store.output
    assert "Traceback" not in store.output


def test_it_says_which_setting_is_missing(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(Settings(_env_file=None, database_url=None))  # type: ignore[call-arg]
    assert stopped.value.code == 2
    assert "ROTA_DATABASE_URL" in capsys.readouterr().err


async def test_it_listens_beyond_loopback_with_tokens_or_when_told_to(start: Any, postgres_url: str):
    guarded = start(host="0.0.0.0", port=0, database_url=postgres_url, api_tokens="ci:abc-abc-abc-abc-abc")
    insecure = start(host="0.0.0.0", port=0, database_url=postgres_url, insecure="true")
    async with httpx.AsyncClient() as client:
        url = guarded.url().replace("0.0.0.0", "127.0.0.1")
        assert (await client.get(f"{url}/v1/jobs")).status_code == 401
        assert (
            await client.get(f"{url}/v1/jobs", headers={"Authorization": "Bearer abc-abc-abc-abc-abc"})
        ).status_code == 200
        url = insecure.url().replace("0.0.0.0", "127.0.0.1")
        assert (await client.get(f"{url}/v1/jobs")).status_code == 200
    assert "abc" not in guarded.output
    assert "127.0.0.1 asked without a valid token: GET '/v1/jobs'" in guarded.output


def test_a_taken_port_is_told_and_ends_it(start: Any, postgres_url: str):
    first = start(port=0, database_url=postgres_url)
    port = first.url().rpartition(":")[2]
    second = start(port=port, database_url=postgres_url)
    assert second.ended() == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in second.output


async def test_it_starts_without_postgresql_and_says_so(start: Any):
    store = start(port=0, database_url="postgresql://rota:x@127.0.0.1:1/rota")
    async with httpx.AsyncClient(base_url=store.url(), timeout=20) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        answer = await client.post("/v1/jobs", json={"task": "shell.run", "args": {"command": ["true"]}})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert (await client.get("/v1/jobs")).status_code == 503
    store.process.send_signal(signal.SIGTERM)
    assert store.ended() == 0


async def test_two_stores_side_by_side_are_one_system(start: Any, postgres_url: str):
    two = [start(port=0, database_url=postgres_url, unknown_tasks="accept") for _ in range(2)]
    async with httpx.AsyncClient(base_url=two[0].url()) as one, httpx.AsyncClient(base_url=two[1].url()) as other:
        clients = (one, other)
        answers = await asyncio.gather(
            *(clients[n % 2].post("/v1/jobs", json={"task": "noop", "args": {"n": n}}) for n in range(100))
        )
        assert {a.status_code for a in answers} == {201}
        assert sorted(int(a.headers["rota-position"]) for a in answers) == list(range(1, 101))
        job = answers[0].json()
        assert (await other.get(f"/v1/jobs/{job['id']}?at_least=100")).json() == job
        cancels = await asyncio.gather(*(c.post(f"/v1/jobs/{job['id']}/cancel") for c in clients * 5))
        assert {c.status_code for c in cancels} == {200}
        history = (await one.get(f"/v1/jobs/{job['id']}/events")).json()["items"]
        assert [e["type"] for e in history] == ["JobSubmitted", "JobCancelled"]

        async def members() -> bool:
            return len((await one.get("/v1/cluster")).json()["members"]["store"]) == 2

        await until(members, what="both stores among the members")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_at_a_signal_with_live_streams_open(start: Any, postgres_url: str, number: signal.Signals):
    store = start(port=0, database_url=postgres_url, unknown_tasks="accept")
    async with httpx.AsyncClient(base_url=store.url(), timeout=20) as client:
        await client.post("/v1/jobs", json={"task": "noop"})
        reading = asyncio.create_task(take(client, 1000, "?after=0"))
        await asyncio.sleep(0)
        await until(lambda: _established(store.process.pid), what="the stream's connection")
        store.process.send_signal(number)
        await asyncio.to_thread(store.ended)
        assert await reading in ([1], [])
    assert store.process.returncode == 0
    assert "Traceback" not in store.output


def _established(pid: int) -> bool:
    connections = psutil.Process(pid).net_connections("tcp")
    return sum(c.status == psutil.CONN_ESTABLISHED for c in connections) >= 2


async def test_killed_in_the_middle_it_has_every_job_that_it_answered(start: Any, postgres_url: str):
    store = start(port=0, database_url=postgres_url, unknown_tasks="accept")
    accepted: list[str] = []

    async def submit(client: httpx.AsyncClient) -> None:
        while True:
            try:
                answer = await client.post("/v1/jobs", json={"task": "noop"})
            except httpx.TransportError:
                return
            assert answer.status_code == 201
            accepted.append(answer.json()["id"])

    async with httpx.AsyncClient(base_url=store.url()) as client:
        submitting = [asyncio.create_task(submit(client)) for _ in range(8)]
        await until(lambda: len(accepted) > 200)
        store.process.kill()
        await asyncio.gather(*submitting)
    again = start(port=0, database_url=postgres_url, unknown_tasks="accept")
    async with httpx.AsyncClient(base_url=again.url()) as client:
        kept: set[str] = set()
        after = 0
        while items := (await client.get(f"/v1/events?after={after}&limit=1000")).json()["items"]:
            kept |= {item["stream_id"] for item in items}
            after = items[-1]["position"]
    assert set(accepted) <= kept
    assert len(kept) - len(accepted) <= 8, "at most what was under way is there without having been answered"
