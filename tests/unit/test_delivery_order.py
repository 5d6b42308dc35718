"""The order of deliveries, and what a crash at any moment leaves."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from rota_server.domain.ids import Position
from rota_server.domain.subscriptions.deliveries import Delivery
from rota_server.domain.subscriptions.delivery_order import DeliveryOrder, Item

NOW = datetime(2027, 1, 1, tzinfo=UTC)
A, B = UUID(int=1), UUID(int=2)
LATER = NOW + timedelta(seconds=60)


def order_of(*events: tuple[int, UUID]) -> DeliveryOrder:
    order = DeliveryOrder(Position(0))
    for position, stream in events:
        order.add(Position(position), stream)
        order.read(Position(position))
    return order


def test_of_each_stream_one_event_is_on_its_way():
    order = order_of((1, A), (2, A), (3, B))
    taken = order.take(NOW, 10)
    assert [item.position for item in taken] == [1, 3]
    assert order.take(NOW, 10) == []
    order.succeeded(taken[0])
    assert [item.position for item in order.take(NOW, 10)] == [2]


def test_the_cursor_stands_before_what_is_neither_delivered_nor_kept():
    order = order_of((1, A), (2, B), (3, A))
    first, second = order.take(NOW, 10)
    order.succeeded(second)
    assert order.cursor == 0
    order.failed(first, "500", LATER)
    change = order.take_change()
    assert change.position == 3
    assert sorted(change.kept) == [1, 3]
    assert order.take(NOW, 10) == []
    assert order.next_at == LATER
    assert [item.position for item in order.take(LATER, 10)] == [1]


def test_what_comes_behind_a_failed_event_waits_with_it():
    order = order_of((1, A))
    (first,) = order.take(NOW, 1)
    order.failed(first, "500", LATER)
    order.add(Position(2), A)
    order.read(Position(2))
    assert order.cursor == 2
    assert order.take(NOW, 10) == []
    (again,) = order.take(LATER, 10)
    order.succeeded(again)
    assert [item.position for item in order.take(LATER, 10)] == [2]


def test_what_is_given_up_takes_along_what_is_behind_it_and_no_more():
    order = order_of((1, A), (2, A), (3, B))
    first, other = order.take(NOW, 10)
    assert [item.position for item in order.gave_up(first, "410")] == [1, 2]
    change = order.take_change()
    assert {position: row.state for position, row in change.kept.items()} == {1: "dead", 2: "dead"}
    assert change.position == 2  # the other stream's is still on its way
    order.succeeded(other)
    order.add(Position(4), A)
    assert [item.position for item in order.take(NOW, 10)] == [4]


def test_what_is_to_be_delivered_anew_comes_before_what_is_behind_it():
    order = order_of((5, A))
    order.restore(Delivery(position=Position(2), stream_id=A, state="pending", attempts=0, next_at=NOW))
    assert [item.position for item in order.take(NOW, 10)] == [2]


class Played:
    """A subscription with a table and a saved cursor, whose memory may be lost between any two steps."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.streams = {position: UUID(int=self.chance.randrange(4)) for position in range(1, 61)}
        self.table: dict[int, Delivery] = {}
        self.saved = Position(0)
        self.now = NOW
        self.arrived: dict[UUID, list[int]] = {}
        self.begin()

    def begin(self) -> None:
        """A leader's beginning: what was not saved is forgotten."""
        self.order = DeliveryOrder(self.saved)
        self.read: int = self.saved
        self.on_their_way: list[Item] = []
        for position in sorted(self.table):
            if self.table[position].state == "pending":
                self.order.restore(self.table[position])

    def step(self) -> None:
        chance = self.chance
        if chance.random() < 0.03:
            self.begin()
        elif self.read < len(self.streams) and chance.random() < 0.5:
            self.read += 1
            self.order.add(Position(self.read), self.streams[self.read])
            self.order.read(Position(self.read))
        self.on_their_way += self.order.take(self.now, 3 - len(self.on_their_way))
        if self.on_their_way and chance.random() < 0.7:
            self.answer(self.on_their_way.pop(chance.randrange(len(self.on_their_way))))
        if chance.random() < 0.5:
            self.save()
        self.now += timedelta(seconds=1)

    def answer(self, item: Item) -> None:
        if self.chance.random() < 0.7:
            self.arrived.setdefault(item.stream_id, []).append(item.position)
            self.order.succeeded(item)
        elif item.attempts >= 5:
            self.order.gave_up(item, "no")
        else:
            self.order.failed(item, "no", self.now + timedelta(seconds=self.chance.randrange(1, 9)))

    def save(self) -> None:
        change = self.order.take_change()
        assert change.position >= self.saved
        self.saved = change.position
        self.table |= change.kept
        for position in change.done:
            self.table.pop(position, None)

    @property
    def over(self) -> bool:
        dead = all(row.state == "dead" for row in self.table.values())
        return self.saved == len(self.streams) and not self.on_their_way and dead


@pytest.mark.parametrize("seed", range(60))
def test_whatever_fails_and_whenever_it_crashes_each_stream_arrives_in_order_and_whole(seed: int):
    played = Played(seed)
    while not played.over:
        played.step()
    for stream in set(played.streams.values()):
        wanted = [p for p, of in played.streams.items() if of == stream and p not in played.table]
        first_times = list(dict.fromkeys(played.arrived.get(stream, [])))
        assert set(wanted) <= set(first_times)
        assert [p for p in first_times if p in wanted] == wanted
