"""What `rota doctor` wants to know of ZooKeeper."""

from __future__ import annotations

from adapters.zookeeper.session import Session
from domain.errors import Unavailable


async def zookeeper_facts(hosts: str) -> str:
    """The server's version. Raises Unavailable."""
    session = Session(hosts)
    session.start()
    try:
        version = await session.call(session.client.server_version)
        await session.call(session.client.ensure_path, "/rota")
    except ValueError as error:
        raise Unavailable(f"ZooKeeper does not tell its version ({error})", server="zookeeper") from error
    finally:
        await session.stop()
    return ".".join(str(part) for part in version)
