"""Delivers one subscription's events: reads the log from the subscription's cursor, sends, and remembers how far it is.

What is in memory only can be lost at any moment: a successor begins at the saved cursor and delivers a little again.
Never moves the cursor past an event that is neither delivered nor kept in the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from rota_server.adapters.http.webhooks import Message, Sent, Webhooks, sign_trail
from rota_server.apps.scheduler.extensions.outgoing import content_of
from rota_server.apps.scheduler.metrics import DeliveryMetrics
from rota_server.apps.scheduler.parts import SchedulerParts
from rota_server.domain.errors import RotaError, Unavailable
from rota_server.domain.ids import Position, Term
from rota_server.domain.log import RawEvent
from rota_server.domain.matching.patterns import compile_pattern
from rota_server.domain.ports.indexes import HeadRow, ResourceRow
from rota_server.domain.subscriptions.delivery_order import Change, DeliveryOrder, Item
from rota_server.domain.subscriptions.subscription import NAMES, delivered_by, delivery_id, retry_policy, wanted_view
from rota_server.domain.triggers.trigger import CHAIN_LIMIT
from rota_server.domain.work import TooMuchWork
from rota_server.observability import unreadable

log = logging.getLogger("rota.deliveries")

STREAMS_AT_ONCE = 8
"""Messages of one subscription that are on their way together, each of another stream; half of them second attempts."""

SENDING_LIMIT = 256
"""Messages that are on their way, of all subscriptions together; but each may always have one."""

WINDOW = 256
"""Events that were read, are wanted, and are neither delivered nor kept: what a crash delivers again at most."""

BACKLOG = 10_000
"""Events kept for another attempt; the log is not read further while there are so many."""

SENDS_PER_SECOND = 500
"""Of all subscriptions together: what bounds the share of the leader's process that deliveries take."""

PIECE_SECONDS = 0.05
"""So long may events be matched before the loop turns."""

BURST_SECONDS = 0.1
READ_EVENTS = 500
READ_POSITIONS = 5000
"""How much of the log one query looks through."""

SAVE_SECONDS = 0.25
LAST_SAVE_SECONDS = 1.0
LOOK_SECONDS = 30.0
"""How often the table is looked at for what others have put there."""

PAUSE_SECONDS = 1.0


class Wanted(NamedTuple):
    """An event to send."""

    raw: RawEvent
    meta: Mapping[str, Any]
    job: HeadRow | None


@dataclass(slots=True, eq=False)
class Tail:
    """Where the log ends, as far as is known; what all workers share.

    `share`: how many messages each subscription may have on their way. Nobody waits for what others have on theirs: a
    receiver that never answers holds its own share alone.
    """

    last: Position
    share: int = STREAMS_AT_ONCE
    _next_turn: float = 0.0

    def divide(self, subscriptions: int) -> None:
        """There are so many subscriptions now."""
        self.share = max(1, min(STREAMS_AT_ONCE, SENDING_LIMIT // max(1, subscriptions)))

    async def turn(self) -> None:
        """Wait until another message may be sent: the leader has more to do than this."""
        now = time.monotonic()
        self._next_turn = max(self._next_turn, now - BURST_SECONDS) + 1 / SENDS_PER_SECOND
        if self._next_turn > now:
            await asyncio.sleep(self._next_turn - now)


class DeliveryWorker:
    """For one subscription, as it is in this row."""

    def __init__(self, row: ResourceRow, term: Term, parts: SchedulerParts, webhooks: Webhooks, tail: Tail) -> None:
        self.row = row
        self._id = row.id
        self._term = term
        self._log = parts.event_log
        self._index = parts.index
        self._deliveries = parts.deliveries
        self._now = parts.clock.now
        self._webhooks = webhooks
        self._tail = tail
        self._metrics: DeliveryMetrics = parts.metrics.deliveries(row.name)
        self._pattern = compile_pattern(row.doc["match"], names=NAMES)
        self._retry = retry_policy(row.doc)
        self._order = DeliveryOrder(row.first_position)
        self._fresh: dict[Position, Wanted] = {}
        self._sends: set[asyncio.Task[None]] = set()
        self._sending_again = 0
        self._unsaved: Change | None = None
        self._saved = Position(0)
        self._saved_at = self._looked_at = float("-inf")
        self._woken = asyncio.Event()
        self._look = True
        self._broken: BaseException | None = None
        self._cached: Mapping[UUID, str] = {}

    def wake(self, *, look: bool = False) -> None:
        """There may be something to do; `look`: also in the table."""
        self._look = self._look or look
        self._woken.set()

    async def run(self) -> None:
        """Deliver until cancelled. Raises NotLeader, Corruption."""
        try:
            await self._patiently(self._begin)
            while True:
                await self._patiently(self._step)
                await self._wait()
        finally:
            for send in self._sends:
                send.cancel()
            await asyncio.gather(*self._sends, return_exceptions=True)
            await self._save_at_the_end()

    async def _patiently(self, step: Any) -> None:
        while True:
            try:
                return await step()  # type: ignore[no-any-return]
            except Unavailable as error:
                log.warning("deliveries to %s wait: %s", self.row.name, error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _begin(self) -> None:
        start = self.row.doc["after"]
        cursor = await self._deliveries.begin(
            self._id, self.row.first_position if start is None else Position(start), self._term
        )
        self._order = DeliveryOrder(cursor)
        self._saved = cursor

    async def _step(self) -> None:
        if self._broken is not None:
            raise self._broken
        await self._look_into_table()
        await self._read()
        self._start()
        await self._save()
        self._measure()

    # -- what is to be sent ------------------------------------------------------------------------------------------

    async def _look_into_table(self) -> None:
        if not self._look and time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        if self._unsaved is not None or self._order.has_rows_to_save:
            await self._save()  # else the table would not say what is known here
        self._look = False
        for delivery in await self._deliveries.pending(self._id, BACKLOG):
            self._order.restore(delivery)
        self._looked_at = time.monotonic()

    async def _read(self) -> None:
        """Read on in the log, as long as there is room."""
        order = self._order
        # In large pieces: a query for each event that was delivered would cost more than its delivery.
        while order.read_to < self._tail.last and order.open_count <= WINDOW // 2 and order.kept_count < BACKLOG:
            until = Position(min(order.read_to + READ_POSITIONS, self._tail.last))
            types = None if self._pattern.types is None else sorted(self._pattern.types)
            limit = min(READ_EVENTS, WINDOW - order.open_count)
            raws = await self._log.read_types(order.read_to, until, types, limit)
            for wanted in await self._wanted(raws):
                order.add(wanted.raw.position, UUID(int=wanted.raw.stream_id.int))
                self._fresh[wanted.raw.position] = wanted
            order.read(raws[-1].position if len(raws) == limit else until)

    async def _wanted(self, raws: Sequence[RawEvent]) -> list[Wanted]:
        """Those that the subscription wants."""
        if not raws:
            return []
        jobs = await self._index.get(list({raw.stream_id for raw in raws}))
        found = []
        until = time.monotonic() + PIECE_SECONDS
        for raw in raws:
            if time.monotonic() > until:
                await asyncio.sleep(0)
                until = time.monotonic() + PIECE_SECONDS
            try:
                meta, job = orjson.loads(raw.meta), jobs.get(raw.stream_id)
                if self._pattern.matches(wanted_view(raw.type, raw.stream_id, orjson.loads(raw.data), meta, job)):
                    found.append(Wanted(raw, meta, job))
            except TooMuchWork as error:
                log.error("%s is not told of position %d: %s", self.row.name, raw.position, error)  # noqa: TRY400
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                reason = f"{raw.type} at position {raw.position} is not delivered, it cannot be read: {error!r}"
                unreadable.note("deliveries", raw.stream_id, reason)
        return found

    async def _fetch(self, position: Position) -> Wanted:
        fresh = self._fresh.pop(position, None)
        if fresh is not None:
            return fresh
        (raw,) = await self._log.read_raw(Position(position - 1), 1)
        return Wanted(raw, orjson.loads(raw.meta), (await self._index.get([raw.stream_id])).get(raw.stream_id))

    # -- sending -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        for item in self._order.take(self._now(), self._free, self._free_again):
            self._sending_again += item.attempts > 0
            send = asyncio.get_running_loop().create_task(self._send(item))
            self._sends.add(send)
            send.add_done_callback(self._sent)

    @property
    def _free(self) -> int:
        """How many more messages may be on their way."""
        return max(0, self._tail.share - len(self._sends))

    @property
    def _free_again(self) -> int:
        """How many of them second attempts: events that their receiver does not take must not hold up all others."""
        return max(0, max(1, self._tail.share // 2) - self._sending_again)

    def _sent(self, send: asyncio.Task[None]) -> None:
        self._sends.discard(send)
        self._woken.set()
        if not send.cancelled() and (error := send.exception()) is not None:
            self._broken = error

    async def _send(self, item: Item) -> None:
        again = item.attempts > 0
        try:
            await self._tail.turn()
            sent = await self._attempt(item)
        except Unavailable as error:
            # Ours is away, not theirs: this is no attempt of theirs.
            log.warning("a delivery to %s waits: %s", self.row.name, error)
            item.attempts -= 1
            self._order.failed(item, item.error or "not attempted", self._now() + timedelta(seconds=PAUSE_SECONDS))
            return
        finally:
            self._sending_again -= again
        if sent.error is None:
            self._metrics.succeeded()
            self._order.succeeded(item)
            return
        self._metrics.failed()
        if sent.final or item.attempts + 1 >= self._retry.max_attempts:
            lost = self._order.gave_up(item, sent.error)
            self._metrics.gave_up(len(lost))
            log.error("%d events for %s are dead letters now: %s", len(lost), self.row.name, sent.error)
            for one in lost:
                self._fresh.pop(one.position, None)
            return
        delay = self._retry.delay_seconds(delivery_id(self._id, item.position), item.attempts + 1)
        self._order.failed(item, sent.error, self._now() + timedelta(seconds=max(delay, sent.wait_seconds)))

    async def _attempt(self, item: Item) -> Sent:
        wanted = await self._fetch(item.position)
        depth = wanted.meta.get("depth", 0)
        if wanted.meta.get("causation_id") == delivered_by(self._id):
            return Sent(error="not sent: the event is what this subscription has delivered to Rota itself", final=True)
        if depth > CHAIN_LIMIT:
            return Sent(error=f"not sent: the event is the end of a chain of {CHAIN_LIMIT}", final=True)
        doc, now = self.row.doc, self._now()
        body, headers = content_of(wanted.raw, wanted.meta, wanted.job, doc["mode"])
        secrets = await self._secrets(now)
        if not secrets:
            return Sent(error="its secret is gone; give it a new one")
        message = Message(
            url=doc["url"],
            id=str(delivery_id(self._id, item.position)),
            body=body,
            headers={**headers, "rota-trail": sign_trail(secrets[0], self._id, depth + 1)},
            secrets=secrets,
            timeout_seconds=doc["timeout"],
        )
        return await self._webhooks.send(message, now.timestamp())

    async def _secrets(self, now: datetime) -> tuple[str, ...]:
        """What signs now, the present secret first."""
        doc = self.row.doc
        ids = [UUID(doc["secret_id"])]
        if doc["old_until"] is not None and now < datetime.fromisoformat(doc["old_until"]):
            ids.append(UUID(doc["old_secret_id"]))
        found = await self._known_secrets(ids)
        return tuple(found[one] for one in ids if one in found)

    async def _known_secrets(self, ids: Sequence[UUID]) -> Mapping[UUID, str]:
        if not self._cached.keys() >= set(ids):
            self._cached = dict(await self._deliveries.secrets(ids))
        return self._cached

    # -- remembering -------------------------------------------------------------------------------------------------

    async def _save(self) -> None:
        moved = self._order.cursor != self._saved
        due = time.monotonic() - self._saved_at >= SAVE_SECONDS
        if self._unsaved is None:
            if not self._order.has_rows_to_save and not (moved and due):
                return
            self._unsaved = self._order.take_change()
        change = self._unsaved
        await self._deliveries.save(self._id, change.position, self._term, kept=change.kept.values(), done=change.done)
        self._unsaved = None
        self._saved, self._saved_at = change.position, time.monotonic()
        for position in change.kept:
            self._fresh.pop(position, None)  # it is read again when its time has come

    async def _save_at_the_end(self) -> None:
        """So that less is delivered again; what has no time left, is."""
        self._saved_at = float("-inf")
        with contextlib.suppress(RotaError, TimeoutError):
            async with asyncio.timeout(LAST_SAVE_SECONDS):
                await self._save()
                await self._save()

    def _measure(self) -> None:
        self._metrics.lag.set(max(0, self._tail.last - self._order.cursor))
        self._metrics.pending.set(self._order.kept_count)

    async def _wait(self) -> None:
        """Until there is something to do."""
        timeout = LOOK_SECONDS
        if self._order.has_rows_to_save:
            return
        if self._order.cursor != self._saved:
            timeout = SAVE_SECONDS
        next_at = self._order.next_at if self._free_again else self._order.next_first_at
        if next_at is not None and self._free:
            timeout = min(timeout, max(0.0, (next_at - self._now()).total_seconds()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        self._woken.clear()
