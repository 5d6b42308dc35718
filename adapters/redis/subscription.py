"""One FastStream batch subscriber of one Redis stream, read from an entry id on, without a group.

What FastStream 0.7 does and does not do, and what is done about it here:

- It reads at `$` again on every poll until the first entry came, and loses what is added between two polls. So a
  subscription always begins at an id.
- It decodes entries in its own format, and cuts one with a field called `data`. So parser and decoder are ours and
  hand the raw fields on.
- It moves its place before the handler has run. So the handler only queues, and the queue's reader checks for gaps.
- When the server is away it sleeps for five seconds, and some errors end it or make it spin. So nobody relies on it
  being alive: `RedisFeed` and `RedisControlChannel` notice when it brings nothing although there is something, and
  replace it.
- It makes a connection pool of its own without timeouts. So it is given the caller's client.

Never used with a group: a group is created at the end of its stream, and read without regard to what is pending.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.configs.state import RedisConnectionState
from faststream.redis.message import FAKE_CONSUMER, BatchStreamMessage, RedisBatchStreamMessage
from redis.asyncio import Redis

from rota_server.adapters.redis.connection import translated

if TYPE_CHECKING:
    from faststream.message import StreamMessage

POLL_MS = 1_000
BATCHES_AHEAD = 2
"""How many polls' entries may wait for their reader before polling pauses."""
STOP_SECONDS = 1.0

Fields = dict[bytes, bytes]
Entry = tuple[bytes, Fields]


class Subscription:
    """What a running subscriber has brought and nobody has read yet."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[list[Entry]] = asyncio.Queue(BATCHES_AHEAD)
        self._closed = False

    async def next(self, timeout_seconds: float) -> list[Entry]:
        """The next entries, none when nothing came within the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._queue.get()
        except TimeoutError:
            return []

    async def put(self, entries: list[Entry]) -> None:
        """Hand entries over, waiting for the reader when it is behind."""
        if not self._closed:
            await self._queue.put(entries)

    def close(self) -> None:
        """Let a waiting handler go."""
        self._closed = True
        while not self._queue.empty():
            self._queue.get_nowait()


@asynccontextmanager
async def subscribed(client: Redis, key: str, after: str, *, max_entries: int) -> AsyncIterator[Subscription]:
    """Subscribe to the entries of `key` behind the id `after` for the length of the context.

    Raises:
        Unavailable: Redis cannot be reached now.
    """
    with translated(f"be asked for {key}"):
        await cast("Any", client.ping())  # the subscriber's own start would spin while there is no server
    subscription = Subscription()
    broker = _Broker(client)
    source = StreamSub(key, last_id=after, batch=True, max_records=max_entries, polling_interval=POLL_MS)

    @broker.subscriber(stream=source, parser=_parse, decoder=_decode, ack_policy=AckPolicy.MANUAL)
    async def take(entries: list[Entry]) -> None:
        await subscription.put(entries)

    try:
        with translated(f"be subscribed to at {key}"):
            await broker.start()
        yield subscription
    finally:
        subscription.close()
        await broker.stop()


async def _parse(message: BatchStreamMessage) -> StreamMessage[BatchStreamMessage]:
    return RedisBatchStreamMessage(raw_message=message, body=b"", consumer=FAKE_CONSUMER, group=None)


async def _decode(message: StreamMessage[BatchStreamMessage]) -> list[Entry]:
    raw = message.raw_message
    return list(zip(raw["message_ids"], raw["data"], strict=True))


class _Broker(RedisBroker):
    """A broker on a client that belongs to somebody else."""

    def __init__(self, client: Redis) -> None:
        self._given = client
        super().__init__(logger=cast("Any", None), apply_types=False, graceful_timeout=STOP_SECONDS)

    def _make_connection_state(self, connection_options: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        del connection_options, kwargs
        return _GivenConnection(self._given)


class _GivenConnection(RedisConnectionState):
    """Connected for as long as its owner says; closing it is the owner's business, too."""

    __slots__ = ("_given",)

    def __init__(self, client: Redis) -> None:
        super().__init__()
        self._given = client

    async def connect(self) -> Any:
        self._client, self._connected = cast("Any", self._given), True
        return self._given

    async def disconnect(self) -> None:
        self._client, self._connected = None, False
