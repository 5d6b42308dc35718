"""All lines: which jobs wait for the limits of their queues and keys, and which of them may be dispatched next. Pure.

Events in, decisions out. A job counts against its limits from its dispatch (even before that is in the log) until its
attempt is over, so a limit holds whatever the executors do. Bounded: of each line only the beginning is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from domain.admission.lane import LANE_JOBS, Lane
from domain.admission.queue_admission import KeyLine, QueueLine
from domain.admission.queues import FREE, QueueSettings
from domain.admission.rates import Meter, meter_from
from domain.executors import Abilities
from domain.ids import Position
from domain.jobs.spec import LANE_SEPARATOR, Priority, lane_of

LANE_JOBS_LEAST = 20
HELD_JOBS = 100_000
"""About so many jobs are held in memory, of all lines together."""


class Place(NamedTuple):
    """A job that counts against limits, and where."""

    queue: str
    priority: str
    key: str | None
    started: bool


class LaneLoad(NamedTuple):
    """A line that is to be read from the index behind `after`, at most `limit` jobs."""

    lane: str
    after: Position
    limit: int


class LinesChange(NamedTuple):
    """What changed since the last `take_change`: jobs dispatched and not started, those no more so, meters' states."""

    admitted: dict[str, Place]
    gone: set[str]
    meters: dict[tuple[str, str], dict[str, Any] | None]


class Lines:
    """See the module."""

    def __init__(self) -> None:
        self._queues: dict[str, QueueLine] = {}
        self._places: dict[str, Place] = {}
        self._settled_at: dict[str, Position] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._admitted: dict[str, Place] = {}
        self._gone: set[str] = set()
        self._kept: set[str] = set()
        self._recalls: dict[str, bool] = {}
        self._lanes = 0
        self._passed_over: set[tuple[str, str]] = set()
        self.managed: set[str] = set()
        """Queues whose jobs are all dispatched by the leader."""

    def __bool__(self) -> bool:
        """Whether any job counts against a limit or could."""
        return bool(self._places or self.managed)

    # -- the beginning -----------------------------------------------------------------------------------------------

    def begin(
        self,
        settings: Mapping[str, tuple[QueueSettings, Position]],
        lanes: Iterable[str],
        admitted: Mapping[str, Place],
        running: Mapping[str, Place],
        meters: Mapping[tuple[str, str], Mapping[str, Any]],
    ) -> None:
        """Go on from what a leader kept.

        Settings with the position at which they are known, lines that are not empty, jobs that count, states of meters.
        """
        for name, (found, position) in settings.items():
            self._settled_at[name] = position
            self._apply(name, found)
            self._recalls[name] = False
        for (name, key), state in meters.items():
            self._restore(name, key, state)
        for job_id, place in (*admitted.items(), *running.items()):
            self._add(job_id, place)
        self._kept.update(admitted)
        for text in lanes:
            name, priority, key = text.split(LANE_SEPARATOR)
            queue = self._queue(name)
            line = queue.key(key)
            line.lanes[cast("Priority", priority)] = Lane(more=True)
            self._lanes += 1
            queue.hungry.add((key, cast("Priority", priority)))
            queue.look(line)

    def _restore(self, name: str, key: str, state: Mapping[str, Any]) -> None:
        queue = self._queue(name)
        limit = queue.settings.rate_per_key if key else queue.settings.rate
        if limit is None:
            return
        if key:
            queue.key(key).meter = meter_from(limit, state)
        else:
            queue.meter = meter_from(limit, state)

    # -- what happens ------------------------------------------------------------------------------------------------

    def configure(self, name: str, settings: QueueSettings, position: Position) -> None:
        """The queue has other settings since `position`.

        What is dispatched and not started is to be recalled: it was dispatched under other limits.
        """
        if position <= self._settled_at.get(name, 0):
            return
        self._settled_at[name] = position
        self._apply(name, settings)
        if settings.managed:
            self._recalls[name] = True
        else:
            self._recalls.pop(name, None)

    def _apply(self, name: str, settings: QueueSettings) -> None:
        self._queue(name).configure(settings)
        if settings.managed:
            self.managed.add(name)
        else:
            self.managed.discard(name)

    def join(self, job_id: str, queue: str, priority: str, key: str | None, position: Position) -> None:
        """The job waits in line since `position`."""
        self._drop(job_id)
        found = self._queue(queue)
        line = found.key(key or "")
        lane = line.lanes.get(cast("Priority", priority))
        if lane is None:
            lane = line.lane(cast("Priority", priority))
            self._lanes += 1
        lane.join(job_id, position, self._lane_jobs())
        if lane.more:
            found.hungry.add((line.name, cast("Priority", priority)))
        found.look(line)

    def leave(self, job_id: str, queue: str, priority: str, key: str | None) -> None:
        """The job was cancelled, has expired or was given another time, in line or dispatched."""
        self._drop(job_id)
        found = self._queues.get(queue)
        line = None if found is None else found.keys.get(key or "")
        if line is not None and (lane := line.lanes.get(cast("Priority", priority))) is not None:
            lane.leave(job_id)

    def pass_over(self, job_id: str, queue: str, task: str) -> None:
        """The job that was just admitted can run nowhere: its task is not known. It counts no more, and stays in line.

        Only the task is kept: its jobs are read again from the index once `look_again` says so.
        """
        self._drop(job_id)
        self._passed_over.add((queue, task))

    def look_again(self, abilities: Abilities) -> set[str]:
        """Queues whose lines are to be read anew (see `reread`): a task that was passed over there may run now."""
        found = {(queue, task) for queue, task in self._passed_over if not abilities.lacks(queue, task)}
        self._passed_over -= found
        return {queue for queue, _ in found}

    def reread(self, queues: set[str], lanes: Iterable[str]) -> None:
        """Begin these queues' lines anew from the index, of which these lines are not empty."""
        for text in lanes:
            name, priority, key = text.split(LANE_SEPARATOR)
            if name not in queues:
                continue
            queue = self._queue(name)
            line = queue.key(key)
            self._lanes += cast("Priority", priority) not in line.lanes
            line.lane(cast("Priority", priority)).begin_anew()
            queue.hungry.add((key, cast("Priority", priority)))
            queue.look(line)

    def unstarted(self) -> dict[str, Place]:
        """The jobs that are dispatched and have not started, where the leader alone dispatches."""
        return {j: place for j, place in self._places.items() if not place.started and place.queue in self.managed}

    def dispatched(self, job_id: str, queue: str, priority: str, key: str | None) -> None:
        """The job is on its work stream."""
        known = self._places.get(job_id)
        if known is None:
            if key is None and queue not in self.managed:
                return
            found = self._queue(queue)
            line = found.key(key or "")
            line.lane(cast("Priority", priority)).leave(job_id)
            self._add(job_id, Place(queue, priority, key, started=False))
        if job_id not in self._kept:
            self._admitted[job_id] = self._places[job_id]
        self._gone.discard(job_id)

    def started(self, job_id: str, queue: str, priority: str, key: str | None, at: float) -> None:
        """An attempt of the job runs since `at`."""
        known = self._places.get(job_id)
        if known is None:
            if key is None and queue not in self.managed:
                return
            self._add(job_id, Place(queue, priority, key, started=True))
        found = self._queue(queue)
        line = found.key(key or "")
        found.start(line, at, was_unstarted=known is not None and not known.started)
        if known is not None:
            self._places[job_id] = known._replace(started=True)
            self._forget_admission(job_id)
        if found.meter is not None:
            self._dirty.add((queue, ""))
        if line.meter is not None:
            self._dirty.add((queue, line.name))

    def over(self, job_id: str) -> None:
        """The job's attempt is over: it counts no more."""
        if job_id in self._places:
            self._drop(job_id)

    def _add(self, job_id: str, place: Place) -> None:
        if job_id in self._places:
            return
        queue = self._queue(place.queue)
        queue.occupy(queue.key(place.key or ""), started=place.started)
        self._places[job_id] = place

    def _drop(self, job_id: str) -> None:
        place = self._places.pop(job_id, None)
        if place is None:
            return
        self._forget_admission(job_id)
        queue = self._queue(place.queue)
        queue.free(queue.key(place.key or ""), started=place.started)

    def _forget_admission(self, job_id: str) -> None:
        self._admitted.pop(job_id, None)
        if job_id in self._kept:
            self._gone.add(job_id)

    def _queue(self, name: str) -> QueueLine:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = QueueLine(name)
        return queue

    # -- what follows ------------------------------------------------------------------------------------------------

    def admit(self, now: float, limit: int) -> list[str]:
        """Jobs that may be dispatched now, at most `limit`. They count from now on."""
        admitted: list[str] = []
        for queue in self._queues.values():
            if queue.name in self._recalls:
                continue
            for job_id, line, priority in queue.next_jobs(now, limit - len(admitted)):
                self._places[job_id] = Place(queue.name, priority, line.name or None, started=False)
                admitted.append(job_id)
            if len(admitted) >= limit:
                break
        return admitted

    def wake_at(self, now: float) -> float | None:
        """When more may be dispatched without anything happening; None: only when something happens."""
        times = [at for queue in self._queues.values() if (at := queue.wake_at(now)) is not None]
        return min(times, default=None)

    def loads(self, most: int) -> list[LaneLoad]:
        """Lines to read from the index now, at most so many; each is loading until `loaded` or `unloaded`."""
        wanted: list[LaneLoad] = []
        size = self._lane_jobs()
        for queue in self._queues.values():
            while queue.hungry and len(wanted) < most:
                key, priority = queue.hungry.pop()
                line = queue.keys.get(key)
                lane = None if line is None else line.lanes.get(priority)
                if lane is not None and lane.wants_load(size):
                    wanted.append(LaneLoad(lane_of(queue.name, priority, key), lane.begin_load(), size))
        return wanted

    def _lane_jobs(self) -> int:
        return max(LANE_JOBS_LEAST, min(LANE_JOBS, HELD_JOBS // max(1, self._lanes)))

    def loaded(self, load: LaneLoad, jobs: Sequence[tuple[str, Position]]) -> None:
        """What the index had."""
        queue, line, lane = self._find(load)
        lane.end_load(jobs, complete=len(jobs) < load.limit)
        if lane.more:
            queue.hungry.add((line.name, cast("Priority", load.lane.split(LANE_SEPARATOR)[1])))
        queue.look(line)

    def unloaded(self, load: LaneLoad) -> None:
        """The index could not be read."""
        queue, line, lane = self._find(load)
        lane.fail_load()
        queue.hungry.add((line.name, cast("Priority", load.lane.split(LANE_SEPARATOR)[1])))

    def _find(self, load: LaneLoad) -> tuple[QueueLine, KeyLine, Lane]:
        name, priority, key = load.lane.split(LANE_SEPARATOR)
        queue = self._queue(name)
        line = queue.key(key)
        return queue, line, line.lane(cast("Priority", priority))

    # -- recalling ---------------------------------------------------------------------------------------------------

    def recalls(self) -> Mapping[str, list[str]]:
        """Queues to settle, and those of their jobs to take back that are known to be dispatched and have not started.

        Nothing is admitted to these queues until `recalled`. Where a leader has just begun, what its predecessor
        admitted may stay.
        """
        wanted: dict[str, list[str]] = {name: [] for name in self._recalls}
        if any(self._recalls.values()):
            for job_id, place in self._places.items():
                if not place.started and self._recalls.get(place.queue):
                    wanted[place.queue].append(job_id)
        return wanted

    def recall(self, name: str) -> None:
        """Have the queue settled anew; what is known to be dispatched may stay."""
        self._recalls.setdefault(name, False)

    def recalled(self, name: str) -> None:
        """Everything was recalled."""
        self._recalls.pop(name, None)

    def counts_against_limits(self, job_id: str) -> bool:
        """Whether the job is known to be dispatched or to run."""
        return job_id in self._places

    def count_running(self, name: str, running: Mapping[str, Place]) -> None:
        """These attempts of the queue run; those that were not counted because it had no limits are from now on."""
        for job_id, place in running.items():
            if place.queue == name:
                self._add(job_id, place)

    # -- keeping -----------------------------------------------------------------------------------------------------

    def take_change(self) -> LinesChange:
        """What a successor has to know since the last time."""
        meters = {place: self._state_of(*place) for place in self._dirty}
        change = LinesChange(self._admitted, self._gone, meters)
        self._kept.difference_update(self._gone)
        self._kept.update(self._admitted)
        self._admitted, self._gone, self._dirty = {}, set(), set()
        return change

    def _state_of(self, name: str, key: str) -> dict[str, Any] | None:
        queue = self._queues.get(name)
        meter: Meter | None = None
        if queue is not None and key:
            line = queue.keys.get(key)
            meter = None if line is None else line.meter
        elif queue is not None:
            meter = queue.meter
        return None if meter is None else meter.state()

    def forget_idle(self, now: float) -> None:
        """Forget keys and queues that have nothing to tell any more."""
        for queue in list(self._queues.values()):
            for line in list(queue.keys.values()):
                if not queue.forget_if_idle(line, now):
                    continue
                self._lanes -= len(line.lanes)
                if line.meter is not None:
                    self._dirty.add((queue.name, line.name))
            if not queue.keys and queue.settings == FREE and queue.name not in self._recalls:
                del self._queues[queue.name]

    # -- looking -----------------------------------------------------------------------------------------------------

    def set_slots(self, slots: Mapping[str, int]) -> None:
        """How many slots the living executors have for each queue."""
        for name, queue in self._queues.items():
            queue.slots = slots.get(name, 0)

    def counts(self, name: str) -> tuple[int, int]:
        """How many jobs of a queue count against its limits, and how many of them have not started."""
        queue = self._queues.get(name)
        return (0, 0) if queue is None else (queue.occupied, queue.unstarted)
