"""Clients that send half, send nothing, do not read, or send too much: they cost the others nothing."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from rota_server.apps.store import application
from rota_server.apps.store.http.connections import Limits
from rota_server.apps.store.http.large_bodies import LargeBodies
from rota_server.apps.store.http.requests import BODY_LIMIT_BYTES
from rota_server.apps.store.http.server import StoreServer
from tests.integration.store.conftest import Stores
from tests.waiting import until

HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
QUICK = {"sweep_seconds": 0.05}


async def connect(server: StoreServer, stack: AsyncExitStack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(server.url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (address.hostname, address.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
    stack.callback(_abort, writer)
    return reader, writer


def _abort(writer: asyncio.StreamWriter) -> None:
    """Break it off; until then the writer has to be kept, since one that goes away closes its connection."""
    writer.transport.abort()


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """Everything that comes until the connection ends."""
    parts = []
    async with asyncio.timeout(30):
        while part := await reader.read(65536):
            parts.append(part)
    return b"".join(parts)


async def test_half_a_request_and_silence_end_after_their_time(stores: Stores):
    server = await stores.serve(limits=Limits(head_seconds=0.2, body_seconds=0.4, **QUICK))
    async with AsyncExitStack() as stack:
        for sent, said in (
            (b"", b""),
            (b"POST /v1/jobs HT", b"HTTP/1.1 408 "),
            (HEAD + b"X-A: b", b"HTTP/1.1 408 "),
            (HEAD + b"Content-Length: 100\r\n\r\n{", b"HTTP/1.1 408 "),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", b"HTTP/1.1 408 "),
        ):
            reader, writer = await connect(server, stack)
            writer.write(sent)
            assert (await answer_of(reader)).startswith(said), sent
        await until(lambda: not server.connections)


async def test_three_hundred_who_send_nothing_block_nobody(stores: Stores):
    server = await stores.serve(limits=Limits(connections=50))
    async with AsyncExitStack() as stack:
        for number in range(300):
            _, writer = await connect(server, stack)
            writer.write(HEAD if number % 2 else b"")
        async with httpx.AsyncClient(base_url=server.url) as client:
            for _ in range(3):
                assert (await client.post("/v1/jobs", json={"task": "noop"})).status_code == 201
        assert len(server.connections) <= 50


async def test_beyond_the_number_of_connections_one_is_told_to_come_again(stores: Stores):
    server = await stores.serve(limits=Limits(connections=3))
    async with AsyncExitStack() as stack:
        for _ in range(3):
            reader, writer = await connect(server, stack)
            writer.write(b"GET /v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in await reader.readline()
        reader, _ = await connect(server, stack)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 503 ")


async def test_followers_that_do_not_read_are_cut_off_and_hold_few_bytes(stores: Stores):
    server = await stores.serve(limits=Limits(stalled_seconds=1.0, **QUICK))
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client, AsyncExitStack() as stack:
        await client.post("/v1/jobs/bulk", json=[{"task": "noop", "args": {"text": "x" * 20_000}}] * 500)
        for _ in range(20):
            _, writer = await connect(server, stack)
            writer.write(b"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            writer.transport.pause_reading()
        await until(lambda: len(server.connections) > 20)
        held = [connection.transport.get_write_buffer_size() for connection in server.connections]
        assert max(held) < 300_000
        await until(lambda: len(server.connections) == 1)
        assert (await client.get("/healthz")).status_code == 200


async def test_a_follower_that_reads_slowly_stays(stores: Stores):
    server = await stores.serve(limits=Limits(stalled_seconds=0.5, **QUICK))
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client, AsyncExitStack() as stack:
        await client.post("/v1/jobs/bulk", json=[{"task": "noop", "args": {"text": "x" * 20_000}}] * 500)
        reader, writer = await connect(server, stack)
        writer.write(b"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        ends = asyncio.get_running_loop().time() + 2

        async def slowly() -> bool:
            assert await reader.read(50_000)
            return asyncio.get_running_loop().time() > ends

        await until(slowly)


async def test_a_head_has_a_size(stores: Stores):
    server = await stores.serve(limits=Limits())
    async with AsyncExitStack() as stack:
        for filler in (b"X-A: " + b"a" * 200_000, b"X-A: b\r\n" * 20_000):
            reader, writer = await connect(server, stack)
            writer.write(HEAD + filler)
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/nothing", "/v1/jobs?limit=%00"])
@pytest.mark.parametrize("framing", [b"Content-Length: 8000000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_who_sends_too_much_can_read_the_answer(stores: Stores, path: str, framing: bytes):
    server = await stores.serve()
    head = HEAD.replace(b"/v1/jobs", path.encode()) + b"Connection: close\r\n" + framing + b"\r\n"
    body = b" " * 8_000_000
    content = body if b"Length" in framing else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    def exchange() -> bytes:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
            raw.sendall(head + content)  # all of it, before anything is read
            parts = []
            while part := raw.recv(65536):
                parts.append(part)
        return b"".join(parts)

    answer = await asyncio.to_thread(exchange)
    assert answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert b"application/problem+json" in answer
    if path == "/v1/jobs":
        assert answer.startswith(b"HTTP/1.1 413 ")


async def test_who_asks_first_is_refused_before_it_sends(stores: Stores):
    server = await stores.serve()
    async with AsyncExitStack() as stack:
        reader, writer = await connect(server, stack)
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (BODY_LIMIT_BYTES + 1))
        answer = await answer_of(reader)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer


async def test_a_client_that_leaves_within_its_body_is_no_error(stores: Stores, caplog: pytest.LogCaptureFixture):
    server = await stores.serve()
    async with AsyncExitStack() as stack, httpx.AsyncClient(base_url=server.url) as client:
        _, writer = await connect(server, stack)
        writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
        await until(lambda: any(not connection.idle for connection in server.connections))
        writer.transport.abort()
        await until(lambda: not server.connections)
        text = (await client.get("/metrics")).text
    assert 'rota_http_requests_total{method="POST",route="/v1/jobs",status="499"} 1.0' in text
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_large_bodies_wait_for_room_and_are_told_when_there_is_none(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(application, "LargeBodies", lambda: LargeBodies(2 * BODY_LIMIT_BYTES, wait_seconds=0.2))
    server = await stores.serve()
    head = HEAD.replace(b"/v1/jobs", b"/v1/jobs/bulk") + b"Content-Length: %d\r\n\r\n" % (2 * BODY_LIMIT_BYTES)
    jobs = [{"task": "noop", "args": {"text": "x" * 200_000}}] * 6
    async with AsyncExitStack() as stack, httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        _, writer = await connect(server, stack)
        writer.write(head + b"[")
        await until(lambda: any(not connection.idle for connection in server.connections))
        assert (await client.post("/v1/jobs/bulk", json=jobs[:1])).status_code == 200
        refused = await client.post("/v1/jobs/bulk", json=jobs)
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert refused.headers["retry-after"]
        writer.transport.abort()
        await until(lambda: len(server.connections) == 1)
        assert (await client.post("/v1/jobs/bulk", json=jobs)).status_code == 200


async def test_methods_that_nobody_knows_make_no_series(stores: Stores):
    client = await stores.client()
    for number in range(20):
        await client.request(f"METHOD{number}", "/v1/jobs")
    text = (await client.get("/metrics")).text
    assert "METHOD1" not in text
    assert 'method="other"' in text
