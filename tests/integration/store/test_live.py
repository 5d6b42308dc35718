"""The live log: contiguous, resumable, ended cleanly, at the reader's pace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from rota_server.apps.store.events.live import PAGE_BYTES
from rota_server.domain.ids import Position
from tests.integration.store.conftest import Stores
from tests.waiting import until

WAIT = httpx.Timeout(20)


async def messages(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    """The events of a server-sent stream; ids and data must agree."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            event = json.loads(fields["data"])
            assert int(fields["id"]) == event["position"]
            assert fields["event"] == event["type"]
            yield event
            fields = {}


async def take(client: httpx.AsyncClient, count: int, query: str = "", **headers: str) -> list[int]:
    """Positions of the first `count` events; then the connection is broken off."""
    positions = []
    async with client.stream("GET", f"/v1/events/stream{query}", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for event in messages(response.aiter_lines()):
            positions.append(event["position"])
            if len(positions) == count:
                break
    return positions


async def test_a_reader_that_comes_back_neither_loses_nor_repeats_an_event(stores: Stores):
    server = await stores.serve()
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT) as client:

        async def write() -> None:
            for _ in range(60):
                await client.post("/v1/jobs/bulk", json=[{"task": "noop"}] * 25)

        writing = asyncio.create_task(write())
        seen: list[int] = []
        for count in (1, 7, 200, 3, 500, 89, 700):
            last = {"Last-Event-ID": str(seen[-1])} if seen else {}
            seen += await take(client, count, "" if seen else "?after=0", **last)
        await writing
    assert seen == list(range(1, 1501))


async def test_a_reader_without_a_position_gets_what_comes_from_now_on(stores: Stores):
    server = await stores.serve()
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT) as client:
        await client.post("/v1/jobs", json={"task": "noop"})
        async with client.stream("GET", "/v1/events/stream") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            await client.post("/v1/jobs", json={"task": "noop"})
            async for event in messages(lines):
                assert event["position"] == 2
                break


async def test_last_event_id_goes_before_after(stores: Stores):
    server = await stores.serve()
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT) as client:
        await client.post("/v1/jobs/bulk", json=[{"task": "noop"}] * 10)
        assert await take(client, 2, "?after=1", **{"Last-Event-ID": "5"}) == [6, 7]


async def test_two_readers_on_two_stores_see_the_same(stores: Stores):
    first, second = await stores.serve(), await stores.serve()
    async with (
        httpx.AsyncClient(base_url=first.url, timeout=WAIT) as one,
        httpx.AsyncClient(base_url=second.url, timeout=WAIT) as two,
    ):
        readers = [asyncio.create_task(take(c, 20, "?after=0")) for c in (one, two, one)]
        for n in range(20):
            await (one, two)[n % 2].post("/v1/jobs", json={"task": "noop"})
        for reader in readers:
            assert await reader == list(range(1, 21))


async def test_a_silent_stream_gives_signs_of_life(stores: Stores):
    server = await stores.serve(heartbeat_seconds=0.1)
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=WAIT) as client,
        client.stream("GET", "/v1/events/stream") as response,
    ):
        lines = [line async for line in _first(response.aiter_lines(), 5)]
    assert lines == ["retry: 1000", "", ": nothing new", "", ": nothing new"]


async def _first(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        count -= 1
        if not count:
            return


async def test_streams_end_cleanly_when_the_store_stops(stores: Stores):
    stop = asyncio.Event()
    server = await stores.serve(stop)
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT) as client:
        await client.post("/v1/jobs", json={"task": "noop"})
        async with client.stream("GET", "/v1/events/stream?after=0") as response:
            following = messages(response.aiter_lines())
            assert (await anext(following))["position"] == 1
            stop.set()
            # A stream that is cut off raises; one that ends does not.
            assert [event async for event in following] == []


async def until_stable(value: Callable[[], int]) -> None:
    """Until the value has not changed for a while."""
    seen, since = value(), asyncio.get_running_loop().time()

    def stable() -> bool:
        nonlocal seen, since
        now = asyncio.get_running_loop().time()
        if value() != seen:
            seen, since = value(), now
        return now - since > 0.5

    await until(stable)


async def test_a_reader_that_does_not_read_holds_up_nobody_and_is_not_buffered(stores: Stores):
    taken: list[int] = []
    log = stores.parts.log
    read_page = log.read_page

    async def counted(after: Position, limit: int, limit_bytes: int) -> Any:
        page = await read_page(after, limit, limit_bytes)
        taken.append(sum(len(event.data) for event in page))
        return page

    log.read_page = counted  # type: ignore[method-assign]
    server = await stores.serve()
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT) as client:
        big = [{"task": "noop", "args": {"text": "x" * 20_000}}] * 500
        for _ in range(3):
            await client.post("/v1/jobs/bulk", json=big)
        async with client.stream("GET", "/v1/events/stream?after=0") as response:
            assert response.status_code == 200
            await until(lambda: taken)
            assert (await client.post("/v1/jobs", json={"task": "noop"})).status_code == 201
            # 60 MB are there; a reader that takes none of it is owed what its connection holds and a page or two.
            assert max(taken) <= PAGE_BYTES + 21_000
            await until_stable(lambda: len(taken))
            assert sum(taken) < 15_000_000


async def test_what_a_reader_left_behind_is_given_up(stores: Stores):
    server = await stores.serve(heartbeat_seconds=0.1)
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT) as client:
        before = asyncio.all_tasks()
        async with client.stream("GET", "/v1/events/stream") as response:
            assert await anext(response.aiter_lines()) == "retry: 1000"
            assert asyncio.all_tasks() - before
    await until(lambda: not (asyncio.all_tasks() - before), what="the end of the left stream's tasks")
