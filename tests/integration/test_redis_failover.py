"""A Redis that becomes a replica: whoever is connected to it finds the one that takes writes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import make_url

from rota_server.adapters.embedded.directory import DataDirectory
from rota_server.adapters.embedded.valkey import EmbeddedValkey
from rota_server.adapters.redis.connection import connect, execute, translated
from rota_server.domain.errors import Unavailable
from tests.freezing_proxy import FreezingProxy


async def test_a_connection_to_a_server_that_has_become_a_replica_is_not_kept(tmp_path: Path) -> None:
    with ExitStack() as stack:
        urls = []
        for name in ("old", "new"):
            directory = stack.enter_context(DataDirectory(tmp_path / name))
            directory.remember({**directory.remembered(), "valkey_password": "tests-only-password"})
            urls.append(make_url(stack.enter_context(EmbeddedValkey(directory)).url))
        old, new = urls
        proxy = stack.enter_context(FreezingProxy("127.0.0.1", old.port or 0))
        client = connect(old.set(port=proxy.port).render_as_string(hide_password=False))

        async def write() -> None:
            with translated("be written to"):
                await execute(client, "SET", "a", "1")

        await write()
        proxy.switch("127.0.0.1", new.port or 0, cut=False)  # the address leads elsewhere, what is open does not
        await execute(client, "REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Unavailable, match="read only"):
            await write()
        await write()
        await client.aclose()
