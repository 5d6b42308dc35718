"""An executor's end of the work streams.

Taking is one Lua call that reads exactly as many entries as there are free slots, over all queues, higher
priorities first: nothing is held that can not start. Waiting reads nothing: it only looks behind the streams' last
ids. An entry is acknowledged and deleted in one go, after its claim is in the log.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from redis.asyncio import Redis

from adapters.codec import from_json
from adapters.redis.connection import Script, translated
from adapters.redis.streams import GROUP, queue_of, work_stream
from domain.errors import Corruption
from domain.ids import Position, Version
from domain.messaging import WorkItem
from domain.specs import PRIORITIES

log = logging.getLogger("rota.redis.work")

RECLAIM_IDLE_SECONDS = 15.0
"""An entry that was taken but neither claimed nor dropped for so long may be taken over."""

MAX_TAKE = 500

# KEYS: work streams in order. ARGV: group, consumer, free slots. Answers {last id of each stream}, {key index, entries}*
_TAKE = """
local free = tonumber(ARGV[3])
local lasts, found = {}, {}
for i, key in ipairs(KEYS) do
  if free > 0 then
    local got = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', free, 'STREAMS', key, '>')
    if type(got) == 'table' and got.err then
      redis.call('XGROUP', 'CREATE', key, ARGV[1], '0', 'MKSTREAM')
      got = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', free, 'STREAMS', key, '>')
    end
    if got and got[1] then
      free = free - #got[1][2]
      found[#found + 1] = {i, got[1][2]}
    end
  end
  local last = '0-0'
  if redis.call('EXISTS', key) == 1 then
    local info = redis.call('XINFO', 'STREAM', key)
    for j = 1, #info, 2 do
      if info[j] == 'last-generated-id' then last = info[j + 1] end
    end
  end
  lasts[i] = last
end
return {lasts, found}
"""

# KEYS: streams. ARGV: group, then for each stream: count, ids...
_DONE = """
local at = 2
for _, key in ipairs(KEYS) do
  local n = tonumber(ARGV[at])
  local ids = {}
  for i = 1, n do ids[i] = ARGV[at + i] end
  redis.pcall('XACK', key, ARGV[1], unpack(ids))
  redis.call('XDEL', key, unpack(ids))
  at = at + n + 1
end
return 1
"""

# KEYS: streams. ARGV: group, consumer, idle milliseconds, limit
_RECLAIM = """
local free = tonumber(ARGV[4])
local found = {}
for i, key in ipairs(KEYS) do
  if free > 0 then
    local got = redis.pcall('XAUTOCLAIM', key, ARGV[1], ARGV[2], ARGV[3], '0-0', 'COUNT', free)
    if type(got) == 'table' and not got.err and got[2] and #got[2] > 0 then
      free = free - #got[2]
      found[#found + 1] = {i, got[2]}
    end
  end
end
return found
"""


class RedisWorkQueue:
    """The port WorkQueue for the queues of one executor, which is the consumer `consumer` of the group."""

    def __init__(
        self,
        client: Redis,
        queues: Sequence[str],
        consumer: str,
        *,
        reclaim_idle_seconds: float = RECLAIM_IDLE_SECONDS,
    ) -> None:
        self._client = client
        self._queues = list(queues)
        self._consumer = consumer
        self._idle_ms = int(reclaim_idle_seconds * 1000)
        self._take = Script(client, _TAKE)
        self._done = Script(client, _DONE)
        self._reclaim = Script(client, _RECLAIM)
        self._lasts: dict[str, bytes] = {}

    def _streams(self) -> list[str]:
        # Another order of the queues each time: none of one priority starves the others.
        random.shuffle(self._queues)
        return [work_stream(queue, priority) for priority in PRIORITIES for queue in self._queues]

    async def take(self, free_slots: int) -> list[WorkItem]:
        """See the port."""
        streams = self._streams()
        lasts, found = await self._take.run(streams, [GROUP, self._consumer, min(free_slots, MAX_TAKE)])
        self._lasts = dict(zip(streams, lasts, strict=True))
        return await self._items(streams, found)

    async def wait(self, timeout_seconds: float) -> None:
        """See the port."""
        if not self._lasts:
            return
        places: dict[Any, Any] = dict(self._lasts)
        with translated():
            await self._client.xread(places, count=1, block=max(1, int(timeout_seconds * 1000)))

    async def done(self, items: Sequence[WorkItem]) -> None:
        """See the port."""
        by_stream: dict[str, list[str]] = {}
        for item in items:
            by_stream.setdefault(work_stream(item.queue, item.priority), []).append(f"{item.position}-0")
        await self._finish(by_stream)

    async def _finish(self, by_stream: dict[str, list[str]]) -> None:
        arguments: list[str | int] = [GROUP]
        for ids in by_stream.values():
            arguments += (len(ids), *ids)
        if by_stream:
            await self._done.run(list(by_stream), arguments)

    async def reclaim(self, limit: int) -> list[WorkItem]:
        """See the port."""
        streams = self._streams()
        found = await self._reclaim.run(streams, [GROUP, self._consumer, self._idle_ms, min(limit, MAX_TAKE)])
        return await self._items(streams, found)

    async def forget(self) -> None:
        """Leave the group where nothing is pending, so that consumers of stopped executors do not pile up."""
        with translated():
            for stream in self._streams():
                pending = await self._client.xpending_range(
                    stream, GROUP, min="-", max="+", count=1, consumername=self._consumer
                )
                if not pending:
                    await self._client.xgroup_delconsumer(stream, GROUP, self._consumer)

    async def _items(self, streams: list[str], found: list[Any]) -> list[WorkItem]:
        items = []
        unreadable: dict[str, list[str]] = {}
        for index, entries in found:
            stream = streams[index - 1]
            queue, priority = queue_of(stream)
            for entry_id, fields in entries:
                try:
                    items.append(_item(queue, priority, entry_id, fields))
                except (ValueError, KeyError, TypeError, IndexError, Corruption) as error:
                    log.error("dropped an unreadable entry %r of %s: %r", entry_id, stream, error)  # noqa: TRY400
                    unreadable.setdefault(stream, []).append(entry_id.decode())
        await self._finish(unreadable)
        return items


def _item(queue: str, priority: str, entry_id: bytes, fields: list[bytes] | None) -> WorkItem:
    pairs = fields or []
    values = dict(zip(pairs[::2], pairs[1::2], strict=True))
    inline = values.get(b"submitted")
    return WorkItem(
        queue,
        priority,
        UUID(values[b"job"].decode()),
        Version(int(values[b"version"])),
        Position(int(entry_id.split(b"-")[0])),
        None if inline is None else from_json(orjson.loads(inline)),
    )
