"""The relay's end of Redis: writes batches of the log, and fills an emptied Redis again.

Every write is one script, guarded by where the feed ends, so a batch is there as a whole or not at all, never
twice, and a relay that is no longer the active one can leave neither a duplicate nor a hole. Where events go is
given from outside; nothing here decides it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import orjson
from prometheus_client import Counter
from redis.asyncio import Redis

from rota_server.adapters.codec import to_json
from rota_server.adapters.redis.connection import Script, execute, last_id, translated
from rota_server.adapters.redis.streams import CONTROL, FEED, REFILL, entry_id, position_of, work_stream
from rota_server.domain.ids import Position, Version
from rota_server.domain.log import RawEvent
from rota_server.domain.messaging import CancelNotice, Dispatch, FeedEnd, Refill, Route, WorkItem
from rota_server.observability import tracing

ENTRY_BYTES = 512 * 1024
"""A feed entry is closed once it has grown to this; a single event may be larger."""

FEED_EVENTS = 100_000
"""How many events the feed keeps; who is farther behind reads the log."""

FEED_BYTES = 64 * 1024 * 1024
"""How much of its own writing a publisher lets stand in the feed, should the events be large."""

CONTROL_ENTRIES = 10_000

_publish = Script("publish", "without_beyond")
_foreign = Script("foreign", "without_beyond")
_refill_begin = Script("refill_begin")
_refill_add = Script("refill_add", "without_beyond")
_refill_finish = Script("refill_finish")
_foreign_entries = Counter("rota_relay_foreign_entries", "Foreign entries that the relay removed")

log = logging.getLogger("rota.redis.publisher")


class RedisPublisher:
    """Publishes to one Redis. `route` says where an event goes besides the feed."""

    def __init__(self, client: Redis, route: Callable[[RawEvent], Route]) -> None:
        self._client = client
        self._route = route
        self._written: deque[tuple[Position, int]] = deque()
        self._written_bytes = 0

    async def last_published(self) -> Position:
        """The position up to which the feed was published; 0 when Redis knows nothing."""
        with translated("tell where the feed ends"):
            return position_of(await last_id(self._client, FEED))

    async def feed_end(self) -> FeedEnd:
        """Where the feed ends, and which event stands there when it is still there and readable."""
        position = await self.last_published()
        with translated("read the feed's last entry"):
            found = await execute(self._client, "XRANGE", FEED, entry_id(position), entry_id(position))
        try:
            fields = dict(zip(found[0][1][::2], found[0][1][1::2], strict=False))
            event = orjson.loads(fields[b"events"])[-1]
            return FeedEnd(position, UUID(event["stream_id"]), Version(event["version"]))
        except (LookupError, ValueError, TypeError):
            return FeedEnd(position, None, None)

    async def publish(self, batch: Sequence[RawEvent], *, expected_last: Position) -> bool:
        """Publish a batch that follows `expected_last`: all of it or, when the feed ends elsewhere, nothing."""
        began_ns = time.time_ns()
        entries = _Entries()
        encoded: list[bytes] = []
        traced: list[tuple[RawEvent, Dispatch]] = []
        for raw in batch:
            text = to_json(raw)
            encoded.append(text)
            route = self._route(raw)
            if route is None:
                continue
            if type(route) is CancelNotice:
                entries.add(CONTROL, raw.position, _control_fields(route))
            elif type(route) is Dispatch:
                key = work_stream(route.queue, route.priority)
                entries.add(key, raw.position, _work_fields(raw, text if route.inline else None))
                if tracing.enabled():
                    traced.append((raw, route))
        oldest = self._oldest_to_keep(batch[-1].position)
        for first, last, events in _feed_entries(batch, encoded):
            entries.add(FEED, last, ("from", first, "events", events))
            self._note_written(last, len(events))
        with translated("take a batch of events"):
            finish = batch[-1].position
            arguments = (expected_last, oldest, CONTROL_ENTRIES, finish, *entries.arguments)
            answer, *removed = await _publish(self._client, entries.keys, arguments)
        if removed and removed[1] > 0:
            self._tell_foreign(removed[0], "work or control streams")
        if traced and answer >= 0:
            _make_spans(traced, began_ns)
        return bool(answer >= 0)

    async def drop_foreign(self, end: Position) -> bool:
        """Remove what stands in the feed beyond the log's end, if no relay has written it; whether there was any."""
        with translated("remove what is not the feed's"):
            removed = int(await _foreign(self._client, (FEED,), (end,)))
        if removed:
            self._tell_foreign(removed, "feed")
        return removed > 0

    def _tell_foreign(self, count: int, where: str) -> None:
        _foreign_entries.inc(count)
        log.warning("removed %d foreign entries beyond the log's end from the %s: who else writes to this Redis?",
                    count, where)  # fmt: skip

    async def begin_refill(self) -> Refill | None:
        """Start to fill an empty Redis; None when its feed has an end already."""
        token = uuid4().hex
        with translated("begin a refill"):
            begun = await _refill_begin(self._client, (FEED, REFILL), (token,))
        return RedisRefill(self._client, token) if begun else None

    def _oldest_to_keep(self, last: Position) -> int:
        while self._written_bytes > FEED_BYTES and len(self._written) > 1:
            _, size = self._written.popleft()
            self._written_bytes -= size
        by_bytes = self._written[0][0] if self._written else 0
        return max(0, last - FEED_EVENTS, by_bytes if self._written_bytes > FEED_BYTES // 2 else 0)

    def _note_written(self, position: Position, size: int) -> None:
        self._written.append((position, size))
        self._written_bytes += size
        while self._written[0][0] < position - FEED_EVENTS:
            self._written_bytes -= self._written.popleft()[1]


class RedisRefill:
    """One refill. Its token is in Redis until it is finished, and lost together with everything else."""

    def __init__(self, client: Redis, token: str) -> None:
        self._client = client
        self._token = token

    async def add(self, items: Sequence[WorkItem]) -> bool:
        """Put dispatches back, lowest positions first; False when the refill has lost its point."""
        keys: dict[str, int] = {REFILL: 1}
        arguments: list[Any] = [self._token, items[-1].position if items else 0]
        for item in items:
            key = work_stream(item.queue, item.priority)
            index = keys.setdefault(key, len(keys) + 1)
            arguments += (index, entry_id(item.position), str(item.job_id), item.version)
        with translated("take dispatches back"):
            return bool(await _refill_add(self._client, list(keys), arguments) >= 0)

    async def finish(self, position: Position) -> bool:
        """Let the feed go on after this position; False when the refill has lost its point."""
        with translated("finish a refill"):
            return bool(await _refill_finish(self._client, (REFILL, FEED), (self._token, position)))


class _Entries:
    """The entries of one call of the publishing script, as its flat arguments."""

    def __init__(self) -> None:
        self._index = {FEED: 1, CONTROL: 2}
        self.arguments: list[Any] = []

    @property
    def keys(self) -> list[str]:
        return list(self._index)

    def add(self, key: str, position: Position, fields: tuple[Any, ...]) -> None:
        index = self._index.setdefault(key, len(self._index) + 1)
        self.arguments += (index, entry_id(position), len(fields), *fields)


def _work_fields(raw: RawEvent, submitted: bytes | None) -> tuple[Any, ...]:
    fields = ("job", str(raw.stream_id), "version", raw.version)
    return fields if submitted is None else (*fields, "submitted", submitted)


def _control_fields(notice: CancelNotice) -> tuple[Any, ...]:
    fields = ("job", str(notice.job_id), "attempt", notice.attempt, "executor", notice.executor)
    return fields if notice.reason is None else (*fields, "reason", notice.reason)


def _feed_entries(batch: Sequence[RawEvent], encoded: Sequence[bytes]) -> Iterator[tuple[Position, Position, bytes]]:
    start, size = 0, 0
    for index, text in enumerate(encoded):
        size += len(text)
        if size >= ENTRY_BYTES or index == len(encoded) - 1:
            events = b"[" + b",".join(encoded[start : index + 1]) + b"]"
            yield batch[start].position, batch[index].position, events
            start, size = index + 1, 0


def _make_spans(dispatched: Sequence[tuple[RawEvent, Dispatch]], began_ns: int) -> None:
    """One short span for each job on its way, so that a job's trace shows the time that it spent here."""
    for raw, route in dispatched:
        parent = orjson.loads(raw.meta).get("traceparent")
        if parent is None:
            continue
        attributes = {"messaging.system": "redis", "rota.queue": route.queue, "rota.position": raw.position}
        tracing.start_span(
            "relay.publish", parent=parent, attributes=attributes, kind="producer", start_time_ns=began_ns
        ).end()
