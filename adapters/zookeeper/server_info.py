"""What `rota doctor` wants to know of ZooKeeper."""

from __future__ import annotations

import asyncio

from kazoo.exceptions import KazooException

from rota_server.adapters.zookeeper.session import Session
from rota_server.domain.errors import Unavailable


async def zookeeper_facts(hosts: str, auth: str | None = None) -> str:
    """The server's version. Raises Unavailable."""
    session = Session(hosts, auth)
    session.start()
    try:
        await session.ensure("/rota")
        version = await asyncio.to_thread(session.client.server_version)
    except (ValueError, KazooException) as error:
        raise Unavailable(f"ZooKeeper does not tell its version ({error})", server="zookeeper") from error
    finally:
        await session.stop()
    return ".".join(str(part) for part in version)
