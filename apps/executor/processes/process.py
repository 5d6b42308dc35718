"""One task process and the attempts that run in it: their start, timeout, cancellation and outcome.

Decides whom a process's end is to be blamed on. Never starts another process; that is the pool's.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from rota_server.apps.executor.attempts import Cancelled, Lost
from rota_server.apps.executor.processes.channel import TaskChannel
from rota_server.apps.executor.processes.runs import (
    Ending,
    Patience,
    Run,
    crashed,
    describe_status,
    outcome_of,
    timed_out,
)

log = logging.getLogger("rota.executor.tasks")

PROTOCOL = 3
STALLED_SECONDS = 1.0
"""A process that has not begun an attempt for so long gets no others."""

CANCEL_GRACE_LIMIT_SECONDS = 60.0
BLOCK_REPORT_SECONDS = 3.0
"""Within this a process says who blocks it, unless it is blocked so thoroughly that it cannot."""

LEAVE_SECONDS = 10.0
"""A process that was asked to end, and in which nothing runs, is killed after so long."""

LOGGED_CHARS = 2000
ENDED_REMEMBERED = 1000
"""Of so many ended attempts it is known whose late output is."""

STDERR_TAIL_CHARS = 4000
STDERR_TAIL_SECONDS = 5.0


class TaskProcess:
    """A task process from its start to its end. `changed(self)` is called when it may take attempts, or no longer."""

    def __init__(self, patience: Patience, changed: Callable[[TaskProcess], None]) -> None:
        self.runs: dict[int, Run] = {}
        self.tasks: Mapping[str, Any] | None = None
        """The catalogue, once it has loaded its tasks."""
        self.problem: str | None = None
        """Why it could not load them all, or could not start."""
        self.notices: tuple[str, ...] = ()
        """What is odd about them, and no problem."""
        self.files: tuple[str, ...] = ()
        """Where they were loaded from."""
        self.on_trial = False
        """It takes no attempts before the pool has decided to use it."""
        self.retired = False
        """Others have taken its place; it ends once nothing runs there."""
        self.condemned = False
        self.over = asyncio.Event()
        """Set when it is condemned or has ended: another has to take its place."""
        self._patience = patience
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._channel: TaskChannel | None = None
        self._last_key = 0
        self._unread: deque[Run] = deque()
        self._held: list[Run] = []
        self._ended: deque[tuple[int, UUID]] = deque(maxlen=ENDED_REMEMBERED)
        self._begin_timer: asyncio.TimerHandle | None = None
        self._blocked = False
        self._stalled = False
        self._stopping = False
        self._stderr = ""
        self._stderr_at = 0.0

    @property
    def pid(self) -> int | None:
        """Its process id, None before it is started."""
        return None if self._channel is None else self._channel.pid

    @property
    def settled(self) -> bool:
        """Whether it has loaded the tasks, or never will."""
        return self.tasks is not None or self.problem is not None or self.over.is_set()

    @property
    def available(self) -> bool:
        """Whether it takes attempts now."""
        if self._channel is None or self.tasks is None or self.on_trial or self._stopping or self.over.is_set():
            return False
        return not (self._blocked or self._stalled or self._channel.congested)

    async def serve(
        self, argv: Sequence[str], environment: Mapping[str, str], identity: Mapping[str, Any] | None = None
    ) -> None:
        """Start it (under another account, if `identity` has one), and run what it is given until it ends."""
        status = -signal.SIGKILL
        try:
            self._channel = await TaskChannel.start(
                argv,
                environment,
                identity=identity or {},
                received=self._received,
                printed=self._printed_raw,
                writable=lambda: self._changed(self),
            )
            if self._stopping:
                self._channel.kill()
            status = await self._channel.wait()
        except OSError as error:
            self.problem = f"the interpreter {argv[0]} cannot be started: {error}"
        finally:
            self._died(status)
            self.kill()
            self.over.set()
            self._changed(self)

    def start(self, run: Run) -> None:
        """Give it an attempt; it is available. Raises TypeError when the arguments are not JSON."""
        assert self._channel is not None  # noqa: S101 - it is available
        attempt = run.attempt
        key = self._last_key + 1
        given = None if attempt.results is None else [attempt.results, attempt.omitted]
        self._channel.send(
            [
                "run", key, attempt.job_id, attempt.number, attempt.task, attempt.args, attempt.queue, attempt.tags,
                attempt.traceparent, given,
            ]
        )  # fmt: skip
        self._last_key = run.key = key
        run.process = self
        self.runs[key] = run
        self._unread.append(run)
        run.sent_at = self._loop.time()
        if attempt.timeout_seconds is not None:
            run.timer = self._loop.call_at(run.sent_at + attempt.timeout_seconds, self._time_is_up, run)
        if self._begin_timer is None:
            self._begin_timer = self._loop.call_later(STALLED_SECONDS, self._check_begin)

    def end(self, run: Run, why: Ending) -> None:
        """Ask the task to end; when it has not after the grace, the process will. Also if nobody waits any more."""
        has_ended = run.future.done() and not run.future.cancelled()
        if has_ended or run.ending is not None or self._channel is None:
            return
        run.ending = why
        self._channel.send(["cancel", run.key])
        if run.timer is not None:
            run.timer.cancel()
        patience = self._patience.cancel if why == "cancel" else self._patience.timeout
        run.timer = self._loop.call_later(patience + self._grace_of(run), self._condemn)

    def _grace_of(self, run: Run) -> float:
        """For how long the process only warns the task."""
        about = (self.tasks or {}).get(run.attempt.task)
        return 0.0 if about is None else min(about.get("cancel_grace", 0.0), CANCEL_GRACE_LIMIT_SECONDS)

    def stop(self) -> None:
        """Ask it to end by itself when nothing runs there, else kill it."""
        if self.runs or self.tasks is None or self._channel is None:
            self.kill()
        else:
            self._stopping = True
            self._channel.send(["stop"])

    def retire(self) -> None:
        """Take no more attempts, and end by itself after the last one that runs here."""
        self.retired = True
        self.over.set()
        self._leave_if_idle()
        self._changed(self)

    def _leave_if_idle(self) -> None:
        """By what the process says, and not by who waits for it: an attempt may have nobody any more."""
        if self.retired and not self.runs and not self._stopping:
            self.stop()
            self._loop.call_later(LEAVE_SECONDS, self.kill)

    def kill(self) -> None:
        """End it, and everything that it has started, now."""
        self._stopping = True
        if self._channel is not None:
            self._channel.kill()

    # -- time --------------------------------------------------------------------------------------------------------

    def _time_is_up(self, run: Run) -> None:
        """End it; unless it has not begun, for another task blocks the process: then its time is yet to come."""
        run.timer = None
        if run.begun or (run.suspended and not self._blocked):
            self.end(run, "timeout")
            return
        run.suspended = True
        if not self._blocked:
            run.timer = self._loop.call_later(BLOCK_REPORT_SECONDS, self._time_is_up, run)

    def _begin(self, run: Run, since: float) -> None:
        run.begin()
        if run.suspended and run.ending is None and run.attempt.timeout_seconds is not None:
            run.suspended = False
            if run.timer is not None:
                run.timer.cancel()
            run.timer = self._loop.call_at(since + run.attempt.timeout_seconds, self._time_is_up, run)

    def _check_begin(self) -> None:
        """Notice that the process does not begin what it was given; take back what has waited too long."""
        now = self._loop.time()
        self._begin_timer = None
        while self._unread and self._unread[0].future.done():
            self._unread.popleft()
        self._held = [run for run in self._held if not run.future.done()]
        waiting = [*self._held, *self._unread]
        if not waiting:
            return
        self._stalled = bool(self._unread) and now - self._unread[0].sent_at >= STALLED_SECONDS
        for run in waiting:
            if not run.heard and run.attempt.waited_seconds > self._patience.begin:
                self.end(run, "cancel")  # in case that it comes to it after all
                self.runs.pop(run.key, None)
                run.finish(Lost("it did not begin: another attempt blocks its task process"))
        self._begin_timer = self._loop.call_later(STALLED_SECONDS, self._check_begin)

    def _condemn(self) -> None:
        """Something here can be ended only together with the process: no new work, a grace for others, then the end."""
        if self.condemned or self._channel is None:
            return
        self.condemned = True
        self.over.set()
        self._changed(self)
        neighbours = {run.future for run in self.runs.values() if run.ending is None}
        log.warning(
            "a task does not end, so its process will be killed: pid=%d neighbours=%d",
            self._channel.pid,
            len(neighbours),
        )
        if not neighbours or self._blocked:
            self._channel.kill()
            return
        self._loop.call_later(self._patience.neighbours, self._channel.kill)
        for future in neighbours:
            future.add_done_callback(self._kill_when_alone)

    def _kill_when_alone(self, _: object) -> None:
        if all(run.ending is not None for run in self.runs.values()):
            self.kill()

    # -- messages ----------------------------------------------------------------------------------------------------

    def _received(self, messages: list[list[Any]]) -> None:
        for message in messages:
            kind = message[0]
            if kind in ("ok", "fail", "cancelled"):
                self._has_ended(message)
            elif kind == "started":
                self._started(message[1])
            elif kind in ("out", "progress", "stack"):
                run = self.runs.get(message[1])
                if run is not None:
                    run.heard = True
                    _tell(run, message)
                elif kind == "out":
                    self._printed_late(message[1], message[2], message[3])
            elif kind == "hello":
                self._greeted(message[1])
            elif kind == "blocked":
                self._is_blocked(*message[1:])
            elif kind == "unblocked":
                self._is_unblocked()

    def _has_ended(self, message: list[Any]) -> None:
        run = self.runs.pop(message[1], None)
        if run is not None:
            run.begin()
            self._ended.append((run.key, run.attempt.job_id))
            run.finish(outcome_of(run, message))
            self._leave_if_idle()

    def _started(self, last_key: int) -> None:
        now = self._loop.time()
        while self._unread and self._unread[0].key <= last_key:
            self._begin(self._unread.popleft(), now)
        if self._stalled:
            self._stalled = False
            self._changed(self)

    def _is_blocked(self, culprit_key: int | None, last_key: int, unbegun: list[int], stack: str) -> None:
        """A task holds the process's event loop; of those up to `last_key`, `unbegun` could not begin for it."""
        self._blocked = True
        self._started(last_key)
        culprit = self.runs.get(culprit_key) if culprit_key is not None else None
        if culprit is not None:
            log.warning("a task blocks the event loop of its process: task=%s", culprit.attempt.task)
            culprit.stack = stack
            self._begin(culprit, culprit.sent_at)
        self._held = [run for key in unbegun if (run := self.runs.get(key)) is not None]
        for run in self._held:
            run.begun = False
        self._changed(self)

    def _is_unblocked(self) -> None:
        self._blocked = False
        held, self._held = self._held, []
        for run in held:
            if not run.future.done():
                self._begin(run, self._loop.time())
        self._changed(self)

    def _greeted(self, hello: Mapping[str, Any]) -> None:
        self.problem = hello["error"]
        self.notices = tuple(hello.get("notices", ()))
        self.files = tuple(hello.get("files", ()))
        if hello["protocol"] != PROTOCOL:
            self.problem = (
                f"the package rota of the task processes speaks protocol {hello['protocol']}, "
                f"this executor {PROTOCOL}: install the same version in both environments"
            )
            self.kill()
        elif hello["tasks"] or not hello["error"]:
            self.tasks = hello["tasks"]
        self._changed(self)

    def _printed_raw(self, stream: str, text: str) -> None:
        """Output of subprocesses, C code and threads: the job's if there is only one, else for our own log."""
        if stream == "stderr":
            now = self._loop.time()
            recent = self._stderr if now - self._stderr_at < STDERR_TAIL_SECONDS else ""
            self._stderr, self._stderr_at = (recent + text)[-STDERR_TAIL_CHARS:], now
        if len(self.runs) == 1:
            (run,) = self.runs.values()
            run.sink.output(run.attempt, "stderr" if stream == "stderr" else "stdout", text)
        elif text.strip():
            when = " while it loaded the tasks" if self.tasks is None else ""
            log.info("a task process printed on %s%s: %s", stream, when, text.rstrip()[-LOGGED_CHARS:])

    def _printed_late(self, key: int, stream: str, text: str) -> None:
        """Output of a thread whose task has ended: its job's log is written, so it stands in ours."""
        job_id = next((job_id for ended, job_id in self._ended if ended == key), None)
        if text.strip():
            said = text.rstrip()[-LOGGED_CHARS:]
            log.info("job %s printed on %s after its task had ended: %s", job_id, stream, said)

    def _died(self, status: int) -> None:
        stderr = self._stderr if self._loop.time() - self._stderr_at < STDERR_TAIL_SECONDS else ""
        if self.tasks is None and self.problem is None and not self._stopping:
            said = f":\n{stderr}" if stderr else ""
            self.problem = f"the task process ended while it loaded the tasks ({describe_status(status)}){said}"
        suspects = sum(run.begun or run.heard for run in self.runs.values())
        for run in list(self.runs.values()):
            if run.ending == "timeout":
                run.finish(timed_out(run))
            elif run.ending == "cancel":
                run.finish(Cancelled(forced=True))
            elif self.condemned:
                run.finish(Lost("its task process was killed for another attempt's sake"))
            elif self._stopping:
                run.finish(Lost("its task process was stopped"))
            elif suspects and not (run.begun or run.heard):
                run.finish(Lost("its task process ended before it had begun"))
            else:
                run.finish(crashed(status, max(suspects, 1), stderr))
        self.runs.clear()


def _tell(run: Run, message: list[Any]) -> None:
    kind = message[0]
    if kind == "out":
        run.sink.output(run.attempt, "stderr" if message[2] == "stderr" else "stdout", message[3])
    elif kind == "progress":
        run.sink.progress(run.attempt, message[2], message[3])
    else:
        run.stack = message[2]
