"""Subscriptions that deliver to Rota's own `/v1/events` do not feed themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from rota_server.adapters.http.webhooks import new_secret, sign_trail
from rota_server.domain.triggers.trigger import CHAIN_LIMIT
from tests.integration.event_system import EVENT, STRUCTURED, EventSystem, event_system
from tests.integration.webhook_receiver import Received, Receiver
from tests.waiting import until

PUBLISHED = {"type": "EventPublished"}


@pytest.fixture
async def system(postgres_url: str, redis_url: str) -> AsyncIterator[EventSystem]:
    async with event_system(postgres_url, redis_url) as found:
        yield found


@pytest.fixture
async def back(system: EventSystem) -> AsyncIterator[Receiver]:
    """A way back into the store, as a subscription with the store's own address has it."""
    receiver = await Receiver().start()
    passing: set[asyncio.Task[Any]] = set()

    def answer(received: Received) -> int:
        headers = {name: value for name, value in received.headers.items() if name != "host"}
        passing.add(asyncio.create_task(system.client.post("/v1/events", content=received.body, headers=headers)))
        return 204

    receiver.answer = answer
    yield receiver
    await asyncio.gather(*passing)
    await receiver.stop()


async def subscribe(system: EventSystem, receiver: Receiver, name: str, **fields: Any) -> dict[str, Any]:
    return await system.post(
        "/v1/subscriptions", {"name": name, "url": receiver.url, "match": PUBLISHED, **fields}, 201
    )


async def published(system: EventSystem) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await system.get("/v1/events", type="EventPublished", limit=1000))["items"]
    return items


async def dead(system: EventSystem, name: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await system.get(f"/v1/subscriptions/{name}/dead"))["items"]
    return items


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_a_subscription_does_not_deliver_what_it_has_delivered(system: EventSystem, back: Receiver, mode: str):
    await system.leader()
    made = await subscribe(system, back, "circle", mode=mode)
    await system.publish(EVENT)
    (letter,) = await until(lambda: dead(system, "circle"), what="the end of the circle")
    first, echo = await published(system)
    assert letter["position"] == echo["position"]
    assert "this subscription has delivered" in letter["error"]
    assert (echo["meta"]["causation_id"], echo["meta"]["depth"]) == (f"subscription:{made['id']}", 1)
    assert len(back.requests) == 1
    assert back.requests[0].event["id"] == str(first["position"]) if mode == "structured" else True


async def test_a_circle_of_two_subscriptions_comes_to_an_end(system: EventSystem, back: Receiver):
    await system.leader()
    for name in ("one", "other"):
        await subscribe(system, back, name)
    await system.publish(EVENT)

    async def ended() -> bool:
        letters = [*await dead(system, "one"), *await dead(system, "other")]
        return any("chain" in letter["error"] for letter in letters)

    await until(ended, what="the end of the chain")
    assert len(await published(system)) == CHAIN_LIMIT + 2


async def test_nobody_hides_an_event_by_a_trail_of_their_own(system: EventSystem):
    receiver = await Receiver().start()
    await system.leader()
    made = await subscribe(system, receiver, "audit")
    forged = [sign_trail(new_secret(), made["id"], 1), f"{made['id']};1;{'0' * 64}", f"{uuid4()};1;{'0' * 64}", "x", ""]
    for number, trail in enumerate(forged):
        headers = {**STRUCTURED, "rota-trail": trail}
        answer = await system.client.post("/v1/events", json={**EVENT, "id": f"e-{number}"}, headers=headers)
        assert answer.status_code == 201
    await until(lambda: len(receiver.taken) == len(forged), what="all deliveries")
    await receiver.stop()
