"""Makes jobs of published events, as the triggers say: one for each trigger and event, however often it is tried.

A trigger takes the events that are published behind its creation, as its stream stood at each event's place in the log.
So what a successor finds unhandled, it handles as the dead leader would have. Never decides by the clock.

What events and triggers ask for is bounded in steps, and done in pieces between which the loop turns. What takes more
is set aside as a TriggerFailed. An archived trigger takes no event that was not looked at before: archiving one helps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

from rota_server.apps.histories import history_of
from rota_server.apps.scheduler.extensions.extension import TermContext
from rota_server.domain.errors import Rejected, Unreadable
from rota_server.domain.events import event_from_json
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.spec import Origin
from rota_server.domain.log import Appended, Meta, StreamWrite, Unit
from rota_server.domain.matching.paths import event_view
from rota_server.domain.matching.patterns import MATCH_STEPS, Pattern, compile_pattern
from rota_server.domain.messaging import FeedEvent
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.domain.triggers.events import TriggerFailed
from rota_server.domain.triggers.trigger import (
    CHAIN_LIMIT,
    KIND,
    Doc,
    correlation_of,
    evolve_trigger,
    trigger_head,
    triggered_job,
    triggered_job_id,
)
from rota_server.domain.work import TooMuchWork, Work
from rota_server.observability import tracing, unreadable

log = logging.getLogger("rota.triggers")

PAGE = 500
BATCH = 500
PIECE_STEPS = 10_000
"""After so many steps of matching the loop turns."""

PIECE_SECONDS = 0.05
"""So long may jobs be made of events before the loop turns, and before what is made is appended."""

TELL_SECONDS = 10.0
"""A trigger that fails again and again is told about so seldom; what fails in between is counted."""

REASON_LIMIT_CHARS = 500
EVENTS = ("TriggerCreated", "TriggerChanged", "TriggerPaused", "TriggerResumed", "TriggerArchived", "TriggerFailed")


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger as it is at the place of the log that the extension has come to."""

    id: UUID
    doc: Doc
    pattern: Pattern


class Match(NamedTuple):
    """An event, and a trigger that takes it."""

    event: FeedEvent
    trigger: Trigger


@dataclass(slots=True)
class Failures:
    """What is to be told of a trigger's failures. `told_at` by the monotonic clock."""

    count: int = 0
    last: TriggerFailed | None = None
    told_at: float = float("-inf")


class TriggersExtension:
    """See Extension."""

    name = "triggers"

    def __init__(self, context: TermContext) -> None:
        self._context = context
        self._log = context.parts.event_log
        self._begins_at = context.state.position
        self._docs: dict[UUID, Doc] = {}
        self._by_type: dict[str, dict[UUID, Trigger]] = {}
        self._of_any_type: dict[UUID, Trigger] = {}
        self._loaded = False
        self._queue: deque[FeedEvent] = deque()
        """What has happened and was not looked at yet, in order."""
        self._over: set[UUID] = set()
        """Triggers that are archived further ahead in the log."""
        self._matches: deque[Match] = deque()
        self._failures: dict[UUID, Failures] = {}
        self._woken = asyncio.Event()
        self._progress = asyncio.Event()
        for event_type in (*EVENTS, "EventPublished"):
            context.state.attach(event_type, self._see)

    async def run(self) -> None:
        """See Extension."""
        if not self._loaded:
            await self._load()
        while True:
            while self._queue or self._matches:
                await self._look()
                if self._matches:
                    await self._make_jobs()
            await self._tell_failures()
            await self._wait()

    async def settled(self, position: Position) -> None:
        """See Extension."""
        while (first := self._first_pending()) is not None and first <= position:
            self._progress.clear()
            await self._progress.wait()

    def _first_pending(self) -> Position | None:
        if self._matches:
            return self._matches[0].event.position
        return self._queue[0].position if self._queue else None

    # -- the triggers as they are ------------------------------------------------------------------------------------

    async def _load(self) -> None:
        """The triggers as they were at the position where the leader's state began; then what has come since."""
        before: Position | None = None
        rows: Sequence[ResourceRow] = ()
        while before is None or len(rows) == PAGE:
            rows = await self._context.parts.resources.find(KIND, before=before, limit=PAGE)
            old = [row for row in rows if row.first_position <= self._begins_at]
            for row in old:
                try:
                    doc = row.doc if row.position <= self._begins_at else await self._doc_then(row)
                except Unreadable as error:
                    unreadable.note("scheduler", row.id, f"trigger {row.name}: {error}")
                    continue
                if doc is not None:
                    self._set(row.id, doc)
            before = rows[-1].first_position if rows else Position(0)
        self._loaded = True

    async def _doc_then(self, row: ResourceRow) -> Doc | None:
        """The trigger as it was where the leader's state began. Raises Unreadable."""
        doc: Doc | None = None
        async for recorded in history_of(self._log, row.id):
            if recorded.position > self._begins_at:
                break
            doc = evolve_trigger(doc, recorded.event)
        return doc

    def _see(self, event: FeedEvent) -> None:
        if event.type == "EventPublished" and self._loaded and not self._docs and not self._queue:
            return  # there is no trigger
        if event.type == "TriggerArchived":
            self._over.add(UUID(event.stream_id))
        self._queue.append(event)
        self._woken.set()

    async def _look(self) -> None:
        """Find who takes what has happened, until there is enough to make jobs of."""
        work = 0
        while self._queue and len(self._matches) < BATCH:
            event = self._queue[0]
            if event.type == "EventPublished":
                work = await self._match(event, work)
            else:
                self._change(event)
            self._queue.popleft()
        self._progress.set()

    def _change(self, event: FeedEvent) -> None:
        """Take in what happened to a trigger; one that cannot be understood any more takes no events."""
        identity = UUID(event.stream_id)
        try:
            change = event_from_json(event.type, dict(event.data), event.meta.get("schema", 1))
            self._set(identity, evolve_trigger(self._docs.get(identity), change))
        except (Unreadable, KeyError) as error:
            unreadable.note("scheduler", identity, f"the trigger's {event.type} at position {event.position}: {error}")
            self._drop(identity)

    def _drop(self, identity: UUID) -> None:
        for triggers in (self._of_any_type, *self._by_type.values()):
            triggers.pop(identity, None)
        self._docs.pop(identity, None)

    def _set(self, identity: UUID, doc: Doc) -> None:
        """Have the trigger be like this from now on."""
        self._drop(identity)
        if doc["state"] == "archived":
            self._failures.pop(identity, None)
            self._over.discard(identity)
            return
        self._docs[identity] = doc
        if doc["state"] != "active":
            return
        try:
            trigger = Trigger(identity, doc, compile_pattern(doc["match"]))
        except Rejected as error:
            unreadable.note("scheduler", identity, f"its pattern cannot be understood: {error.message}")
            return
        if trigger.pattern.types is None:
            self._of_any_type[identity] = trigger
        else:
            for event_type in trigger.pattern.types:
                self._by_type.setdefault(event_type, {})[identity] = trigger

    async def _match(self, event: FeedEvent, spent: int) -> int:
        """Find the triggers that take the event; `spent` are steps since the loop has turned, answered again."""
        data = event.data
        candidates = [*self._by_type.get(str(data.get("type")), {}).values(), *self._of_any_type.values()]
        if not candidates:
            return spent
        try:
            view = event_view(data)
        except (TypeError, ValueError, AttributeError) as error:
            reason = f"EventPublished at position {event.position} cannot be read: {error!r}"
            unreadable.note("scheduler", event.stream_id, reason)
            return spent
        for trigger in candidates:
            if trigger.id in self._over:
                continue
            match = Match(event, trigger)
            work = Work("matching the event", MATCH_STEPS)
            try:
                if trigger.pattern.matches(view, work):
                    self._matches.append(match)
            except TooMuchWork as error:
                self._note_failure(match, error.message)
            spent += work.spent
            if spent >= PIECE_STEPS:
                spent = 0
                await asyncio.sleep(0)
        return spent

    # -- jobs --------------------------------------------------------------------------------------------------------

    async def _make_jobs(self) -> None:
        units: list[Unit] = []
        spans: list[tracing.SpanHandle] = []
        done, until = 0, time.monotonic() + PIECE_SECONDS
        for match in islice(self._matches, BATCH):
            if done and time.monotonic() > until:
                break
            done += 1
            try:
                unit, span = self._unit(match)
            except Rejected as error:
                self._note_failure(match, error.message)
                continue
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._note_failure(match, f"it cannot be understood: {error!r}")
                continue
            units.append(unit)
            spans.append(span)
        try:
            # A conflict means that the job is there: this event was handled before, by this leader or another.
            await self._context.carries_out.append(units)
        finally:
            for span in spans:
                span.end()
        await self._tell_failures()
        for _ in range(done):
            self._matches.popleft()
        self._progress.set()

    def _unit(self, match: Match) -> tuple[Unit, tracing.SpanHandle]:
        event, trigger = match
        data, caused = event.data, event.meta
        depth = caused.get("depth", 0) + 1
        if depth > CHAIN_LIMIT:
            raise Rejected(f"the event is the end of a chain of {CHAIN_LIMIT} triggers", code="chain")
        origin = Origin(kind="trigger", id=trigger.id, name=event.stream_id)
        published_at = datetime.fromisoformat(event.recorded_at)
        spec = triggered_job(trigger.doc, origin, event_view(data), published_at)
        span = tracing.start_span(
            "scheduler.trigger",
            parent=caused.get("traceparent"),
            attributes={"rota.trigger": trigger.doc["name"], "rota.event.id": data["id"]},
            kind="producer",
        )
        meta = Meta(
            actor=f"trigger:{trigger.doc['name']}",
            correlation_id=caused.get("correlation_id") or correlation_of(data["id"], event.stream_id),
            causation_id=str(event.position),
            traceparent=span.traceparent,
            term=self._context.term,
            depth=depth,
        )
        now = self._context.parts.clock.now()
        job_id = triggered_job_id(trigger.id, data["source"], data["id"])
        command = c.SubmitJob(spec=spec, managed=spec.queue in self._context.state.managed)
        write, _ = write_for(None, job_id, decide(None, command, now), meta, now)
        return Unit(id=uuid7(), writes=[write], meta=meta), span

    # -- failures ----------------------------------------------------------------------------------------------------

    def _note_failure(self, match: Match, reason: str) -> None:
        known = self._failures.setdefault(match.trigger.id, Failures())
        if known.last is not None and match.event.position <= known.last.position:
            return  # the same batch once more
        data = match.event.data
        known.count += 1
        known.last = TriggerFailed(
            position=match.event.position,
            source=data["source"],
            event_id=data["id"],
            reason=reason[:REASON_LIMIT_CHARS],
            count=known.count,
            at=self._context.parts.clock.now(),
        )

    async def _tell_failures(self) -> None:
        for identity, known in list(self._failures.items()):
            if known.count and time.monotonic() - known.told_at >= TELL_SECONDS:
                await self._tell(identity, known)

    async def _tell(self, identity: UUID, known: Failures) -> None:
        """Append TriggerFailed. Whatever comes between, it is tried again at the next occasion."""
        event, count = known.last, known.count
        row = (await self._context.parts.resources.get([identity])).get(identity)
        if event is None or row is None:
            known.count = 0
            return
        last = row.doc["last_failure"]
        if row.doc["state"] == "archived" or (last is not None and last["position"] >= event.position):
            known.count = 0
            return
        log.warning("trigger %s made no job of event %s: %s", row.name, event.event_id, event.reason)
        meta = Meta(actor=self._context.carries_out.actor, causation_id=str(event.position), term=self._context.term)
        doc = evolve_trigger(row.doc, event)
        write = StreamWrite(stream_id=identity, expected_version=row.version, events=[event], head=trigger_head(doc))
        (result,) = await self._context.carries_out.append([Unit(id=uuid7(), writes=[write], meta=meta)])
        if isinstance(result, Appended):
            known.count -= count
            known.told_at = time.monotonic()

    async def _wait(self) -> None:
        """Until there is something to do."""
        waiting = [known.told_at + TELL_SECONDS for known in self._failures.values() if known.count]
        timeout = None if not waiting else max(0.05, min(waiting) - time.monotonic())
        self._woken.clear()
        if self._matches or self._queue:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            return
