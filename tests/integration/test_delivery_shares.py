"""Deliveries to one receiver never wait for another receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from rota_server.apps.scheduler.extensions.delivery_worker import STREAMS_AT_ONCE, Tail
from rota_server.domain.ids import Position
from tests.integration.event_system import EventSystem, event_system
from tests.integration.webhook_receiver import Received, Receiver
from tests.waiting import until

SUBMITTED = {"type": "JobSubmitted"}


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[EventSystem]:
    async with event_system(postgres_url, redis_url) as found:
        yield found


async def subscribe(system: EventSystem, receiver: Receiver, name: str, **fields: Any) -> None:
    body = {"name": name, "url": receiver.url, "match": SUBMITTED, "timeout": 60, **fields}
    await system.post("/v1/subscriptions", body, 201)


async def test_receivers_that_never_answer_starve_nobody(system: EventSystem):
    silent, healthy = await Receiver().start(), await Receiver().start()
    silent.answer = lambda _: None
    await system.leader()
    for number in range(15):  # 120 messages that never end: more than any pool had
        await subscribe(system, silent, f"silent-{number}")
    await subscribe(system, healthy, "healthy")
    await system.inner.submit(10)
    await until(lambda: silent.open >= 15 * STREAMS_AT_ONCE, what="silent receivers that hold all they can get")
    await system.inner.submit(30)
    await until(lambda: len(healthy.taken) == 40, timeout_seconds=20, what="deliveries to the healthy receiver")
    assert silent.open == 15 * STREAMS_AT_ONCE
    await silent.stop()
    await healthy.stop()


async def test_events_that_the_receiver_never_answers_leave_room_for_others_to_it(system: EventSystem):
    receiver = await Receiver().start()
    bad: set[str] = set()

    def answer(received: Received) -> int | None:
        first = received.headers["webhook-id"] not in {one.headers["webhook-id"] for one in receiver.requests[:-1]}
        if received.event["subject"] in bad:
            return 500 if first else None
        return 204

    receiver.answer = answer
    await system.leader()
    await subscribe(system, receiver, "hook", retry={"max_attempts": 20, "initial": 0, "factor": 1, "jitter": 0})
    bad.update(map(str, await system.inner.submit(2 * STREAMS_AT_ONCE)))
    await until(lambda: receiver.open == STREAMS_AT_ONCE // 2, what="second attempts that are not answered")
    await system.inner.submit(20)
    await until(lambda: len(receiver.taken) == 20, timeout_seconds=20, what="the other events")
    await receiver.stop()


@pytest.mark.parametrize(("subscriptions", "share"), [(0, 8), (1, 8), (32, 8), (64, 4), (256, 1), (10_000, 1)])
def test_each_subscription_has_a_share_of_its_own(subscriptions: int, share: int):
    tail = Tail(Position(0))
    tail.divide(subscriptions)
    assert tail.share == share
