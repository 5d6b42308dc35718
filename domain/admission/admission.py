"""All lines: which jobs wait for the limits of their queues and keys, and which of them may be dispatched next. Pure.

Events in, decisions out. A job counts against its limits from its dispatch (even before that is in the log) until its
attempt is over, so a limit holds whatever the executors do. Bounded: of each line only the beginning is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from rota_server.domain.admission.lane import LANE_JOBS, Lane
from rota_server.domain.admission.queue_admission import KeyBacklog, QueueAdmission
from rota_server.domain.admission.queues import FREE, QueueSettings
from rota_server.domain.admission.rates import RateLimiter, limiter_from
from rota_server.domain.executors import Abilities
from rota_server.domain.ids import Position
from rota_server.domain.jobs.spec import LANE_SEPARATOR, Priority, lane_of

LANE_JOBS_LEAST = 20
HELD_JOBS = 100_000
"""About so many jobs are held in memory, of all lines together."""


class AdmittedJob(NamedTuple):
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


class AdmissionChange(NamedTuple):
    """What changed since the last `take_change`: jobs dispatched and not started, those no more so, meters' states."""

    admitted: dict[str, AdmittedJob]
    gone: set[str]
    limiters: dict[tuple[str, str], dict[str, Any] | None]


class Admission:
    """See the module."""

    def __init__(self) -> None:
        self._queues: dict[str, QueueAdmission] = {}
        self._admitted_jobs: dict[str, AdmittedJob] = {}
        self._settled_at: dict[str, Position] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._admitted: dict[str, AdmittedJob] = {}
        self._gone: set[str] = set()
        self._kept: set[str] = set()
        self._recalls: dict[str, bool] = {}
        self._lanes = 0
        self._passed_over: set[tuple[str, str]] = set()
        self.managed: set[str] = set()
        """Queues whose jobs are all dispatched by the leader."""

    def __bool__(self) -> bool:
        """Whether any job counts against a limit or could."""
        return bool(self._admitted_jobs or self.managed)

    # -- the beginning -----------------------------------------------------------------------------------------------

    def begin(
        self,
        settings: Mapping[str, tuple[QueueSettings, Position]],
        lanes: Iterable[str],
        admitted: Mapping[str, AdmittedJob],
        running: Mapping[str, AdmittedJob],
        limiters: Mapping[tuple[str, str], Mapping[str, Any]],
    ) -> None:
        """Go on from what a leader kept.

        Settings with the position at which they are known, lines that are not empty, jobs that count, states of meters.
        """
        for name, (found, position) in settings.items():
            self._settled_at[name] = position
            self._apply(name, found)
            self._recalls[name] = False
        for (name, key), state in limiters.items():
            self._restore(name, key, state)
        for job_id, admitted_job in (*admitted.items(), *running.items()):
            self._add(job_id, admitted_job)
        self._kept.update(admitted)
        for text in lanes:
            name, priority, key = text.split(LANE_SEPARATOR)
            queue = self._queue(name)
            backlog = queue.key(key)
            backlog.lanes[cast("Priority", priority)] = Lane(more=True)
            self._lanes += 1
            queue.needs_loading.add((key, cast("Priority", priority)))
            queue.look(backlog)

    def _restore(self, name: str, key: str, state: Mapping[str, Any]) -> None:
        queue = self._queue(name)
        limit = queue.settings.rate_per_key if key else queue.settings.rate
        if limit is None:
            return
        if key:
            queue.key(key).limiter = limiter_from(limit, state)
        else:
            queue.limiter = limiter_from(limit, state)

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
        backlog = found.key(key or "")
        lane = backlog.lanes.get(cast("Priority", priority))
        if lane is None:
            lane = backlog.lane(cast("Priority", priority))
            self._lanes += 1
        lane.join(job_id, position, self._lane_jobs())
        if lane.more:
            found.needs_loading.add((backlog.name, cast("Priority", priority)))
        found.look(backlog)

    def leave(self, job_id: str, queue: str, priority: str, key: str | None) -> None:
        """The job was cancelled, has expired or was given another time, in line or dispatched."""
        self._drop(job_id)
        found = self._queues.get(queue)
        backlog = None if found is None else found.keys.get(key or "")
        if backlog is not None and (lane := backlog.lanes.get(cast("Priority", priority))) is not None:
            lane.leave(job_id)

    def pass_over(self, job_id: str, queue: str, task: str) -> None:
        """The job that was just admitted can run nowhere: its task is not known. It counts no more, and stays in line.

        Only the task is kept: its jobs are read again from the index once `look_again` says so.
        """
        self._drop(job_id)
        self._passed_over.add((queue, task))

    def look_again(self, abilities: Abilities) -> set[str]:
        """Queues whose lines are to be read again (see `reread`): a task that was passed over there may run now."""
        found = {(queue, task) for queue, task in self._passed_over if not abilities.lacks(queue, task)}
        self._passed_over -= found
        return {queue for queue, _ in found}

    def reread(self, queues: set[str], lanes: Iterable[str]) -> None:
        """Begin these queues' lines again from the index, of which these lines are not empty."""
        for text in lanes:
            name, priority, key = text.split(LANE_SEPARATOR)
            if name not in queues:
                continue
            queue = self._queue(name)
            backlog = queue.key(key)
            self._lanes += cast("Priority", priority) not in backlog.lanes
            backlog.lane(cast("Priority", priority)).begin_anew()
            queue.needs_loading.add((key, cast("Priority", priority)))
            queue.look(backlog)

    def unstarted(self) -> dict[str, AdmittedJob]:
        """The jobs that are dispatched and have not started, where the leader alone dispatches."""
        return {
            j: admitted_job
            for j, admitted_job in self._admitted_jobs.items()
            if not admitted_job.started and admitted_job.queue in self.managed
        }

    def dispatched(self, job_id: str, queue: str, priority: str, key: str | None) -> None:
        """The job is on its work stream."""
        known = self._admitted_jobs.get(job_id)
        if known is None:
            if key is None and queue not in self.managed:
                return
            found = self._queue(queue)
            backlog = found.key(key or "")
            backlog.lane(cast("Priority", priority)).leave(job_id)
            self._add(job_id, AdmittedJob(queue, priority, key, started=False))
        if job_id not in self._kept:
            self._admitted[job_id] = self._admitted_jobs[job_id]
        self._gone.discard(job_id)

    def started(self, job_id: str, queue: str, priority: str, key: str | None, at: float) -> None:
        """An attempt of the job runs since `at`."""
        known = self._admitted_jobs.get(job_id)
        if known is None:
            if key is None and queue not in self.managed:
                return
            self._add(job_id, AdmittedJob(queue, priority, key, started=True))
        found = self._queue(queue)
        backlog = found.key(key or "")
        found.start(backlog, at, was_unstarted=known is not None and not known.started)
        if known is not None:
            self._admitted_jobs[job_id] = known._replace(started=True)
            self._forget_admission(job_id)
        if found.limiter is not None:
            self._dirty.add((queue, ""))
        if backlog.limiter is not None:
            self._dirty.add((queue, backlog.name))

    def over(self, job_id: str) -> None:
        """The job's attempt is over: it counts no more."""
        if job_id in self._admitted_jobs:
            self._drop(job_id)

    def _add(self, job_id: str, admitted_job: AdmittedJob) -> None:
        if job_id in self._admitted_jobs:
            return
        queue = self._queue(admitted_job.queue)
        queue.occupy(queue.key(admitted_job.key or ""), started=admitted_job.started)
        self._admitted_jobs[job_id] = admitted_job

    def _drop(self, job_id: str) -> None:
        admitted_job = self._admitted_jobs.pop(job_id, None)
        if admitted_job is None:
            return
        self._forget_admission(job_id)
        queue = self._queue(admitted_job.queue)
        queue.free(queue.key(admitted_job.key or ""), started=admitted_job.started)

    def _forget_admission(self, job_id: str) -> None:
        self._admitted.pop(job_id, None)
        if job_id in self._kept:
            self._gone.add(job_id)

    def _queue(self, name: str) -> QueueAdmission:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = QueueAdmission(name)
        return queue

    # -- what follows ------------------------------------------------------------------------------------------------

    def admit(self, now: float, limit: int) -> list[str]:
        """Jobs that may be dispatched now, at most `limit`. They count from now on."""
        admitted: list[str] = []
        for queue in self._queues.values():
            if queue.name in self._recalls:
                continue
            for job_id, backlog, priority in queue.next_jobs(now, limit - len(admitted)):
                self._admitted_jobs[job_id] = AdmittedJob(queue.name, priority, backlog.name or None, started=False)
                admitted.append(job_id)
            if len(admitted) >= limit:
                break
        return admitted

    def wake_at(self, now: float) -> float | None:
        """When more may be dispatched without anything happening; None: only when something happens."""
        times = [at for queue in self._queues.values() if (at := queue.wake_at(now)) is not None]
        return min(times, default=None)

    def loads(self, most: int) -> list[LaneLoad]:
        """Admission to read from the index now, at most so many; each is loading until `loaded` or `unloaded`."""
        wanted: list[LaneLoad] = []
        size = self._lane_jobs()
        for queue in self._queues.values():
            while queue.needs_loading and len(wanted) < most:
                key, priority = queue.needs_loading.pop()
                backlog = queue.keys.get(key)
                lane = None if backlog is None else backlog.lanes.get(priority)
                if lane is not None and lane.wants_load(size):
                    wanted.append(LaneLoad(lane_of(queue.name, priority, key), lane.begin_load(), size))
        return wanted

    def _lane_jobs(self) -> int:
        return max(LANE_JOBS_LEAST, min(LANE_JOBS, HELD_JOBS // max(1, self._lanes)))

    def loaded(self, load: LaneLoad, jobs: Sequence[tuple[str, Position]]) -> None:
        """What the index had."""
        queue, backlog, lane = self._find(load)
        lane.end_load(jobs, complete=len(jobs) < load.limit)
        if lane.more:
            queue.needs_loading.add((backlog.name, cast("Priority", load.lane.split(LANE_SEPARATOR)[1])))
        queue.look(backlog)

    def unloaded(self, load: LaneLoad) -> None:
        """The index could not be read."""
        queue, backlog, lane = self._find(load)
        lane.fail_load()
        queue.needs_loading.add((backlog.name, cast("Priority", load.lane.split(LANE_SEPARATOR)[1])))

    def _find(self, load: LaneLoad) -> tuple[QueueAdmission, KeyBacklog, Lane]:
        name, priority, key = load.lane.split(LANE_SEPARATOR)
        queue = self._queue(name)
        backlog = queue.key(key)
        return queue, backlog, backlog.lane(cast("Priority", priority))

    # -- recalling ---------------------------------------------------------------------------------------------------

    def recalls(self) -> Mapping[str, list[str]]:
        """Queues to settle, and those of their jobs to take back that are known to be dispatched and have not started.

        Nothing is admitted to these queues until `recalled`. Where a leader has just begun, what its predecessor
        admitted may stay.
        """
        wanted: dict[str, list[str]] = {name: [] for name in self._recalls}
        if any(self._recalls.values()):
            for job_id, admitted_job in self._admitted_jobs.items():
                if not admitted_job.started and self._recalls.get(admitted_job.queue):
                    wanted[admitted_job.queue].append(job_id)
        return wanted

    def recall(self, name: str) -> None:
        """Have the queue settled again; what is known to be dispatched may stay."""
        self._recalls.setdefault(name, False)

    def recalled(self, name: str) -> None:
        """Everything was recalled."""
        self._recalls.pop(name, None)

    def counts_against_limits(self, job_id: str) -> bool:
        """Whether the job is known to be dispatched or to run."""
        return job_id in self._admitted_jobs

    def count_running(self, name: str, running: Mapping[str, AdmittedJob]) -> None:
        """These attempts of the queue run; those that were not counted because it had no limits are from now on."""
        for job_id, admitted_job in running.items():
            if admitted_job.queue == name:
                self._add(job_id, admitted_job)

    # -- keeping -----------------------------------------------------------------------------------------------------

    def take_change(self) -> AdmissionChange:
        """What a successor has to know since the last time."""
        limiters = {admitted_job: self._state_of(*admitted_job) for admitted_job in self._dirty}
        change = AdmissionChange(self._admitted, self._gone, limiters)
        self._kept.difference_update(self._gone)
        self._kept.update(self._admitted)
        self._admitted, self._gone, self._dirty = {}, set(), set()
        return change

    def _state_of(self, name: str, key: str) -> dict[str, Any] | None:
        queue = self._queues.get(name)
        limiter: RateLimiter | None = None
        if queue is not None and key:
            backlog = queue.keys.get(key)
            limiter = None if backlog is None else backlog.limiter
        elif queue is not None:
            limiter = queue.limiter
        return None if limiter is None else limiter.state()

    def forget_idle(self, now: float) -> None:
        """Forget keys and queues that have nothing to tell any more."""
        for queue in list(self._queues.values()):
            for backlog in list(queue.keys.values()):
                if not queue.forget_if_idle(backlog, now):
                    continue
                self._lanes -= len(backlog.lanes)
                if backlog.limiter is not None:
                    self._dirty.add((queue.name, backlog.name))
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
