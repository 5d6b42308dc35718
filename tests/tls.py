"""TLS before a server that has none: certificates made on the spot, and a proxy that speaks as that server would."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, of a client that it knows, and of an authority that nobody knows."""

    authority: trustme.CA
    root: Path
    client: Path
    key: Path
    foreign_root: Path

    @classmethod
    def made(cls, place: Path) -> Certificates:
        authority = trustme.CA()
        client = authority.issue_cert("client@example.org", common_name="rota_app")
        files = {name: place / f"{name}.pem" for name in ("root", "client", "key", "foreign")}
        authority.cert_pem.write_to_path(files["root"])
        client.cert_chain_pems[0].write_to_path(files["client"])
        client.private_key_pem.write_to_path(files["key"])
        files["key"].chmod(0o600)
        trustme.CA().cert_pem.write_to_path(files["foreign"])
        return cls(authority, files["root"], files["client"], files["key"], files["foreign"])

    def server_context(self, *, client_needed: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("localhost").configure_cert(context)
        if client_needed:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@asynccontextmanager
async def tls_before(port: int, context: ssl.SSLContext, *, as_postgres: bool) -> AsyncIterator[int]:
    """A port on loopback that speaks TLS, and passes on to the plain `port`; plain text is not taken there."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if as_postgres:
            if await reader.readexactly(8) != SSL_REQUEST:
                return
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(context)
        await _pass_on(reader, writer, port)

    tasks: set[asyncio.Task[None]] = set()
    server = await asyncio.start_server(_kept(handle, tasks), "127.0.0.1", 0, ssl=None if as_postgres else context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await _ended(server, tasks)


@asynccontextmanager
async def socket_before(port: int, path: Path) -> AsyncIterator[None]:
    """A socket of this machine that passes on to `port`."""
    tasks: set[asyncio.Task[None]] = set()
    server = await asyncio.start_unix_server(_kept(lambda r, w: _pass_on(r, w, port), tasks), path)
    try:
        yield
    finally:
        await _ended(server, tasks)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def _kept(handle: Handler, tasks: set[asyncio.Task[None]]) -> Callable[..., None]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handle(reader, writer)
        finally:
            writer.close()

    return lambda reader, writer: tasks.add(asyncio.ensure_future(guarded(reader, writer)))


async def _ended(server: asyncio.Server, tasks: set[asyncio.Task[None]]) -> None:
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
