"""One queue: its lines by key and priority, what counts against its limits, and who is admitted next."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from rota_server.domain.admission.fairness import order_of
from rota_server.domain.admission.lane import Lane
from rota_server.domain.admission.queues import FREE, QueueSettings
from rota_server.domain.admission.rates import RateLimiter, limiter_after_change
from rota_server.domain.jobs.spec import PRIORITIES, Priority

WINDOW_LEAST = 32
"""Jobs that may be dispatched and not started, at least, so that executors find work."""

WINDOW_SECONDS = 0.3
"""Above that as many as start in so long: more would only stand in a line where nobody takes turns."""

WINDOW_MOST = 5_000

LEAST_SLEEP_SECONDS = 0.005
"""A meter is asked again after so long at the earliest."""


class KeyBacklog:
    """The jobs of one key; "" stands for those without one, which no limit for a key concerns.

    `ready` says in which priorities it stands among those whose turn comes, `wakes_at` when it is looked at again.
    """

    __slots__ = ("lanes", "limiter", "name", "occupied", "ready", "unstarted", "wakes_at")

    def __init__(self, name: str) -> None:
        self.name = name
        self.lanes: dict[Priority, Lane] = {}
        self.occupied = 0
        self.unstarted = 0
        self.limiter: RateLimiter | None = None
        self.ready: set[Priority] = set()
        self.wakes_at: float | None = None

    def lane(self, priority: Priority) -> Lane:
        """The key's line in this priority."""
        lane = self.lanes.get(priority)
        if lane is None:
            lane = self.lanes[priority] = Lane()
        return lane


class QueueAdmission:
    """One queue. `occupied` counts jobs that are dispatched or run, `unstarted` those of them that have not started."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.settings: QueueSettings = FREE
        self.occupied = 0
        self.unstarted = 0
        self.limiter: RateLimiter | None = None
        self.keys: dict[str, KeyBacklog] = {}
        self.slots = 0
        self._ready: dict[Priority, deque[KeyBacklog]] = {priority: deque() for priority in PRIORITIES}
        self._turn = 0
        self._waking: list[tuple[float, str]] = []
        self._starts = _Rate()
        self.needs_loading: set[tuple[str, Priority]] = set()
        """Admission of which more should be read."""

    def key(self, name: str) -> KeyBacklog:
        """The line of this key, a new one when there is none."""
        backlog = self.keys.get(name)
        if backlog is None:
            backlog = self.keys[name] = KeyBacklog(name)
            if name:
                backlog.limiter = limiter_after_change(None, self.settings.rate_per_key)
        return backlog

    def configure(self, settings: QueueSettings) -> None:
        """Other limits hold from now on."""
        self.settings = settings
        self.limiter = limiter_after_change(self.limiter, settings.rate)
        for backlog in self.keys.values():
            if backlog.name:
                backlog.limiter = limiter_after_change(backlog.limiter, settings.rate_per_key)
            self.look(backlog)

    # -- counting ----------------------------------------------------------------------------------------------------

    def occupy(self, backlog: KeyBacklog, *, started: bool) -> None:
        """A job of the key is dispatched, or found to run."""
        self.occupied += 1
        backlog.occupied += 1
        if not started:
            self.unstarted += 1
            backlog.unstarted += 1

    def start(self, backlog: KeyBacklog, at: float, *, was_unstarted: bool) -> None:
        """A job of the key has started."""
        self._starts.count(at)
        if was_unstarted:
            self.unstarted -= 1
            backlog.unstarted -= 1
        for limiter in (self.limiter, backlog.limiter):
            if limiter is not None:
                limiter.started(at)

    def free(self, backlog: KeyBacklog, *, started: bool) -> None:
        """A job of the key is dispatched and runs no more."""
        self.occupied -= 1
        backlog.occupied -= 1
        if not started:
            self.unstarted -= 1
            backlog.unstarted -= 1
        self.look(backlog)

    def look(self, backlog: KeyBacklog) -> None:
        """The key may have something that may be dispatched: its turn comes."""
        for priority, lane in backlog.lanes.items():
            if lane and priority not in backlog.ready:
                backlog.ready.add(priority)
                self._ready[priority].append(backlog)

    def forget_if_idle(self, backlog: KeyBacklog, now: float) -> bool:
        """Forget a key that has nothing to tell any more; whether it was forgotten."""
        if backlog.occupied or backlog.ready or any(backlog.lanes.values()):
            return False
        if backlog.limiter is not None and not backlog.limiter.idle(now):
            return False
        self.keys.pop(backlog.name, None)
        return True

    # -- deciding ----------------------------------------------------------------------------------------------------

    def capacity_left(self, now: float) -> int:
        """How many jobs may be dispatched now, whatever their keys say."""
        settings = self.settings
        if settings.paused:
            return 0
        capacity_left = self._window(now) - self.unstarted
        if settings.concurrency is not None:
            capacity_left = min(capacity_left, settings.concurrency - self.occupied)
        if self.limiter is not None:
            capacity_left = min(capacity_left, self.limiter.capacity_left(now, self.unstarted))
        return max(0, capacity_left)

    def next_jobs(self, now: float, limit: int) -> Iterator[tuple[str, KeyBacklog, Priority]]:
        """Jobs that may be dispatched, in their turns; each is counted before the next is looked for."""
        while self._waking and self._waking[0][0] <= now:
            backlog = self.keys.get(heapq.heappop(self._waking)[1])
            if backlog is not None:
                backlog.wakes_at = None
                self.look(backlog)
        capacity_left = min(limit, self.capacity_left(now))
        while capacity_left > 0:
            found = self._next(now)
            if found is None:
                return
            job_id, backlog, priority = found
            backlog.lanes[priority].leave(job_id)
            if backlog.lanes[priority].more:
                self.needs_loading.add((backlog.name, priority))
            self.occupy(backlog, started=False)
            capacity_left -= 1
            yield job_id, backlog, priority

    def _next(self, now: float) -> tuple[str, KeyBacklog, Priority] | None:
        self._turn += 1
        for priority in order_of(self._turn):
            ready = self._ready[priority]
            for _ in range(len(ready)):
                backlog = ready.popleft()
                job_id = backlog.lanes[priority].first()
                if job_id is None and backlog.lanes[priority].more:
                    self.needs_loading.add((backlog.name, priority))
                if job_id is None or not self._key_has_capacity(backlog, now):
                    # Back among the ready when something of it ends, its meter has room, or its line was read.
                    backlog.ready.discard(priority)
                    continue
                ready.append(backlog)
                return job_id, backlog, priority
        return None

    def _key_has_capacity(self, backlog: KeyBacklog, now: float) -> bool:
        limit = self.settings.concurrency_per_key
        if limit is not None and backlog.name and backlog.occupied >= limit:
            return False
        if backlog.limiter is None or backlog.limiter.capacity_left(now, backlog.unstarted) > 0:
            return True
        wakes_at = max(now + LEAST_SLEEP_SECONDS, backlog.limiter.next_capacity(now))
        if backlog.wakes_at is None or wakes_at < backlog.wakes_at:
            backlog.wakes_at = wakes_at
            heapq.heappush(self._waking, (wakes_at, backlog.name))
        return False

    def wake_at(self, now: float) -> float | None:
        """When more may be dispatched without anything happening; None: only when something happens."""
        times = [self._waking[0][0]] if self._waking else []
        anybody = any(self._ready.values())
        if anybody and self.limiter is not None and self.limiter.capacity_left(now, self.unstarted) <= 0:
            times.append(max(now + LEAST_SLEEP_SECONDS, self.limiter.next_capacity(now)))
        return min(times, default=None)

    def _window(self, now: float) -> int:
        least = max(WINDOW_LEAST, self.slots)
        return min(WINDOW_MOST, max(least, int(self._starts.per_second(now) * WINDOW_SECONDS)))


class _Rate:
    """Starts a second, of the last quarter of a second or two."""

    __slots__ = ("_before", "_count", "_quarter")

    def __init__(self) -> None:
        self._quarter = 0
        self._count = 0
        self._before = 0

    def count(self, at: float) -> None:
        self._roll(at)
        self._count += 1

    def per_second(self, now: float) -> float:
        self._roll(now)
        return 4.0 * max(self._count, self._before)

    def _roll(self, at: float) -> None:
        quarter = int(at * 4)
        if quarter > self._quarter:
            self._before = self._count if quarter == self._quarter + 1 else 0
            self._quarter, self._count = quarter, 0
