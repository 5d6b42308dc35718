"""The next timers, held in memory up to a watermark; the rest stays in the index until its time comes near.

Bounded whatever is waiting: above twice the limit the latest timers are forgotten and the watermark goes down with
them, so that they are loaded again later. Knows nothing of jobs beyond their ids and instants.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from datetime import datetime, timedelta

from rota_server.domain.ids import Position

HORIZON = timedelta(seconds=60)
"""How far ahead timers are held in memory."""

TIMERS_LIMIT = 20_000
"""Timers loaded at once; twice as many may be held."""


class Timers:
    """One timer a job, earliest first. Every job due before `known_until` is here, once a load is over.

    A load goes: `begin_load`, then the index is read, then `end_load` or `fail_load`. Events may be taken in at any
    moment in between: those up to the load's position are in what is read, later ones are added here.
    """

    def __init__(self, *, limit: int = TIMERS_LIMIT) -> None:
        self.limit = limit
        self.known_until: datetime | None = None
        self._complete = False
        self._covered = Position(0)
        self._heap: list[tuple[datetime, str]] = []
        self._due: dict[str, datetime] = {}

    def __len__(self) -> int:
        return len(self._due)

    # -- loading -----------------------------------------------------------------------------------------------------

    def wants_load(self, now: datetime) -> bool:
        """Whether the known timers end soon."""
        if self.known_until is None:
            return True
        if self._complete:
            return self.known_until < now + HORIZON / 2
        earliest = self.earliest()
        return len(self._due) <= self.limit // 4 or earliest is None or earliest > self.known_until

    def begin_load(self, until: datetime, position: Position) -> None:
        """The index is about to be read up to `until`; it knows all events up to `position`, at least."""
        self.known_until = until
        self._complete = True
        self._covered = position

    def end_load(self, due: Iterable[tuple[str, datetime]], count: int) -> None:
        """Take in what the index has, earliest first; `count` at the limit: there may be more."""
        last: datetime | None = None
        for job_id, due_at in due:
            last = due_at
            known = self._due.get(job_id)
            # What came by an event meanwhile may be newer than what was read. Too early is harmless, too late is not.
            if known is None or due_at < known:
                self._set(job_id, due_at)
        if count >= self.limit and last is not None and self.known_until is not None:
            self.known_until = min(self.known_until, last)
            self._complete = False
        self._trim()

    def fail_load(self) -> None:
        """The index could not be read: only a new load makes the timers complete again."""
        self.known_until = None

    # -- changes -----------------------------------------------------------------------------------------------------

    def add(self, job_id: str, due_at: datetime, position: Position | None = None) -> None:
        """The job is due at this instant, says an event at `position` (None: whoever has just read the job)."""
        if self.known_until is None or due_at >= self.known_until:
            return  # a later load brings it
        if position is not None and position <= self._covered:
            return  # the last load has brought it, or what came of it
        self._set(job_id, due_at)
        self._trim()

    def again(self, job_id: str, at: datetime) -> None:
        """Look at the job at this instant in any case."""
        self._set(job_id, at)

    def drop(self, job_id: str) -> None:
        """The job is not due any more."""
        self._due.pop(job_id, None)

    def earliest(self) -> datetime | None:
        """When the next timer is due."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: datetime, limit: int) -> list[str]:
        """The jobs whose time has come, earliest first, at most `limit`; their timers are gone."""
        taken: list[str] = []
        while len(taken) < limit and (at := self.earliest()) is not None and at <= now:
            _, job_id = heapq.heappop(self._heap)
            del self._due[job_id]
            taken.append(job_id)
        return taken

    def _set(self, job_id: str, due_at: datetime) -> None:
        if self._due.get(job_id) == due_at:
            return
        self._due[job_id] = due_at
        heapq.heappush(self._heap, (due_at, job_id))
        if len(self._heap) > 2 * len(self._due) + self.limit:
            self._rebuild(self._due)

    def _trim(self) -> None:
        if len(self._due) <= 2 * self.limit:
            return
        in_order = sorted(self._due.items(), key=lambda timer: timer[1])
        first_forgotten = in_order[self.limit][1]
        self.known_until = first_forgotten if self.known_until is None else min(self.known_until, first_forgotten)
        self._complete = False
        self._rebuild(dict(in_order[: self.limit]))

    def _rebuild(self, due: dict[str, datetime]) -> None:
        self._due = due
        self._heap = [(due_at, job_id) for job_id, due_at in due.items()]
        heapq.heapify(self._heap)
