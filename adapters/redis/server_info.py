"""What `rota doctor` and `rota bench` want to know of a Redis or Valkey server."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from rota_server.adapters.redis.connection import connect, last_id, prove_access, translated
from rota_server.adapters.redis.streams import CONTROL, FEED, WORK, position_of
from rota_server.domain.ids import Position

STREAMS_NAMED = 5


async def redis_facts(url: str) -> dict[str, Any]:
    """`server`, `version`, `clock` (seconds since the epoch), `maxmemory_policy`. Raises Unavailable."""
    client = connect(url)
    try:
        await prove_access(client, url)
        with translated("ask for facts"):
            info = await client.info()
            seconds, micros = await client.time()
            try:
                policy = str((await client.config_get("maxmemory-policy")).get("maxmemory-policy", "unknown"))
            except ResponseError:  # managed servers often hide their configuration
                policy = str(info.get("maxmemory_policy", "unknown"))
    finally:
        await client.aclose()
    valkey = info.get("valkey_version")
    return {
        "server": "Valkey" if valkey else "Redis",
        "version": str(valkey or info["redis_version"]),
        "clock": seconds + micros / 1e6,
        "maxmemory_policy": policy,
    }


async def streams_beyond(url: str, position: Position) -> list[str]:
    """The first few of our streams that end beyond this position of the log. Raises Unavailable."""
    client = connect(url)
    found: list[str] = []
    try:
        with translated("look through its streams"):
            async for key in client.scan_iter(match="rota:*", count=1000, _type="STREAM"):
                name = key.decode(errors="replace")
                ours = name in (FEED, CONTROL) or name.startswith(WORK)
                if ours and position_of(await last_id(client, name)) > position:
                    found.append(name)
                if len(found) >= STREAMS_NAMED:
                    break
    finally:
        await client.aclose()
    return sorted(found)
