"""Which coordination a process uses: ZooKeeper when its hosts are set, else PostgreSQL."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.coordination import PostgresCoordination
from rota_server.adapters.postgres.fence import PostgresFence
from rota_server.apps.settings import Settings
from rota_server.apps.version import VERSION
from rota_server.domain.ports.coordination import Coordination


@asynccontextmanager
async def coordination_for(settings: Settings, database: Database) -> AsyncIterator[Coordination]:
    """The coordination that the settings choose, connected while the context lasts."""
    if settings.zookeeper_hosts:
        from rota_server.adapters.zookeeper.coordination import ZooKeeperCoordination  # noqa: PLC0415 - only where it is used

        fence = PostgresFence(database)
        auth = settings.zookeeper_auth
        async with ZooKeeperCoordination(settings.zookeeper_hosts, fence, auth=auth) as zookeeper:
            yield zookeeper
    else:
        yield PostgresCoordination(database)


async def stay_visible(coordination: Coordination, role: str, **info: str) -> None:
    """Stand among the members of this role forever; whenever the place is lost, take another one.

    Raises:
        Unavailable: nobody can be told.
    """
    while True:
        identity = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "version": VERSION, **info}
        async with coordination.register(role, identity, facts) as registration:
            await registration.wait_lost()
