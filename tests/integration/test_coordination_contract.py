"""What every coordination promises, on PostgreSQL and on ZooKeeper."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager

import pytest
from sqlalchemy import make_url

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.coordination import _Registration
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.zookeeper.holds import HeldPlace
from rota_server.domain.errors import NotLeader
from rota_server.domain.ids import Term
from rota_server.domain.ports.coordination import Coordination, Leadership
from tests.freezing_proxy import FreezingProxy
from tests.integration.coordination_tools import SOON_SECONDS, append_as, coordinated, peer
from tests.waiting import until


class Place:
    """Where the coordination is, and sessions in it."""

    def __init__(self, url: str, database: Database, hosts: str | None, stack: AsyncExitStack) -> None:
        self.url = url
        self.database = database
        self.hosts = hosts
        self._stack = stack

    async def session(self) -> Coordination:
        return await self._stack.enter_async_context(coordinated(self.database, self.hosts))


@pytest.fixture(params=["postgres", "zookeeper"])
async def place(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[Place]:
    hosts = request.getfixturevalue("zookeeper_hosts") if request.param == "zookeeper" else None
    database = Database(postgres_url, pool_size=10)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        yield Place(postgres_url, database, hosts, stack)


async def lead(coordination: Coordination, node: str, leads: asyncio.Queue[Leadership], end: asyncio.Event) -> None:
    async with coordination.elect(node, {"host": node}) as leadership:
        await leads.put(leadership)
        await end.wait()


async def names(coordination: Coordination) -> list[str]:
    return [member.id for member in await coordination.members("executor")]


async def test_one_leads_and_the_next_one_follows_when_it_goes(place: Place):
    first, second = await place.session(), await place.session()
    leads: asyncio.Queue[Leadership] = asyncio.Queue()
    async with asyncio.timeout(SOON_SECONDS), asyncio.TaskGroup() as group:
        end = asyncio.Event()
        group.create_task(lead(first, "a", leads, end))
        one = await leads.get()
        done = asyncio.Event()
        group.create_task(lead(second, "b", leads, done))
        shown = await until(second.leader, what="the leader's being shown")
        assert (shown.id, shown.info["host"], shown.info["term"]) == ("a", "a", one.term)
        assert one.held
        assert leads.empty()
        end.set()
        other = await leads.get()
        assert other.term > one.term

        async def is_b() -> bool:
            found = await first.leader()
            return found is not None and found.id == "b"

        await until(is_b, what="the new leader's being shown")
        done.set()


async def test_terms_grow_with_every_election(place: Place):
    coordination = await place.session()
    terms = []
    for number in range(3):
        async with coordination.elect(f"n{number}", {}) as leadership:
            terms.append(leadership.term)
    assert terms == sorted(set(terms))


async def test_a_killed_leader_is_followed_and_can_not_append(place: Place, postgres_url: str):
    with peer(postgres_url, place.hosts, "elect", "a") as other:
        term = await other.says("leads")
        other.signal(signal.SIGKILL)
        async with asyncio.timeout(SOON_SECONDS), (await place.session()).elect("b", {}) as leadership:
            assert leadership.term > term
            log = PostgresEventLog(place.database)
            with pytest.raises(NotLeader) as refused:
                await append_as(log, Term(term))
            assert refused.value.current_term == leadership.term
            await append_as(log, leadership.term)
            await log.close()


async def test_a_frozen_leader_wakes_up_to_a_refusal(place: Place, postgres_url: str):
    with peer(postgres_url, place.hosts, "elect", "a") as other:
        term = await other.says("leads")
        other.ask_to_go_on()
        await other.says("appended")
        other.signal(signal.SIGSTOP)
        other.ask_to_go_on()
        async with asyncio.timeout(SOON_SECONDS), (await place.session()).elect("b", {}) as leadership:
            assert leadership.term > term
            other.signal(signal.SIGCONT)
            assert await other.says("refused") == leadership.term
            assert leadership.held


async def test_a_frozen_leader_finds_out_by_its_own_clock(place: Place, postgres_url: str):
    with peer(postgres_url, place.hosts, "elect", "a") as other:
        await other.says("leads")
        other.signal(signal.SIGSTOP)
        async with asyncio.timeout(SOON_SECONDS), (await place.session()).elect("b", {}):
            other.signal(signal.SIGCONT)
            await other.says("lost")


async def test_members_come_go_and_tell_of_themselves(place: Place):
    one, other = await place.session(), await place.session()
    assert await names(other) == []
    async with one.register("executor", "e1", {"slots": 5}) as registration:
        async with one.register("executor", "e10", {"slots": 7}), one.register("store", "s1", {}):
            (first, second) = await other.members("executor")
            assert (first.id, first.role, first.info) == ("e1", "executor", {"slots": 5})
            assert second.id == "e10"
        assert await names(other) == ["e1"]
        assert not registration.lost
        await registration.update({"slots": 6})
        (changed,) = await other.members("executor")
        assert changed.info == {"slots": 6}
    assert await names(other) == []


async def test_watching_shows_members_now_and_after_each_change(place: Place):
    one, other = await place.session(), await place.session()
    seen: asyncio.Queue[list[str]] = asyncio.Queue()

    async def watch() -> None:
        async for members in other.watch_members("executor"):
            await seen.put([member.id for member in members])

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(SOON_SECONDS):
        assert await seen.get() == []
        async with one.register("executor", "e1", {}):
            assert await seen.get() == ["e1"]
            async with one.register("executor", "e2", {}):
                assert await seen.get() == ["e1", "e2"]
            assert await seen.get() == ["e1"]
        assert await seen.get() == []
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_killed_member_vanishes(place: Place, postgres_url: str):
    coordination = await place.session()
    with peer(postgres_url, place.hosts, "register", "e1") as other:
        await other.says("registered")
        assert await names(coordination) == ["e1"]
        other.signal(signal.SIGKILL)

        async def gone() -> bool:
            return await names(coordination) == []

        await until(gone, timeout_seconds=12, what="the member's end")


@contextmanager
def way_to(place: Place) -> Iterator[tuple[FreezingProxy, str, str | None]]:
    """A way to the coordination that can be frozen, and the addresses that lead along it."""
    url = make_url(place.url)
    host, port = (url.host or "", url.port or 0) if place.hosts is None else (place.hosts.split(":")[0], 0)
    if place.hosts is not None:
        port = int(place.hosts.split(":")[1].partition("/")[0])
    with FreezingProxy(host, port) as proxy:
        if place.hosts is None:
            along = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
            yield proxy, along, None
        else:
            yield proxy, place.url, f"127.0.0.1:{proxy.port}/{place.hosts.partition('/')[2]}"


async def test_a_place_that_can_not_be_proven_is_in_doubt_before_others_see_it_go(place: Place):
    """Nothing is closed on a frozen way, so no driver tells: only the own clock does."""
    other = await place.session()
    with way_to(place) as (proxy, url, hosts):
        database = Database(url)
        async with coordinated(database, hosts) as cut, cut.register("executor", "e1", {}) as registration:
            assert registration.certain_since is not None
            began = time.monotonic()
            with proxy.frozen():
                await until(lambda: registration.certain_since is None, timeout_seconds=10, what="the doubt")
                assert await names(other) == ["e1"], "others saw it go while it was still sure"

                async def gone() -> bool:
                    return await names(other) == []

                await until(gone, timeout_seconds=20, what="its end in others' eyes")
                assert registration.certain_since is None

            def settled() -> bool:
                since = registration.certain_since
                return registration.lost or (since is not None and since > began)

            await until(settled, timeout_seconds=20, what="its loss, or a new proof")
            assert registration.lost or await names(other) == ["e1"]
        await database.close()


async def test_a_place_that_is_proven_in_time_again_was_never_lost(place: Place):
    other = await place.session()
    with way_to(place) as (proxy, url, hosts):
        database = Database(url)
        async with coordinated(database, hosts) as cut, cut.register("executor", "e1", {}) as registration:
            with proxy.frozen():
                await until(lambda: registration.certain_since is None, timeout_seconds=10, what="the doubt")
            await until(lambda: registration.certain_since is not None, timeout_seconds=20, what="a new proof")
            assert not registration.lost
            assert await names(other) == ["e1"]
        await database.close()


async def test_a_place_ends_with_the_task_that_keeps_it(place: Place, monkeypatch: pytest.MonkeyPatch):
    """Whatever ends it: nobody goes on claiming whom others no longer see."""
    kind, method = (_Registration, "_refresh") if place.hosts is None else (HeldPlace, "prove")
    coordination = await place.session()

    async def ends_badly() -> None:
        async with coordination.register("executor", "e1", {}) as registration:
            monkeypatch.setattr(kind, method, broken)
            await registration.wait_lost()
            assert registration.lost
            assert registration.certain_since is None

    async def broken(_self: object) -> bool:
        raise ValueError("a driver's surprise")

    async with asyncio.timeout(SOON_SECONDS):
        with pytest.raises(ValueError, match="a driver's surprise"):
            await ends_badly()


async def test_a_cancelled_contender_stands_in_nobodys_way(place: Place):
    one, other = await place.session(), await place.session()
    leads: asyncio.Queue[Leadership] = asyncio.Queue()
    async with asyncio.timeout(SOON_SECONDS):
        async with one.elect("a", {}):
            waiting = asyncio.create_task(lead(other, "b", leads, asyncio.Event()))
            await until(lambda: contends(one, "b"), what="the contender's registration")
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with one.elect("c", {}) as leadership:
            assert leadership.held
    assert leads.empty()


async def contends(coordination: Coordination, node: str) -> bool:
    return any(member.id == node for member in await coordination.members("scheduler"))
