"""Delivers Rota's own events to webhooks: one worker for each active subscription.

Reads the log itself, from each subscription's own cursor, and never holds back the leader's checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from uuid import UUID

from rota_server.adapters.http.webhooks import Webhooks
from rota_server.apps.scheduler.extensions.delivery_worker import DeliveryWorker, Tail
from rota_server.apps.scheduler.extensions.extension import TermContext
from rota_server.domain.ids import Position
from rota_server.domain.messaging import FeedEvent
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.domain.subscriptions.subscription import KIND, OWN_EVENTS

log = logging.getLogger("rota.deliveries")

LEAST_PAUSE_SECONDS = 0.02
"""Between two looks at the log's end, so that a busy log wakes nobody for each commit."""

LOOK_SECONDS = 5.0
PAGE = 500


class DeliveriesExtension:
    """See Extension."""

    name = "deliveries"

    def __init__(self, context: TermContext) -> None:
        self._context = context
        self._log = context.parts.event_log
        self._workers: dict[UUID, tuple[DeliveryWorker, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._look: set[str] = set()
        for event_type in OWN_EVENTS:
            context.state.attach(event_type, self._see)

    async def settled(self, position: Position) -> None:
        """See Extension: its cursors are its own."""

    async def run(self) -> None:
        """See Extension."""
        tail = Tail(await self._log.last_position())
        webhooks = Webhooks(refuse_private=self._context.parts.refuse_private)
        watching = asyncio.get_running_loop().create_task(self._watch(tail))
        try:
            while True:
                await self._have_workers(tail, webhooks)
                await self._wait(watching)
        finally:
            tasks = [watching, *(task for _, task in self._workers.values())]
            self._workers.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await webhooks.close()

    def _see(self, event: FeedEvent) -> None:
        if event.type == "RedeliveryRequested":
            self._look.add(event.stream_id)
        self._changed.set()

    async def _have_workers(self, tail: Tail, webhooks: Webhooks) -> None:
        """One worker for each active subscription as it is now."""
        self._changed.clear()
        active = {row.id: row for row in await self._active()}
        tail.divide(len(active))
        gone = [one for one, (worker, _) in self._workers.items() if _differs(worker.row, active.get(one))]
        stopped = [self._workers.pop(one)[1] for one in gone]
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)
        for identity, row in active.items():
            if identity not in self._workers:
                worker = DeliveryWorker(row, self._context.term, self._context.parts, webhooks, tail)
                self._workers[identity] = (worker, asyncio.get_running_loop().create_task(worker.run()))
        look, self._look = self._look, set()
        for identity, (worker, _) in self._workers.items():
            if str(identity) in look:
                worker.wake(look=True)

    async def _active(self) -> list[ResourceRow]:
        rows: list[ResourceRow] = []
        before: Position | None = None
        while True:
            page = await self._context.parts.resources.find(KIND, active=True, before=before, limit=PAGE)
            rows += page
            if len(page) < PAGE:
                return rows
            before = page[-1].first_position

    async def _watch(self, tail: Tail) -> None:
        """Tell the workers when the log has grown."""
        while True:
            await self._log.wait_for_append(tail.last, LOOK_SECONDS)
            last = await self._log.last_position()
            if last > tail.last:
                tail.last = last
                for worker, _ in self._workers.values():
                    worker.wake()
            await asyncio.sleep(LEAST_PAUSE_SECONDS)

    async def _wait(self, watching: asyncio.Task[None]) -> None:
        """Until subscriptions have changed. Raises what ended a worker or the watching."""
        changed = asyncio.get_running_loop().create_task(self._changed.wait())
        tasks = [watching, *(task for _, task in self._workers.values())]
        try:
            done, _ = await asyncio.wait([changed, *tasks], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await changed
        for task in done:
            if task is not changed:
                task.result()


def _differs(known: ResourceRow, now: ResourceRow | None) -> bool:
    return now is None or now.doc != known.doc
