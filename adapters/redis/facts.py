"""What `rota doctor` and `rota bench` want to know of a Redis or Valkey server."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from adapters.redis.connection import connect, prove_access, translated


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
