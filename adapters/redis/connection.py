"""Clients with explicit timeouts and no retries of their own, and the translation of their errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from domain.errors import Unavailable

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 15.0
"""Longer than any BLOCK, and than any script on a full stream."""


def connect(url: str) -> Redis:
    """A client whose answers are bytes."""
    return Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        socket_keepalive=True,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        client_name="rota",
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raise Unavailable for whatever says that the server can not answer now."""
    try:
        yield
    except ResponseError as error:
        # LOADING, READONLY, MASTERDOWN, OOM, BUSY (a script): the server is there but can not serve.
        text = str(error)
        if isinstance(error, AuthenticationError) or text.split(" ")[0] in _REFUSALS or "OOM" in text:
            raise Unavailable(f"Redis can not serve now ({text[:200]})", server="redis") from error
        raise
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis does not answer ({str(error)[:200]})", server="redis") from error


_REFUSALS = frozenset({"LOADING", "READONLY", "MASTERDOWN", "OOM", "BUSY", "MISCONF", "NOREPLICAS", "TRYAGAIN"})


class Script:
    """A Lua script, loaded where it is missing."""

    def __init__(self, client: Redis, source: str) -> None:
        self._script = client.register_script(source)

    async def run(self, keys: list[str], arguments: list[Any]) -> Any:
        """Run it; raises Unavailable when the server is away."""
        with translated():
            return await self._script(keys=keys, args=arguments)
