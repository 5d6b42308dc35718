"""Runs attempts: async tasks on the event loop, plain functions in threads. Knows nothing of pipes and servers.

Every attempt ends with exactly one message, whatever its function raises and wherever it is interrupted.
"""

from __future__ import annotations

import asyncio
import codecs
import concurrent.futures
import contextlib
import contextvars
import os
import sys
import threading
import time
import traceback
from collections import deque
from typing import Any, ContextManager, Deque, Dict, List, Mapping, Optional, Tuple, Union

from rota.context import JobContext, Results, set_current
from rota.errors import Mismatch, TaskCancelled
from rota.tasks import Task, registered
from rota.worker import messages
from rota.worker.children import leave_child
from rota.worker.interrupts import Interrupts, LoopInterrupts
from rota.worker.pipes import Pipes, call_in_loop

PROGRESS_SECONDS = 0.2
OUTPUT_LIMIT_CHARS = 2_000_000
"""More than this of an attempt's output is not even sent; the executor keeps less and says so in the log."""

OUTPUT_PART_CHARS = 16_000

Progress = Tuple[Optional[float], Optional[str]]


class Run(JobContext):
    """One attempt in this process; also what its task sees as `current_job()`."""

    def __init__(
        self,
        tasks: RunningTasks,
        key: int,
        job_id: str,
        attempt: int,
        task: str,
        queue: str,
        tags: "Mapping[str, str]",
        traceparent: Optional[str],
    ) -> None:
        super().__init__(id=job_id, attempt=attempt, task=task, queue=queue, tags=tags, traceparent=traceparent)
        self.key = key
        self.async_task: "Optional[asyncio.Task[None]]" = None
        self.begun = False
        self.interrupts: "Union[Interrupts, LoopInterrupts]" = Interrupts()
        self.progress_sent = 0.0
        self.progress_waiting: Optional[Progress] = None
        self.ended = False
        self._tasks = tasks
        self._printed: "Deque[Tuple[str, str]]" = deque()
        self._room = OUTPUT_LIMIT_CHARS
        self._decoders: "Dict[str, codecs.IncrementalDecoder]" = {}
        self._decoding = threading.RLock()

    def print(self, stream: str, text: str) -> None:
        """Keep what the task prints; whole lines leave at once, so that a crash does not swallow them."""
        if self._room > 0 and text:
            text = text[: self._room]  # a single text may be larger than the memory of the executor
            self._room -= len(text)
            self._printed.append((stream, text))
            if "\n" in text or len(self._printed) > 1000:
                self.flush_output()

    def print_bytes(self, stream: str, data: bytes) -> None:
        """As `print`; what ends within a character waits for the rest of it."""
        with self._decoding:
            decoder = self._decoders.get(stream)
            if decoder is None:
                decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
            text = decoder.decode(data)
        self.print(stream, text)

    def finish_output(self) -> None:
        """Send everything, also the beginning of a character whose rest never came."""
        for stream, decoder in list(self._decoders.items()):
            self.print(stream, decoder.decode(b"", True))
        self.flush_output()

    def flush_output(self) -> None:
        """Send what was printed."""
        parts: "Dict[str, List[str]]" = {}
        with contextlib.suppress(IndexError):  # other threads may take from it, too
            while True:
                stream, text = self._printed.popleft()
                parts.setdefault(stream, []).append(text)
        for stream, texts in parts.items():
            joined = "".join(texts)
            for start in range(0, len(joined), OUTPUT_PART_CHARS):
                part = joined[start : start + OUTPUT_PART_CHARS]
                self._tasks.pipes.send_now(messages.encode(["out", self.key, stream, part]))

    def shield(self) -> "ContextManager[None]":
        """See JobContext."""
        return self.interrupts.shield()

    def _report(self, fraction: Optional[float], message: Optional[str]) -> None:
        first = self.progress_waiting is None
        self.progress_waiting = (fraction, message)
        if first:
            call_in_loop(self._tasks.loop, self._tasks.plan_progress, self)


class RunningTasks:
    """All attempts of this process, by the key that the executor gave them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipes: Pipes, *, threads: int, traced: bool) -> None:
        self.loop = loop
        self.pipes = pipes
        self.last_key = 0
        """Of the attempt that was read last."""
        self._traced = traced
        self._pid = os.getpid()
        self._runs: "Dict[int, Run]" = {}
        self._threads = concurrent.futures.ThreadPoolExecutor(max_workers=threads, thread_name_prefix="task")
        self._context = contextvars.copy_context()
        self._done: "Deque[Tuple[Run, str]]" = deque()
        self._collecting = False

    def start(  # noqa: PLR0913, PLR0917 - the fields of the message
        self,
        key: int,
        job_id: str,
        attempt: int,
        name: str,
        args: "Dict[str, Any]",
        queue: str,
        tags: "Mapping[str, str]",
        traceparent: Optional[str],
        given: "Optional[Tuple[Dict[str, Any], List[str]]]" = None,
    ) -> None:
        """Begin an attempt."""
        self.last_key = key
        run = self._runs[key] = Run(self, key, job_id, attempt, name, queue, tags, traceparent)
        if given is not None:
            run.results = Results(*given)
        found = registered().get(name)
        if found is None:
            message = f"the task process has no task {name}"
            self._finish(run, messages.encode(["fail", key, "UnknownTask", message, None, True]))
        elif found.is_async:
            run.interrupts = interrupts = LoopInterrupts(self.loop)
            run.async_task = interrupts.task = self.loop.create_task(self._run_async(run, found, args))
        else:
            self._threads.submit(self._context.copy().run, self._run_plain, run, found, args)

    def cancel(self, key: int) -> None:
        """Ask an attempt to end: first by its flag, after its task's grace by an exception.

        That is CancelledError in an async task, TaskCancelled in a plain function; it comes once.
        """
        run = self._runs.get(key)
        if run is None or run.cancelled:
            return
        run.cancelled = True
        thread_id = getattr(run.interrupts, "thread_id", None)
        if thread_id is not None:
            frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - documented, the name notwithstanding
            text = "".join(traceback.format_stack(frame))[-messages.TRACEBACK_LIMIT_CHARS :]
            self.pipes.send(messages.encode(["stack", key, text]))
        found = registered().get(run.task)
        grace = 0.0 if found is None or not (thread_id or run.begun) else found.cancel_grace
        if grace > 0:
            self.loop.call_later(grace, run.interrupts.interrupt)
        else:
            run.interrupts.interrupt()

    async def _run_async(self, run: Run, found: "Task[Any, Any]", args: "Dict[str, Any]") -> None:
        run.begun = True
        set_current(run)
        try:
            if self._traced:
                with _span(run):
                    result = await found.function(**_given(found, args))
            else:
                result = await found.function(**_given(found, args))
        except asyncio.CancelledError as error:
            # Nobody awaits this asyncio task: what becomes of the attempt is said by the message.
            self._finish(run, messages.encode(["cancelled", run.key, messages.trace(error)]))
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its attempt's failure
            self._leave_child(error)
            self._finish(run, messages.failure(run.key, error, found, args))
        else:
            self._leave_child(None)
            self._finish(run, messages.success(run.key, result))

    def _run_plain(self, run: Run, found: "Task[Any, Any]", args: "Dict[str, Any]") -> None:
        set_current(run)
        try:
            message = self._call(run, found, args)
        except TaskCancelled as error:
            self._leave_child(error)
            message = messages.encode(["cancelled", run.key, messages.trace(error)])
        self._done.append((run, message))
        if not self._collecting:
            self._collecting = True
            call_in_loop(self.loop, self._collect)

    def _call(self, run: Run, found: "Task[Any, Any]", args: "Dict[str, Any]") -> str:
        """The message about how it came out. Raises TaskCancelled only, and never after it has returned."""
        interrupts = run.interrupts
        assert isinstance(interrupts, Interrupts)  # noqa: S101 - a plain function has these
        try:
            interrupts.enter()
            with _span(run) if self._traced else contextlib.nullcontext():
                result = found.function(**_given(found, args))
            self._leave_child(None)
            return messages.success(run.key, result)
        except TaskCancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            self._leave_child(error)
            return messages.failure(run.key, error, found, args)
        finally:
            interrupts.leave()

    def _leave_child(self, error: Optional[BaseException]) -> None:
        """The function has ended, but in a child that it has forked: that must not go on as if it were this process."""
        if os.getpid() != self._pid:
            leave_child(error)

    def _collect(self) -> None:
        self._collecting = False  # before taking: what is appended from now on calls again
        while self._done:
            self._finish(*self._done.popleft())

    def _finish(self, run: Run, message: str) -> None:
        del self._runs[run.key]
        run.finish_output()
        run.ended = True
        self._send_progress(run)
        self.pipes.send(message)

    def running(self) -> "List[Run]":
        """The attempts of this moment; from any thread."""
        return list(self._runs.values())

    def plan_progress(self, run: Run) -> None:
        """Send a run's latest progress now, or when the last one is old enough."""
        if not run.ended:
            wait = run.progress_sent + PROGRESS_SECONDS - time.monotonic()
            if wait > 0:
                self.loop.call_later(wait, self._send_progress, run)
            else:
                self._send_progress(run)

    def _send_progress(self, run: Run) -> None:
        progress, run.progress_waiting = run.progress_waiting, None
        if progress is not None:
            run.progress_sent = time.monotonic()
            self.pipes.send(messages.encode(["progress", run.key, *progress]))


def _given(found: "Task[Any, Any]", args: "Dict[str, Any]") -> "Dict[str, Any]":
    """The arguments as the task's annotations ask for them. Within the attempt: a model's checks are its own code."""
    try:
        return found.signature.arguments(args)
    except Mismatch as error:
        raise messages.WrongArguments(str(error.within("args"))) from error


def _span(run: Run) -> Any:
    from rota.telemetry import task_span  # noqa: PLC0415 - only when traces are wanted

    return task_span(run)
