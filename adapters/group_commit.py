"""Coalesces the concurrent appends of a process into few calls: what makes a serialised log fast.

One call is in flight at a time; what arrives meanwhile goes into the next one. Two units that touch the same
stream never share a call. A call whose outcome is unknown is repeated until it is known: units are idempotent. A call
that is refused for a reason nobody expected is made again unit by unit, so that the others do not pay for one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from uuid import UUID

from rota_server.domain.errors import RotaError, Unavailable, Unexpected
from rota_server.domain.ids import Term
from rota_server.domain.log import AppendResult, Unit
from rota_server.domain.ports.event_log import EventLog

log = logging.getLogger("rota.commit")

MAX_EVENTS = 500
"""Events in one call, unless a single unit is larger."""

MAX_WAITING = 20_000
"""Units that may wait; whoever comes then waits for room first."""

_Waiting = tuple[Unit, Term | None, "asyncio.Future[AppendResult]"]


class GroupCommit:
    """Append units one by one; they travel together.

    `give_up_seconds`: how long an append is repeated while the log is unavailable, None forever.
    """

    def __init__(self, log: EventLog, *, max_events: int = MAX_EVENTS, give_up_seconds: float | None = None) -> None:
        self._log = log
        self._max_events = max_events
        self._give_up_seconds = give_up_seconds
        self._waiting: deque[_Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self.calls = 0
        self.events = 0

    async def append(self, unit: Unit, fence: Term | None = None) -> AppendResult:
        """The unit's place in the log, or the stream it lost on.

        Raises:
            NotLeader: `fence` is an old term.
            Unavailable: it is unknown whether the unit was written, after `give_up_seconds`.
            Unexpected: the log refuses this unit, and says why in no way that anybody knows.
        """
        return (await self.append_all([unit], fence))[0]

    async def append_all(self, units: Sequence[Unit], fence: Term | None = None) -> list[AppendResult]:
        """As `append`, for several units, in order."""
        results: list[AppendResult] = []
        for result in await self.append_each(units, fence):
            if isinstance(result, Exception):
                raise result
            results.append(result)
        return results

    async def append_each(self, units: Sequence[Unit], fence: Term | None = None) -> list[AppendResult | RotaError]:
        """As `append_all`, with what `append` raises in the place of a unit's answer."""
        while len(self._waiting) >= MAX_WAITING:
            self._room.clear()
            await self._room.wait()
        loop = asyncio.get_running_loop()
        futures = []
        for unit in units:
            future: asyncio.Future[AppendResult] = loop.create_future()
            self._waiting.append((unit, fence, future))
            futures.append(future)
        if self._sender is None and futures:
            self._sender = loop.create_task(self._send_all())
        results: list[AppendResult | RotaError] = []
        try:
            for future in futures:
                try:
                    results.append(await future)
                except RotaError as error:
                    results.append(error)
        finally:
            for future in futures[len(results) :]:
                # Nobody asks for these any more; a failure of theirs must not be reported as never retrieved.
                future.add_done_callback(_retrieve)
        return results

    async def flush(self) -> None:
        """Return when everything that waits now has been answered."""
        while self._sender is not None:
            await asyncio.wait([self._sender])

    async def _send_all(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                # A turn of the loop, so that whoever is about to append gets into this call.
                await asyncio.sleep(0)
                batch = self._next_batch()
                if batch:
                    await self._send(batch)
        except Exception as error:
            # A defect of this loop: whoever waits would wait forever.
            log.exception("group commit has failed")
            _fail((*batch, *self._take_waiting()), Unexpected(f"group commit has failed: {error!r}", server="postgres"))
        finally:
            self._sender = None

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        held: list[_Waiting] = []
        streams: set[UUID] = set()
        events = 0
        fence: Term | None = None
        while self._waiting:
            entry = self._waiting[0]
            if entry[2].done():  # who asked has gone away and was promised nothing
                self._waiting.popleft()
                continue
            unit = entry[0]
            size = sum(len(w.events) for w in unit.writes)
            if batch and (events + size > self._max_events or entry[1] != fence):
                break
            self._waiting.popleft()
            if any(w.stream_id in streams for w in unit.writes):
                held.append(entry)
                streams.update(w.stream_id for w in unit.writes)
                continue
            fence = entry[1]
            streams.update(w.stream_id for w in unit.writes)
            batch.append(entry)
            events += size
        self._waiting.extendleft(reversed(held))
        if len(self._waiting) < MAX_WAITING:
            self._room.set()
        self.events += events
        self.calls += 1
        return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        try:
            results = await self._append([entry[0] for entry in batch], batch[0][1])
        except asyncio.CancelledError:
            for _, _, future in (*batch, *self._take_waiting()):
                future.cancel()
            raise
        except Unavailable as error:
            # Those that wait have waited for as long; trying each call again would make the last one wait forever.
            _fail((*batch, *self._take_waiting()), error)
        except RotaError as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - logged there
            await self._refused(batch, error)
        else:
            for (_, _, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _refused(self, batch: list[_Waiting], error: Exception) -> None:
        """Find out whom an error concerns that nobody expected, and tell it to those alone."""
        if len(batch) > 1:
            log.warning("an append of %d units is made again unit by unit: %r", len(batch), error)
            for entry in batch:
                await self._send([entry])
            return
        log.error("the log refuses a unit", exc_info=error)
        _fail(batch, Unexpected(f"the log refuses this with an unexpected error: {error!r}"[:500], server="postgres"))

    def _take_waiting(self) -> list[_Waiting]:
        taken = list(self._waiting)
        self._waiting.clear()
        self._room.set()
        return taken

    async def _append(self, units: Sequence[Unit], fence: Term | None) -> list[AppendResult]:
        loop = asyncio.get_running_loop()
        deadline = None if self._give_up_seconds is None else loop.time() + self._give_up_seconds
        pause = 0.05
        failed_at: float | None = None
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    results = await self._log.append(units, fence=fence)
            except TimeoutError:
                message = f"the log has not answered within {self._give_up_seconds} s"
                raise Unavailable(message, server="postgres") from None
            except Unavailable as error:
                if failed_at is None:
                    failed_at = loop.time()
                    log.warning("the log cannot be written now, what is to be appended waits: %s", error)
                if deadline is not None and loop.time() + pause > deadline:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                if failed_at is not None:
                    log.warning("the log can be written again after %.1f s", loop.time() - failed_at)
                return results


def _fail(entries: Iterable[_Waiting], error: Exception) -> None:
    for _, _, future in entries:
        if not future.done():
            future.set_exception(error)


def _retrieve(future: asyncio.Future[AppendResult]) -> None:
    if not future.cancelled():
        future.exception()
