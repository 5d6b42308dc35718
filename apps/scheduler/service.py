"""A scheduler's life: stand for election, lead, step down, again.

Never decides without a term that is entered in the log's fence, nor by a clock that is far off PostgreSQL's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Callable
from uuid import uuid5

from uuid_utils.compat import uuid7

from rota_server.apps.scheduler.composition import EXTENSIONS
from rota_server.apps.scheduler.decision_writer import DecisionWriter
from rota_server.apps.scheduler.extensions.extension import TermContext
from rota_server.apps.scheduler.extensions.limits import begin_admission
from rota_server.apps.scheduler.leader import Leader
from rota_server.apps.scheduler.missing_work import MissingWork
from rota_server.apps.scheduler.parts import SchedulerParts
from rota_server.apps.service import Backoff
from rota_server.apps.version import VERSION
from rota_server.domain.errors import NotLeader, Unavailable
from rota_server.domain.events import Event
from rota_server.domain.ids import NAMESPACE, Position, Term
from rota_server.domain.jobs.events import DecisionRefused, LeaderElected
from rota_server.domain.leader_state import LeaderState
from rota_server.domain.log import Appended, Meta, StreamWrite, Unit
from rota_server.domain.ports.coordination import Leadership

log = logging.getLogger("rota.scheduler")

LEADERSHIP_STREAM = uuid5(NAMESPACE, "leadership")

CLOCK_LIMIT_SECONDS = 1.0
"""A machine whose clock is further off PostgreSQL's than this does not lead."""

CLOCK_LOOK_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 15.0
"""Between two elections; short at first, longer while this node cannot lead."""

SETTLED_SECONDS = 10.0
"""Who has led for so long stands again at once."""

MAX_ROUNDS = 20


class Scheduler:
    """One process that leads or stands by."""

    def __init__(self, parts: SchedulerParts, *, name_node: Callable[[], str] | None = None) -> None:
        self._parts = parts
        self._log = parts.event_log
        self._name_node = name_node or new_node
        self._backoff = Backoff(maximum_seconds=LONGEST_PAUSE_SECONDS)
        self.leading: Leader | None = None
        """What it does while it leads, None while it does not."""

    async def stand(self) -> None:
        """Stand for election again and again; each time as a new node. Raises Unavailable, Corruption."""
        while True:
            await self._wait_for_clock()
            node = self._name_node()
            info = {"host": socket.gethostname(), "pid": os.getpid(), "version": VERSION}
            began = asyncio.get_running_loop().time()
            try:
                async with self._parts.coordination.elect(node, info) as leadership:
                    began = asyncio.get_running_loop().time()
                    await self._lead(node, leadership)
            except NotLeader as error:
                log.error("not the leader: %s", error)  # noqa: TRY400 - the sentence says it all
                self._parts.metrics.refused()
            if asyncio.get_running_loop().time() - began > SETTLED_SECONDS:
                self._backoff.succeeded()
            await self._backoff.pause()

    async def _wait_for_clock(self) -> None:
        clock = self._parts.clock
        while abs(await clock.sample()) > CLOCK_LIMIT_SECONDS:
            log.error("this clock is %.1f s off PostgreSQL's: not standing for election", clock.offset_seconds)
            await asyncio.sleep(CLOCK_LOOK_SECONDS)

    async def _lead(self, node: str, leadership: Leadership) -> None:
        """Lead until the leadership is lost, or the log or the clock says that it is over."""
        metrics = self._parts.metrics
        try:
            elected = LeaderElected(term=leadership.term, node=node)
            position = await self._append_leadership(elected, node, leadership.term)
            log.info("leading in term %d as %s", leadership.term, node)
            self.leading = await self._compose(node, leadership.term, position)
            metrics.leads.set(1)
            metrics.term.set(leadership.term)
            await self._work(self.leading, leadership)
        except NotLeader as error:
            log.warning("not the leader any more: %s", error)
            metrics.refused()
            await self._note_refusal(node, error)
        finally:
            self.leading = None
            metrics.leads.set(0)

    async def _work(self, leading: Leader, leadership: Leadership) -> None:
        work = asyncio.ensure_future(leading.run())
        ends = {
            asyncio.ensure_future(leadership.wait_lost()): f"the leadership of term {leadership.term} is lost",
            asyncio.ensure_future(self._clock_goes_wrong()): "this clock has moved away from PostgreSQL's",
        }
        try:
            await asyncio.wait([work, *ends], return_when=asyncio.FIRST_COMPLETED)
            for end, reason in ends.items():
                if end.done():
                    end.result()
                    log.warning("stepping down: %s", reason)
        finally:
            for task in (work, *ends):
                task.cancel()
            (result, *_) = await asyncio.gather(work, *ends, return_exceptions=True)
        if isinstance(result, BaseExceptionGroup):
            raise _first(result)

    async def _clock_goes_wrong(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_LOOK_SECONDS)
            if abs(self._parts.clock.offset_seconds) > CLOCK_LIMIT_SECONDS:
                return

    async def _compose(self, node: str, term: Term, elected_at: Position) -> Leader:
        parts = self._parts
        position, running, queued = await parts.projection.load()
        state = LeaderState(position, running, queued)
        await begin_admission(state, parts)
        carries_out = DecisionWriter(self._log, state, term, node, now=parts.clock.now, metrics=parts.metrics)
        missing_work = MissingWork(self._log, parts.index, parts.streams, parts.publisher, carries_out)
        context = TermContext(
            state=state, carries_out=carries_out, parts=parts, term=term, node=node, caught_up=asyncio.Event()
        )
        return Leader(
            state,
            carries_out,
            missing_work,
            parts,
            extensions=[make(context) for make in EXTENSIONS],
            knows_all_at=elected_at,
            caught_up=context.caught_up,
        )

    async def _append_leadership(self, event: Event, node: str, fence: Term | None) -> Position:
        """Append to the stream of leaderships, whatever its version is; where the event is."""
        for _ in range(MAX_ROUNDS):
            version = await self._log.last_version(LEADERSHIP_STREAM)
            write = StreamWrite(stream_id=LEADERSHIP_STREAM, expected_version=version, events=[event], head=None)
            unit = Unit(id=uuid7(), writes=[write], meta=Meta(actor=f"scheduler:{node}", term=fence))
            (result,) = await self._log.append([unit], fence=fence)
            if isinstance(result, Appended):
                return result.last_position
        raise Unavailable("the stream of leaderships changed in every round", server="postgres")

    async def _note_refusal(self, node: str, error: NotLeader) -> None:
        """The log keeps that an old leader tried to decide."""
        if error.current_term is not None:
            event = DecisionRefused(term=error.own_term, current_term=error.current_term, node=node)
            with contextlib.suppress(Unavailable):
                await self._append_leadership(event, node, None)


def new_node() -> str:
    """A name that no other scheduler has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that says most: a lost leadership before everything else."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, NotLeader)), leaves[0])
