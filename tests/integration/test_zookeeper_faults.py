"""What ZooKeeper's outages, losses and twins do to the coordination: nobody wrongly dead, never two terms in force."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.fence import PostgresFence
from rota_server.adapters.postgres.migrate import forget_term
from rota_server.adapters.zookeeper.coordination import ZooKeeperCoordination
from rota_server.adapters.zookeeper.session import SESSION_SECONDS
from rota_server.domain.errors import NotLeader, Unavailable
from rota_server.domain.ids import Term
from rota_server.domain.ports.coordination import Coordination
from tests.conftest import TestDatabase
from tests.integration.coordination_tools import SOON_SECONDS, append_as, coordinated, peer
from tests.waiting import until
from tests.zookeeper_ensemble import ZooKeeperEnsemble
from tests.zookeeper_server import ZooKeeperServer


@pytest.fixture
def zookeeper(tmp_path: Path) -> Iterator[ZooKeeperServer]:
    """A server that the test may stop."""
    server = ZooKeeperServer(tmp_path / "zookeeper")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url, pool_size=10)
    yield database
    await database.close()


async def passes(seconds: float) -> None:
    """An outage has to last: there is no other sign for that than the clock."""
    end = time.monotonic() + seconds
    await until(lambda: time.monotonic() >= end, timeout_seconds=seconds + 5)


async def test_an_outage_ends_the_lead_at_once_but_kills_nobody(zookeeper: ZooKeeperServer, pool: Database):
    async with (
        coordinated(pool, zookeeper.hosts) as one,
        coordinated(pool, zookeeper.hosts) as other,
        one.register("executor", "e1", {}) as place,
    ):
        watching = other.watch_members("executor")
        assert [m.id for m in await anext(watching)] == ["e1"]
        async with one.elect("a", {}) as leadership:
            zookeeper.stop()
            async with asyncio.timeout(5):
                await leadership.wait_lost()
            assert not leadership.held
            with pytest.raises(Unavailable):
                await anext(watching)
            await passes(SESSION_SECONDS + 1)
            first = leadership.term
        # The lead is given up, but its node is still there; the session survives and must not be hindered by it.
        assert not place.lost
        zookeeper.start()
        async with asyncio.timeout(SOON_SECONDS):
            async with one.elect("b", {}) as again:
                assert again.term > first
                assert not leadership.held
            async with other.elect("c", {}) as third:
                assert third.term > again.term
        assert not place.lost
        assert [m.id for m in await other.members("executor")] == ["e1"]


async def test_whoever_outlives_its_session_learns_that_its_place_is_lost(zookeeper: ZooKeeperServer, pool: Database):
    """Even when the server has lost all its data, and knows less than its clients have seen."""
    async with coordinated(pool, zookeeper.hosts) as one:
        async with one.register("executor", "e1", {}) as place:
            zookeeper.stop()
            shutil.rmtree(zookeeper._directory / "data")
            zookeeper.start()
            async with asyncio.timeout(SOON_SECONDS):
                await place.wait_lost()
        async with asyncio.timeout(SOON_SECONDS), one.register("executor", "e2", {}) as place:
            assert not place.lost
            assert [m.id for m in await one.members("executor")] == ["e2"]


async def test_a_place_that_somebody_removes_is_lost(zookeeper_hosts: str, pool: Database):
    async with coordinated(pool, zookeeper_hosts) as one, one.register("executor", "e1", {}) as place:
        client = KazooClient(hosts=zookeeper_hosts)
        client.start()
        client.delete("/rota/executors/e1")
        client.stop()
        client.close()
        async with asyncio.timeout(SOON_SECONDS):
            await place.wait_lost()


async def test_after_zookeepers_data_were_lost_nobody_leads_until_an_operator_says_so(
    zookeeper: ZooKeeperServer, pool: Database, database: TestDatabase
):
    await PostgresFence(pool).enter(Term(1_000_000), "before")
    async with coordinated(pool, zookeeper.hosts) as one:
        with pytest.raises(NotLeader, match="rota migrate --reset-term") as refused:
            async with one.elect("a", {}):
                pass
        assert refused.value.current_term == 1_000_000
        await forget_term(database.owner_url)
        async with asyncio.timeout(SOON_SECONDS), one.elect("b", {}) as leadership:
            assert leadership.held
            assert leadership.term < 1_000_000


async def test_two_that_lead_because_one_started_alone_are_never_both_in_force(
    zookeeper: ZooKeeperServer, pool: Database, tmp_path: Path
):
    alone = ZooKeeperServer(tmp_path / "alone")
    alone.start()
    log = PostgresEventLog(pool)

    async def is_believed(lonely: Coordination, node: str, first: Term) -> bool:
        try:
            async with lonely.elect(node, {}) as second:
                await append_as(log, second.term)
                with pytest.raises(NotLeader) as refused:
                    await append_as(log, first)
                assert refused.value.current_term == second.term
                return True
        except NotLeader:
            await append_as(log, first)
            return False

    try:
        async with (
            coordinated(pool, zookeeper.hosts) as one,
            coordinated(pool, alone.hosts) as lonely,
            one.elect("a", {}) as leadership,
        ):
            await append_as(log, leadership.term)
            assert not await is_believed(lonely, "lonely", leadership.term)
            # Each try counts its ZooKeeper on, until its term is the greater one.
            numbers = itertools.count()
            await until(
                lambda: is_believed(lonely, f"lonely{next(numbers)}", leadership.term), what="its being believed"
            )
    finally:
        alone.stop()
        await log.close()


async def test_leader_and_executors_can_be_read_with_zookeepers_own_tools(zookeeper_hosts: str, pool: Database):
    client = KazooClient(hosts=zookeeper_hosts)
    client.start()
    try:
        async with (
            coordinated(pool, zookeeper_hosts) as one,
            one.register("executor", "e1", {"slots": 4}),
            one.elect("a", {"host": "h"}) as leadership,
        ):
            (contender,) = client.get_children("/rota/leader")
            value, stat = client.get(f"/rota/leader/{contender}")
            assert json.loads(value)["id"] == "a"
            assert stat.czxid == leadership.term
            value, stat = client.get("/rota/executors/e1")
            assert json.loads(value)["info"] == {"slots": 4}
            assert stat.ephemeralOwner != 0
        assert client.get_children("/rota/leader") == []
        assert client.get_children("/rota/executors") == []
    finally:
        client.stop()
        client.close()


async def test_with_credentials_others_may_read_but_not_change(zookeeper_hosts: str, pool: Database):
    hosts = f"{zookeeper_hosts}/not/there/yet"
    coordination = ZooKeeperCoordination(hosts, PostgresFence(pool), auth="rota:secret")
    client = KazooClient(hosts=hosts)
    try:
        async with coordination, coordination.register("executor", "e1", {}), coordination.elect("a", {}):
            client.start()
            assert client.get_children("/rota/executors") == ["e1"]
            with pytest.raises(NoAuthError):
                client.delete("/rota/executors/e1")
            with pytest.raises(NoAuthError):
                client.create("/rota/leader/x")
            async with coordinated(pool, hosts) as stranger:
                with pytest.raises(Unavailable, match="ROTA_ZOOKEEPER_AUTH"):
                    async with stranger.elect("b", {}):
                        pass
    finally:
        client.stop()
        client.close()


async def test_an_ensemble_that_loses_its_leader_goes_on(tmp_path: Path, pool: Database, postgres_url: str):
    ensemble = ZooKeeperEnsemble(tmp_path)
    ensemble.start()
    hosts = f"{ensemble.hosts}/rota-tests"
    try:
        async with coordinated(pool, hosts) as one:
            async with one.register("executor", "e1", {}) as place, one.elect("a", {}) as leadership:
                first = leadership.term
                killed = ensemble.leader()
                assert killed is not None
                ensemble.kill(killed)
                await until(ensemble.leader, timeout_seconds=60, what="the ensemble's next leader")

                async def is_member() -> bool:
                    try:
                        return [m.id for m in await one.members("executor")] == ["e1"]
                    except Unavailable:
                        return False

                await until(is_member, timeout_seconds=SOON_SECONDS, what="the members")
                assert not place.lost
            with peer(postgres_url, hosts, "elect", "b") as other:
                assert await other.says("leads") > first
    finally:
        ensemble.stop()
