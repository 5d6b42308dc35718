"""An executor's end of the work streams.

Takes no more than there are free slots for, so nothing lies taken while another executor is idle. Waiting takes
nothing: it only looks for entries behind what the group was given last. Acknowledging also deletes. Whatever stands
in a work stream is untrusted: what cannot be read is dropped, counted and logged, and never stops the executor.

What this executor has no task for it parks: the entry stays in its stream, held by nobody until an executor takes it
that knows the task. So it stands in nobody's way, and whoever asks whether the broker still has it finds it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import UUID

import orjson
from prometheus_client import Counter
from redis.asyncio import Redis

from rota_server.adapters.codec import from_json
from rota_server.adapters.redis.connection import BLOCK_SECONDS, Script, translated
from rota_server.adapters.redis.streams import (
    GROUP,
    PARKED,
    PARKED_TASKS,
    entry_id,
    parked_bell,
    parked_tasks,
    position_of,
    queue_and_priority,
    work_stream,
    work_streams,
)
from rota_server.domain.admission.fairness import order_of
from rota_server.domain.errors import Unreadable
from rota_server.domain.ids import Position, Version
from rota_server.domain.log import Recorded
from rota_server.domain.messaging import WorkItem

log = logging.getLogger("rota.redis.work")

RECLAIM_IDLE_SECONDS = 15.0
"""An entry that was taken and neither claimed nor dropped for this long may be taken over."""

CONSUMER_GONE_SECONDS = 3600.0
"""A consumer of the group that took nothing and asked nothing for this long is forgotten, if it holds nothing."""

PARKED_SECONDS = 60.0
"""What lies parked for so long is looked at again: its job may have been cancelled."""

PARKED_AT_ONCE = 50
"""At most so much of that at a time."""

MAX_TAKE = 1_000

Entry = tuple[bytes, list[bytes] | None]

_take = Script("take")
_done = Script("done")
_reclaim = Script("reclaim")
_park = Script("park")
_unreadable = Counter("rota_work_entries_unreadable", "Entries of work streams that could not be read")
_parked = Counter("rota_work_entries_parked", "Entries of work streams that were parked: nobody here knows the task")


class RedisWorkQueue:
    """The work streams of some queues, for one consumer (an executor's id, never used by another process).

    `tasks` says which tasks this executor knows now: it takes what was parked for them.
    """

    def __init__(
        self,
        client: Redis,
        queues: Sequence[str],
        consumer: str,
        *,
        tasks: Callable[[], Sequence[str]] = tuple,
        reclaim_idle_seconds: float = RECLAIM_IDLE_SECONDS,
        parked_seconds: float = PARKED_SECONDS,
    ) -> None:
        self._client = client
        self._queues = list(queues)
        self._turn = 0
        self._consumer = consumer
        self._tasks = tasks
        self._idle_ms = int(reclaim_idle_seconds * 1000)
        self._parked_seconds = parked_seconds
        self._parked_at = time.monotonic()
        # Whether something was parked when last looked: only then are the names of the tasks sent along.
        self._anything_parked = True
        # What the group was last given of each stream, by which `wait` recognises something new.
        self._places: dict[str, bytes] = {}
        self._left_something = True

    @property
    def queues(self) -> list[str]:
        """The queues that it reads, by name."""
        return sorted(self._queues)

    def serve(self, queues: Sequence[str]) -> None:
        """Read these queues from the next `take` on."""
        self._queues = list(queues)
        self._left_something = True

    async def take(self, free_slots: int) -> list[WorkItem]:
        """At most `free_slots` items, higher priority first; they stay this consumer's until `done`.

        The queues take turns at being first within a priority, and now and then a lower priority comes first, so that
        it is never starved.
        """
        if free_slots <= 0:
            return []
        wanted = min(free_slots, MAX_TAKE)
        self._queues.append(self._queues.pop(0))
        self._turn += 1
        keys = work_streams(self._queues, order_of(self._turn))
        registries = [parked_tasks(key) for key in keys]
        bells = [parked_bell(queue) for queue in self._queues]
        knowing = self._anything_parked
        arguments = (GROUP, self._consumer, wanted, len(keys), PARKED, *(self._tasks_in_turn() if knowing else ()))
        with translated("give out work"):
            taken, places, rung, parked = await _take(self._client, [*keys, *registries, *bells], arguments)
        self._places = dict(zip([*keys, *bells], [*places, *rung], strict=True))
        self._anything_parked = bool(parked)
        self._left_something = sum(len(entries) for _, entries in taken) >= wanted or (bool(parked) and not knowing)
        return await self._read(keys, taken)

    def _tasks_in_turn(self) -> list[str]:
        """Each time another task comes first, so that none waits behind another that has much parked."""
        tasks = list(self._tasks())
        first = self._turn % len(tasks) if tasks else 0
        return tasks[first:] + tasks[:first]

    async def wait(self, timeout_seconds: float) -> None:
        """Return when there may be something to take, at the latest after the timeout. Takes nothing.

        Nothing is missed that came between the last `take` and this call: the wait begins at what `take` saw.
        """
        if self._left_something or timeout_seconds <= 0:
            return
        block_ms = max(1, int(min(timeout_seconds, BLOCK_SECONDS) * 1000))
        places: dict[Any, Any] = dict(self._places)
        with translated("wait for work"):
            await self._client.xread(places, count=1, block=block_ms)

    async def done(self, items: Sequence[WorkItem]) -> None:
        """Acknowledge and delete: each was claimed in the log, or has lost its point."""
        by_key: dict[str, list[str]] = {}
        for item in items:
            by_key.setdefault(work_stream(item.queue, item.priority), []).append(entry_id(item.position))
        await self._drop(by_key)

    async def reclaim(self, limit: int) -> list[WorkItem]:
        """Take over items that were taken but neither claimed nor dropped for a while, by whomever."""
        if limit <= 0:
            return []
        keys = work_streams(self._queues)
        gone_ms = int(CONSUMER_GONE_SECONDS * 1000)
        parked_ms = 0
        if time.monotonic() - self._parked_at >= self._parked_seconds:
            self._parked_at = time.monotonic()
            parked_ms = int(self._parked_seconds * 1000)
        arguments = (GROUP, self._consumer, self._idle_ms, min(limit, MAX_TAKE), gone_ms, PARKED, parked_ms)
        with translated("hand over abandoned work"):
            taken = await _reclaim(self._client, keys, (*arguments, PARKED_AT_ONCE))
        return await self._read(keys, taken)

    async def park(self, items: Sequence[tuple[WorkItem, str]]) -> None:
        """Leave items to whoever knows their tasks: each with the name of its task. Whoever waits looks again."""
        by_key: dict[str, list[str]] = {}
        keys: list[str] = []
        for item, task in items:
            key = work_stream(item.queue, item.priority)
            if key not in by_key:
                keys += (key, parked_tasks(key), parked_bell(item.queue))
            by_key.setdefault(key, []).extend((entry_id(item.position), task))
        arguments: list[Any] = [GROUP, PARKED, PARKED_TASKS]
        for pairs in by_key.values():
            arguments += (len(pairs) // 2, *pairs)
        with translated("park work"):
            await _park(self._client, keys, arguments)
        _parked.inc(len(items))

    async def _read(self, keys: Sequence[str], taken: list[tuple[int, list[Entry]]]) -> list[WorkItem]:
        items: list[WorkItem] = []
        unreadable: dict[str, list[str]] = {}
        for index, entries in taken:
            key = keys[index - 1]
            queue, priority = queue_and_priority(key)
            for entry in entries:
                try:
                    items.append(_work_item(queue, priority, entry))
                except (ValueError, KeyError, TypeError) as error:
                    unreadable.setdefault(key, []).append(entry[0].decode())
                    reason = error
        if unreadable:
            count = sum(len(ids) for ids in unreadable.values())
            _unreadable.inc(count)
            log.error("dropped %d entries of %s that cannot be read: %r", count, sorted(unreadable), reason)
            await self._drop(unreadable)
        return items

    async def _drop(self, by_key: dict[str, list[str]]) -> None:
        if not by_key:
            return
        arguments: list[Any] = [GROUP]
        for ids in by_key.values():
            arguments += (len(ids), *ids)
        with translated("delete finished work"):
            await _done(self._client, list(by_key), arguments)


def _work_item(queue: str, priority: str, entry: Entry) -> WorkItem:
    """What an entry stands for. Raises ValueError, KeyError or TypeError when it is none of ours."""
    identity, flat = entry
    fields = dict(zip(cast("list[bytes]", flat)[::2], cast("list[bytes]", flat)[1::2], strict=True))
    position = position_of(identity)
    if identity != entry_id(position).encode():
        raise ValueError(f"{identity!r} is not an id that the relay gives")
    job_id = UUID(fields[b"job"].decode())
    version = Version(int(fields[b"version"]))
    if position < 1 or version < 1:
        raise ValueError("positions and versions begin at 1")
    submitted = None
    if (text := fields.get(b"submitted")) is not None:
        submitted = _submitted(text, job_id, version, position)
    return WorkItem(queue, priority, job_id, version, position, submitted)


def _submitted(text: bytes, job_id: UUID, version: Version, position: Position) -> Recorded | None:
    """The event that came with the dispatch. None when it is not what the entry says: then the log is asked."""
    try:
        event = from_json(orjson.loads(text))
    except (Unreadable, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        log.warning("the event at %d cannot be read from its work entry: %r", position, error)
        return None
    fits = event.stream_id == job_id and event.version == version and event.position == position
    return event if fits else None
