"""The scheduler's composition root: be elected, lead, step down, again."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from typing import Any
from uuid import uuid5

from uuid_utils.compat import uuid7

from adapters.postgres.clock import PostgresClock
from adapters.postgres.connection import Database
from adapters.postgres.event_log import PostgresEventLog
from adapters.postgres.job_index import PostgresJobIndex
from adapters.postgres.running_attempts import PostgresRunningAttempts
from adapters.redis.connection import connect
from adapters.redis.feed import RedisFeed
from adapters.redis.publisher import RedisPublisher
from adapters.redis.work_streams import RedisWorkStreams
from apps.coordination import coordination_for
from apps.scheduler.carrying_out import CarriesOut
from apps.scheduler.leading import Leading
from apps.scheduler.missing_work import MissingWork
from apps.service import keep_running, run_service, run_until, until_done
from apps.settings import Settings
from domain.brain import Brain
from domain.errors import NotLeader, Unavailable
from domain.events import DecisionRefused, Event, LeaderElected
from domain.ids import NAMESPACE, Term, Version
from domain.log import Appended, Meta, StreamWrite, Unit
from domain.ports import Coordination, Leadership
from observability import metrics
from outbox.routing import route

log = logging.getLogger("rota.scheduler")

VERSION = "0.1.0"
LEADERSHIP_STREAM = uuid5(NAMESPACE, "leadership")
CLOCK_LIMIT_SECONDS = 1.0
"""A machine whose clock is further off PostgreSQL's than this does not lead."""

PAUSE_SECONDS = 1.0


def main(settings: Settings) -> int:
    """Run the scheduler until it is told to stop; the exit status."""
    settings.require("database_url")
    settings.require("redis_url")
    return run_service("scheduler", lambda stop: Scheduler(settings).run(stop), log_level=settings.log_level)


class Scheduler:
    """One process that leads or stands by."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.require("database_url"), application="rota-scheduler")
        self._log = PostgresEventLog(self._database)
        self._clock = PostgresClock(self._database)
        self._redis: Any = connect(settings.require("redis_url"))
        self._leading: Leading | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        metrics.serve(self._settings.metrics_port)
        metrics.gauge("rota_scheduler_leads", "1 while this scheduler leads", lambda: float(self._leading is not None))
        metrics.gauge(
            "rota_scheduler_running",
            "Attempts that run",
            lambda: self._leading.brain.running_count if self._leading else 0,
        )
        try:
            await until_done("clock", self._clock.sample)
            async with coordination_for(self._settings, self._database) as coordination:
                await run_until(
                    stop,
                    clock=keep_running("clock", self._clock.keep),
                    elections=keep_running("elections", lambda: self._stand(coordination)),
                    partitions=keep_running("partitions", self._make_partitions),
                )
        finally:
            await self._log.close()
            await self._database.close()
            await self._redis.aclose()

    async def _make_partitions(self) -> None:
        while True:
            await self._log.ensure_partitions()
            await asyncio.sleep(60)

    async def _stand(self, coordination: Coordination) -> None:
        """Stand for election again and again; each time as a new node."""
        while True:
            node = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
            info = {"host": socket.gethostname(), "pid": os.getpid(), "version": VERSION}
            try:
                async with coordination.elect(node, info) as leadership:
                    await self._lead(node, leadership, coordination)
            except NotLeader as error:
                log.warning("not the leader (any more): %s", error)
                await self._note_refusal(node, error)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _lead(self, node: str, leadership: Leadership, coordination: Coordination) -> None:
        """Lead until the leadership is lost. Raises NotLeader when the log says so first."""
        if abs(await self._clock.sample()) > CLOCK_LIMIT_SECONDS:
            log.error("this clock is %.1f s off PostgreSQL's: not leading", self._clock.offset_seconds)
            return
        await self._append_leadership(LeaderElected(term=leadership.term, node=node), node, leadership.term)
        log.info("leading in term %d as %s", leadership.term, node)
        leading = self._leading = await self._compose(node, leadership.term, coordination)
        work = asyncio.ensure_future(leading.run())
        lost = asyncio.ensure_future(leadership.wait_lost())
        try:
            await asyncio.wait([work, lost], return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                log.warning("the leadership of term %d is lost", leadership.term)
        finally:
            self._leading = None
            lost.cancel()
            work.cancel()
            (result, _) = await asyncio.gather(work, lost, return_exceptions=True)
        if isinstance(result, BaseExceptionGroup):
            raise _first(result)

    async def _compose(self, node: str, term: Term, coordination: Coordination) -> Leading:
        projection = PostgresRunningAttempts(self._database)
        index = PostgresJobIndex(self._database)
        brain = Brain(*await projection.load())
        carries_out = CarriesOut(self._log, brain, term, node, self._clock.now)
        publisher = RedisPublisher(self._redis, route)
        missing = MissingWork(self._log, index, RedisWorkStreams(self._redis), publisher, carries_out)
        return Leading(
            brain,
            carries_out,
            feed=RedisFeed(self._redis, self._log),
            index=index,
            projection=projection,
            coordination=coordination,
            missing_work=missing,
            now=self._clock.now,
        )

    async def _append_leadership(self, event: Event, node: str, fence: Term | None) -> None:
        """Append to the stream of leaderships, whatever its version is."""
        for _ in range(20):
            version = len(await self._log.read_stream(LEADERSHIP_STREAM))
            write = StreamWrite(
                stream_id=LEADERSHIP_STREAM, expected_version=Version(version), events=[event], head=None
            )
            unit = Unit(id=uuid7(), writes=[write], meta=Meta(actor=f"scheduler:{node}", term=fence))
            (result,) = await self._log.append([unit], fence=fence)
            if isinstance(result, Appended):
                return
        raise Unavailable("the stream of leaderships changed in every round", server="postgres")

    async def _note_refusal(self, node: str, error: NotLeader) -> None:
        """The log keeps that an old leader tried to decide."""
        if error.current_term is not None:
            event = DecisionRefused(term=error.own_term, current_term=error.current_term, node=node)
            await self._append_leadership(event, node, None)


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
