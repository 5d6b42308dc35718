"""Children that a task forks: with `os.fork`, `multiprocessing`, a `ProcessPoolExecutor`.

A forked child is a copy of the task process without its other threads. It must be an ordinary process: end on SIGTERM,
leave `multiprocessing` with its own exit status, print to the real streams. And it must never be taken for the task
process itself: it may neither speak with the executor nor go on with the event loop, whose epoll object it shares.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import contextlib
import os
import signal
import sys
import threading
from typing import Any

from rota.context import JobContext, current_or_none, set_current
from rota.worker.pipes import Pipes

EXIT_IN_LOOP = 70
"""The exit status of a child that was forked in an async task and has come to an `await` of its own."""


def ignore_signals() -> None:
    """When this process ends is the executor's decision. Not SIG_IGN, which an exec would pass on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignored)


def _ignored(*_: object) -> None:
    """Do nothing."""


def free_children(loop: asyncio.AbstractEventLoop, pipes: Pipes, streams: Any) -> None:
    """Let what is forked from now on be a process of its own; `streams` are the real output and error."""
    ours = sys.stdout, sys.stderr
    loop_thread = threading.get_ident()
    masks = threading.local()

    def before() -> None:
        # One that comes to the child before it has its own dispositions must wait, or it would be ignored.
        masks.old = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        for stream in streams:  # what waits in their buffers would be written twice
            with contextlib.suppress(Exception):
                stream.flush()

    def after_in_child() -> None:
        _default_signals()
        _real_streams(ours, streams)
        pipes.forget()
        # Else threading's end would wait for the pool's threads, of which this one may be one: "cannot join current
        # thread", and every multiprocessing.Process of a plain function ends with 1. Newer Pythons do the same.
        getattr(concurrent.futures.thread, "_threads_queues", {}).clear()
        _leave_job()
        if threading.get_ident() == loop_thread:
            # Comes first in the loop's next turn, should the child ever get there.
            loop.call_soon(_stop_here)
        after()

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.old)

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)


def _default_signals() -> None:
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is _ignored:
            signal.signal(number, default)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # as Python knows it; see lifeline
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _real_streams(ours: Any, real: Any) -> None:
    if sys.stdout is ours[0]:  # not redirected by the task itself
        sys.stdout = real[0]
    if sys.stderr is ours[1]:
        sys.stderr = real[1]


def _leave_job() -> None:
    """The child may still ask what job it belongs to, but says nothing for it."""
    job = current_or_none()
    if job is not None:
        set_current(
            JobContext(
                id=job.id, attempt=job.attempt, task=job.task, queue=job.queue, tags=job.tags,
                traceparent=job.traceparent, results=job.results,
            )
        )  # fmt: skip


def _stop_here() -> None:
    print(  # noqa: T201 - it has nobody else to tell
        "rota: a child that was forked in an async task cannot await anything: use multiprocessing or subprocess",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_IN_LOOP)


def leave_child(error: "BaseException | None") -> None:
    """End a forked child that has come to the end of its task function, as a program would end."""
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        status = 1
        sys.excepthook(type(error), error, error.__traceback__)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status & 0xFF)
