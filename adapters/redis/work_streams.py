"""The scheduler's view of the work streams: how full they are, and what is provably not in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redis.asyncio import Redis

from adapters.redis.connection import Script, translated
from adapters.redis.streams import work_stream
from domain.messaging import WorkItem

_MISSING = """
local missing = {}
for i = 1, #ARGV, 2 do
  local id = ARGV[i + 1]
  if #redis.call('XRANGE', KEYS[tonumber(ARGV[i])], id, id) == 0 then missing[#missing + 1] = (i + 1) / 2 end
end
return missing
"""


class RedisWorkStreams:
    """The port WorkStreams."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._missing = Script(client, _MISSING)

    async def lengths(self, streams: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """See the port."""
        wanted = list(streams)
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for queue, priority in wanted:
                    pipe.xlen(work_stream(queue, priority))
                return dict(zip(wanted, await pipe.execute(), strict=True))

    async def missing(self, dispatches: Sequence[WorkItem]) -> list[WorkItem]:
        """See the port."""
        keys: list[str] = []
        arguments: list[int | str] = []
        for item in dispatches:
            key = work_stream(item.queue, item.priority)
            if key not in keys:
                keys.append(key)
            arguments += (keys.index(key) + 1, f"{item.position}-0")
        if not dispatches:
            return []
        return [dispatches[int(i) - 1] for i in await self._missing.run(keys, arguments)]
