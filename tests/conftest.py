"""Fixtures for all tests: a database, a Redis database, a corner of ZooKeeper, each test's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio  # noqa: F401 - the plugin must be there
from hypothesis import settings

from rota_server.adapters.embedded.postgres import SHARED_PLACE
from tests import scheduling, servers

RUN = "ROTA_TEST_RUN"
settings.register_profile("rota", deadline=None)  # shared machines stretch time
settings.load_profile("rota")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = tempfile.mkdtemp(prefix="rota-tests-run-")
        os.environ["ROTA_TEST_RUN_PID"] = str(os.getpid())


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    return scheduling.make(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and RUN in os.environ:
        servers.end_keepers(Path(os.environ.pop(RUN)))


@dataclass(frozen=True)
class TestDatabase:
    """A migrated database of the test's own; `url` as the application's role, `owner_url` as the owner."""

    __test__ = False
    url: str
    owner_url: str

    def url_of(self, kind: str) -> str:
        """The URL of the role of one kind of process."""
        return as_kind(self.url, kind)


@pytest.fixture(scope="session", autouse=True)
def no_data_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove the data of embedded servers that are kept outside the tests' folders, where root runs the tests."""
    yield
    base = str(tmp_path_factory.getbasetemp())
    for place in SHARED_PLACE.glob("*/belongs-to"):
        if place.read_text(encoding="utf-8").startswith(base):
            shutil.rmtree(place.parent, ignore_errors=True)


def as_kind(url: str, kind: str) -> str:
    """The same database as the role of one kind of process."""
    return url.replace("rota_app:", f"rota_{kind}:")


def redis_as(url: str, kind: str) -> str:
    """The same Redis as the user of one kind of process."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://rota_{kind}:{servers.APP_PASSWORD}@{rest.rpartition('@')[2]}"


def _run() -> Path:
    return Path(os.environ[RUN])


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """The shared server's URL, as the owner."""
    return str(servers.shared("postgres", _run())["url"])


@pytest.fixture
def database(postgres_server: str) -> Iterator[TestDatabase]:
    name = f"t{servers.next_number(_run(), 'databases')}"
    asyncio.run(_execute(postgres_server, f"create database {name} template rota_template strategy file_copy"))
    owner_url = postgres_server.rpartition("/")[0] + f"/{name}"
    host = postgres_server.rpartition("@")[2].rpartition("/")[0]
    yield TestDatabase(f"postgresql://rota_app:{servers.APP_PASSWORD}@{host}/{name}", owner_url)
    asyncio.run(_execute(postgres_server, f"drop database {name} with (force)"))


@pytest.fixture
def postgres_url(database: TestDatabase) -> str:
    return database.url


async def _execute(url: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def redis_url() -> str:
    number = servers.next_number(_run(), "redis")
    return f"{servers.shared('redis', _run())['url']}/{number % servers.REDIS_DATABASES}"


@pytest.fixture
def zookeeper_hosts() -> str:
    from kazoo.client import KazooClient

    hosts = str(servers.shared("zookeeper", _run())["hosts"])
    chroot = f"/test{servers.next_number(_run(), 'zookeeper')}"
    client = KazooClient(hosts=hosts, timeout=10)
    client.start(timeout=20)
    client.ensure_path(chroot)
    client.stop()
    client.close()
    return hosts + chroot
