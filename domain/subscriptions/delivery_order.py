"""In which order a subscription's events are delivered, and how far that has come. Pure; time is an argument.

Events of one stream (one job) are delivered one after the other, those of different streams side by side. An event that
fails is kept in a table until it is tried again, and with it what waits behind it in its stream, so that the cursor in
the log can move on. One that is given up takes along what waits behind it: a receiver gets a stream's events in order,
or does not get them at all until somebody has them delivered again.
"""

from __future__ import annotations

import heapq
from bisect import insort
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

from rota_server.domain.ids import Position
from rota_server.domain.subscriptions.deliveries import Delivery

AT_ONCE = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Item:
    """An event to deliver. `kept`: it stands in the table."""

    position: Position
    stream_id: UUID
    attempts: int = 0
    next_at: datetime = AT_ONCE
    error: str | None = None
    kept: bool = False


@dataclass(slots=True)
class Change:
    """What has to be saved together: the cursor, what is kept, and what needs no keeping any more."""

    position: Position
    kept: dict[Position, Delivery] = field(default_factory=dict)
    done: set[Position] = field(default_factory=set)


@dataclass(slots=True)
class _Lane:
    """One stream's events: the one that is on its way, and those behind it, in order."""

    busy: Item | None = None
    waiting: list[Item] = field(default_factory=list)


_Due = tuple[datetime, int, Item]


class DeliveryOrder:
    """The events of one subscription from its cursor on."""

    def __init__(self, read_to: Position) -> None:
        self.read_to = read_to
        """Everything up to here is known to this order."""
        self._lanes: dict[UUID, _Lane] = {}
        self._open: set[Position] = set()
        self._due: list[_Due] = []
        self._due_again: list[_Due] = []
        self._numbers = count()
        self._kept: dict[Position, Delivery] = {}
        self._done: set[Position] = set()
        self.kept_count = 0

    @property
    def open_count(self) -> int:
        """Events that are neither delivered nor kept: they hold the cursor."""
        return len(self._open)

    @property
    def cursor(self) -> Position:
        """What lies up to here is delivered, kept, given up, or of no interest."""
        return Position(min(self._open) - 1) if self._open else self.read_to

    # -- what is to be delivered -------------------------------------------------------------------------------------

    def add(self, position: Position, stream_id: UUID) -> None:
        """An event that was read from the log and is wanted."""
        lane = self._lanes.setdefault(stream_id, _Lane())
        item = Item(position, stream_id)
        delayed = bool(lane.waiting) and lane.waiting[0].next_at is not AT_ONCE
        insort(lane.waiting, item, key=lambda one: one.position)
        if delayed:
            item.next_at = lane.waiting[0].next_at
            self._keep(item)
        else:
            self._open.add(position)
            self._schedule(lane)

    def read(self, position: Position) -> None:
        """Everything up to this position has been read."""
        self.read_to = position

    def restore(self, delivery: Delivery) -> None:
        """An event that stands in the table as pending: from before, or because somebody wants it delivered again."""
        if delivery.position in self._done or delivery.position in self._kept:
            return  # what is known here is newer than the table
        lane = self._lanes.setdefault(delivery.stream_id, _Lane())
        if lane.busy is not None and lane.busy.position == delivery.position:
            return
        item = next((one for one in lane.waiting if one.position == delivery.position), None)
        if item is None:
            item = Item(delivery.position, delivery.stream_id, kept=True)
            insort(lane.waiting, item, key=lambda one: one.position)
            self.kept_count += 1
        item.attempts, item.next_at, item.error = delivery.attempts, delivery.next_at, delivery.error
        self._schedule(lane)

    def take(self, now: datetime, limit: int, again: int | None = None) -> list[Item]:
        """Events to attempt now, of each stream at most one; they are on their way until it is said how it went.

        `again`: how many of them may have failed before, when not all may.
        """
        repeated = self._take(self._due_again, now, limit if again is None else min(limit, again))
        return repeated + self._take(self._due, now, limit - len(repeated))

    def _take(self, due: list[_Due], now: datetime, limit: int) -> list[Item]:
        taken: list[Item] = []
        while due and len(taken) < limit and due[0][0] <= now:
            at, _, item = heapq.heappop(due)
            lane = self._lanes.get(item.stream_id)
            if lane is None or lane.busy is not None or not lane.waiting:
                continue
            if lane.waiting[0] is not item or item.next_at != at:
                continue
            lane.busy = lane.waiting.pop(0)
            taken.append(item)
        return taken

    @property
    def next_at(self) -> datetime | None:
        """When something may have to be attempted, None while nothing waits for its time."""
        return min((due[0][0] for due in (self._due, self._due_again) if due), default=None)

    @property
    def next_first_at(self) -> datetime | None:
        """The same of events that have not failed yet."""
        return self._due[0][0] if self._due else None

    # -- how it went -------------------------------------------------------------------------------------------------

    def succeeded(self, item: Item) -> None:
        """The receiver took it."""
        lane = self._lanes[item.stream_id]
        lane.busy = None
        self._open.discard(item.position)
        if item.kept:
            self.kept_count -= 1
            self._kept.pop(item.position, None)
            self._done.add(item.position)
        self._go_on(item.stream_id, lane)

    def failed(self, item: Item, error: str, retry_at: datetime) -> None:
        """The receiver did not take it; it is tried again at that time, and what is behind it waits."""
        lane = self._lanes[item.stream_id]
        lane.busy = None
        item.attempts += 1
        item.error, item.next_at = error, retry_at
        insort(lane.waiting, item, key=lambda one: one.position)
        for one in lane.waiting:
            if not one.kept:
                one.next_at = max(one.next_at, retry_at)
                self._keep(one)
        self._kept[item.position] = _row(item, "pending")
        self._schedule(lane)

    def gave_up(self, item: Item, error: str) -> list[Item]:
        """There is no further attempt: it, and what waits behind it in its stream, are dead letters now."""
        lane = self._lanes.pop(item.stream_id)
        item.attempts += 1
        item.error = error
        lost = [item, *(one for one in lane.waiting if one.position > item.position)]
        for one in lost:
            if one is not item:
                one.error = f"waited for position {item.position}, which was given up"
            self._open.discard(one.position)
            self.kept_count -= one.kept
            self._done.discard(one.position)
            self._kept[one.position] = _row(one, "dead")
        earlier = [one for one in lane.waiting if one.position < item.position]
        if earlier:
            self._lanes[item.stream_id] = left = _Lane(waiting=earlier)
            self._schedule(left)
        return lost

    def take_change(self) -> Change:
        """What has to be saved now; whoever takes it saves it before the next one."""
        change = Change(self.cursor, self._kept, self._done)
        self._kept, self._done = {}, set()
        return change

    @property
    def has_rows_to_save(self) -> bool:
        """Whether more than the cursor has changed."""
        return bool(self._kept or self._done)

    def _go_on(self, stream_id: UUID, lane: _Lane) -> None:
        if lane.waiting:
            lane.waiting[0].next_at = AT_ONCE
            self._schedule(lane)
        else:
            del self._lanes[stream_id]

    def _keep(self, item: Item) -> None:
        item.kept = True
        self.kept_count += 1
        self._open.discard(item.position)
        self._done.discard(item.position)
        self._kept[item.position] = _row(item, "pending")

    def _schedule(self, lane: _Lane) -> None:
        if lane.busy is None and lane.waiting:
            head = lane.waiting[0]
            due = self._due_again if head.attempts else self._due
            heapq.heappush(due, (head.next_at, next(self._numbers), head))


def _row(item: Item, state: str) -> Delivery:
    return Delivery(
        position=item.position,
        stream_id=item.stream_id,
        state="dead" if state == "dead" else "pending",
        attempts=item.attempts,
        next_at=item.next_at,
        error=item.error,
    )
