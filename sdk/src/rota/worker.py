"""The task process: runs tasks in the user's own environment, for an executor.

Speaks over two inherited pipes, one JSON array of messages a line; standard output stays the user's. Ends when the
executor ends. Never talks to a server of Rota itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import ctypes
import importlib
import importlib.util
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Tuple

from rota import context as job_context
from rota.errors import TaskCancelled
from rota.tasks import Task, registered

PROTOCOL = 1
RESULT_LIMIT_BYTES = 256 * 1024
TRACEBACK_LIMIT_CHARS = 16_000
PROGRESS_SECONDS = 0.2
OUTPUT_CHUNK_CHARS = 16_000

_job_run: "contextvars.ContextVar[Optional[_Run]]" = contextvars.ContextVar("rota_run", default=None)


class _Run:
    """One attempt in this process."""

    def __init__(self, key: int, context: job_context.JobContext) -> None:
        self.key = key
        self.context = context
        self.future: "Optional[asyncio.Future[Any]]" = None
        self.thread_id: Optional[int] = None
        self.lock = threading.Lock()
        self.pending: "Dict[str, List[str]]" = {}
        self.progress_at = 0.0
        self.progress_held: "Optional[Tuple[Optional[float], Optional[str]]]" = None


class Worker:
    """The process's one object: reads requests, runs tasks, sends outcomes."""

    def __init__(self, read_fd: int, write_fd: int, slots: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._runs: "Dict[int, _Run]" = {}
        self._out: "List[Any]" = []
        self._flush_planned = False
        self._unread = b""
        self._closed = asyncio.Event()
        self._threads = concurrent.futures.ThreadPoolExecutor(max_workers=slots, thread_name_prefix="task")
        os.set_blocking(read_fd, False)

    async def serve(self) -> None:
        """Run until the executor closes the pipe."""
        self._loop.add_reader(self._read_fd, self._readable)
        await self._closed.wait()

    def send(self, message: Any) -> None:
        """Queue a message; all of one turn of the loop travel in one write. Callable from any thread."""
        if threading.get_ident() == self._loop_thread:
            self._out.append(message)
            if not self._flush_planned:
                self._flush_planned = True
                self._loop.call_soon(self._flush)
        else:
            self._loop.call_soon_threadsafe(self.send, message)

    def _flush(self) -> None:
        self._flush_planned = False
        messages, self._out = self._out, []
        if messages:
            view = memoryview(json.dumps(messages, separators=(",", ":")).encode() + b"\n")
            try:
                while view:
                    view = view[os.write(self._write_fd, view) :]
            except OSError:
                os._exit(0)  # the executor is gone

    def _readable(self) -> None:
        try:
            data = os.read(self._read_fd, 1 << 20)
        except BlockingIOError:
            return
        if not data:
            self._closed.set()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            for message in json.loads(line):
                if message[0] == "run":
                    self._start(*message[1:])
                elif message[0] == "cancel":
                    self._cancel(message[1])

    def _start(
        self,
        key: int,
        job_id: str,
        attempt: int,
        name: str,
        args: "Dict[str, Any]",
        queue: str,
        tags: "Dict[str, str]",
        traceparent: Optional[str],
    ) -> None:
        context = job_context.JobContext(
            id=job_id,
            attempt=attempt,
            task=name,
            queue=queue,
            tags=tags,
            traceparent=traceparent,
            report=lambda fraction, message: self._progress(key, fraction, message),
        )
        run = self._runs[key] = _Run(key, context)
        found = registered().get(name)
        if found is None:
            self._finish(run, ["fail", key, "UnknownTask", f"this process has no task {name}", None, True])
        elif found.is_async:
            run.future = self._loop.create_task(self._run_async(run, found, args))
        else:
            run.future = self._loop.run_in_executor(self._threads, self._run_plain, run, found, args)

    async def _run_async(self, run: _Run, found: "Task[Any]", args: "Dict[str, Any]") -> None:
        _job_run.set(run)
        job_context.set_current(run.context)
        try:
            if run.context.traceparent is None or not _traced():
                result = await found.function(**args)
            else:
                with _span(run.context):
                    result = await found.function(**args)
        except asyncio.CancelledError:
            self._finish(run, ["cancelled", run.key])
        except BaseException as error:  # noqa: B902 - whatever a task raises is its attempt's failure
            self._finish(run, _failure(run.key, error))
        else:
            self._finish(run, _success(run.key, result))

    def _run_plain(self, run: _Run, found: "Task[Any]", args: "Dict[str, Any]") -> None:
        contextvars.Context().run(self._run_in_thread, run, found, args)

    def _run_in_thread(self, run: _Run, found: "Task[Any]", args: "Dict[str, Any]") -> None:
        _job_run.set(run)
        job_context.set_current(run.context)
        outcome: "List[Any]"
        try:
            try:
                with run.lock:
                    if run.context.cancel_requested:
                        raise TaskCancelled
                    run.thread_id = threading.get_ident()
                if run.context.traceparent is None or not _traced():
                    result = found.function(**args)
                else:
                    with _span(run.context):
                        result = found.function(**args)
                outcome = _success(run.key, result)
            finally:
                with run.lock:
                    run.thread_id = None
        except TaskCancelled:
            outcome = ["cancelled", run.key]
        except BaseException as error:  # noqa: B902
            outcome = _failure(run.key, error)
        self._loop.call_soon_threadsafe(self._finish, run, outcome)

    def _cancel(self, key: int) -> None:
        run = self._runs.get(key)
        if run is None:
            return
        with run.lock:
            run.context.cancel_requested = True
            if run.thread_id is not None:
                # Raises at the next bytecode of that thread; code that blocks elsewhere is ended by force later.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(run.thread_id), ctypes.py_object(TaskCancelled)
                )
                return
        if isinstance(run.future, asyncio.Task):
            run.future.cancel()

    def _finish(self, run: _Run, outcome: "List[Any]") -> None:
        if self._runs.pop(run.key, None) is None:
            return
        self._flush_output(run)
        if run.progress_held is not None:
            self.send(["progress", run.key, *run.progress_held])
        self.send(outcome)

    def _progress(self, key: int, fraction: Optional[float], message: Optional[str]) -> None:
        run = self._runs.get(key)
        if run is None:
            return
        now = time.monotonic()
        if now - run.progress_at < PROGRESS_SECONDS:
            run.progress_held = (fraction, message)
            return
        run.progress_at, run.progress_held = now, None
        self.send(["progress", key, fraction, message])

    def output(self, run: _Run, stream: str, text: str) -> None:
        """Keep what the run's task has printed; it is sent within this turn of the loop."""
        with run.lock:
            first = not run.pending
            run.pending.setdefault(stream, []).append(text)
        if first:
            self._loop.call_soon_threadsafe(self._flush_output, run)

    def _flush_output(self, run: _Run) -> None:
        with run.lock:
            pending, run.pending = run.pending, {}
        for stream, parts in pending.items():
            text = "".join(parts)
            for start in range(0, len(text), OUTPUT_CHUNK_CHARS):
                self.send(["out", run.key, stream, text[start : start + OUTPUT_CHUNK_CHARS]])


class _Output:
    """Stands for sys.stdout or sys.stderr: text of a task goes to its job's log, other text to the real stream."""

    def __init__(self, worker: Worker, stream: str, real: Any) -> None:
        self._worker = worker
        self._stream = stream
        self._real = real

    def write(self, text: str) -> int:
        run = _job_run.get()
        if run is None:
            return int(self._real.write(text))
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._worker.output(run, self._stream, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if _job_run.get() is None:
            self._real.flush()

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _success(key: int, result: Any) -> "List[Any]":
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return ["fail", key, "ResultNotJson", f"the result can not be written as JSON: {error}", None, False]
    if len(text) > RESULT_LIMIT_BYTES:
        message = f"the result has {len(text)} bytes as JSON; the limit is {RESULT_LIMIT_BYTES}"
        return ["fail", key, "ResultTooLarge", message, None, False]
    return ["ok", key, json.loads(text) if not isinstance(result, (str, int, float, type(None))) else result]


def _failure(key: int, error: BaseException) -> "List[Any]":
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))[-TRACEBACK_LIMIT_CHARS:]
    retryable = not getattr(error, "rota_no_retry", False)
    return ["fail", key, type(error).__name__, str(error)[:4000] or type(error).__name__, text, retryable]


def _traced() -> bool:
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


def _span(context: job_context.JobContext) -> Any:
    """A span around the task, when OpenTelemetry is installed in this environment."""
    from rota import telemetry

    return telemetry.task_span(context)


def load(target: str) -> None:
    """Import a module by name, or a file by path under its stem's name."""
    if target.endswith(".py") or os.sep in target:
        path = os.path.abspath(target)
        name = os.path.splitext(os.path.basename(path))[0]
        sys.path.insert(0, os.path.dirname(path))
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{target} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    else:
        if "" not in sys.path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        importlib.import_module(target)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        parent = int(os.environ.get("ROTA_TASK_PARENT", "0"))
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if parent and os.getppid() != parent:
            os._exit(0)


def _hello(error: Optional[str]) -> "Dict[str, Any]":
    tasks = {}
    for name, found in registered().items():
        tasks[name] = {"options": found.options, "parameters": found.parameters(), "async": found.is_async}
    return {"protocol": PROTOCOL, "python": platform.python_version(), "tasks": tasks, "error": error}


async def _serve(targets: "List[str]", read_fd: int, write_fd: int, slots: int) -> None:
    worker = Worker(read_fd, write_fd, slots)
    sys.stdout = _Output(worker, "stdout", sys.stdout)  # type: ignore[assignment]
    sys.stderr = _Output(worker, "stderr", sys.stderr)  # type: ignore[assignment]
    error = None
    for target in targets:
        try:
            load(target)
        except BaseException as problem:  # noqa: B902 - a module may raise anything while it is imported
            error = f"{target} can not be loaded:\n" + traceback.format_exc()
            if isinstance(problem, KeyboardInterrupt):
                raise
    worker.send(["hello", _hello(error)])
    await worker.serve()


def main() -> None:
    """Serve the modules and files given as arguments over the pipes that ROTA_TASK_FDS names."""
    read_fd, write_fd = (int(fd) for fd in os.environ.pop("ROTA_TASK_FDS").split(","))
    os.set_inheritable(read_fd, False)
    os.set_inheritable(write_fd, False)
    slots = int(os.environ.pop("ROTA_TASK_SLOTS", "32"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is the supervisor's business
    _die_with_parent()
    sys.argv = sys.argv[:1]
    asyncio.run(_serve(TARGETS, read_fd, write_fd, slots))


TARGETS: "List[str]" = []

if __name__ == "__main__":
    # Run as a script this module is `__main__`; the tasks' modules import the real one.
    from rota import worker as _worker

    _worker.TARGETS[:] = sys.argv[1:]
    try:
        _worker.main()
    finally:
        sys.stdout.flush()
        os._exit(0)  # threads that still run user code must not hold the process
