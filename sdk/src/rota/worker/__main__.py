"""Starts the task process: pipes, streams, signals, the user's modules, then the event loop until told to stop."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
from typing import Any, List, Optional

from rota import telemetry
from rota.worker import messages
from rota.worker.blocking import LoopWatch
from rota.worker.children import free_children, ignore_signals
from rota.worker.lifeline import end_group, tie_to_parent
from rota.worker.loading import load_all
from rota.worker.output import log_by_default, replace_streams
from rota.worker.pipes import Pipes
from rota.worker.runs import RunningTasks

LOAD_FAILED = 3
"""The exit status when no task could be loaded; the executor tries again later."""


def main() -> int:
    """Serve the tasks of the modules and files given as arguments."""
    targets, sys.argv[1:] = sys.argv[1:], []
    read_fd, write_fd = (int(fd) for fd in os.environ.pop("ROTA_TASK_FDS").split(","))
    for fd in (read_fd, write_fd):
        os.set_inheritable(fd, False)
    faulthandler.enable()
    ignore_signals()
    streams = replace_streams()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    process = _Process(loop, read_fd, write_fd)
    free_children(loop, process.pipes, streams)
    tie_to_parent(int(os.environ.pop("ROTA_TASK_PARENT")), read_fd, process.check)
    hello = load_all(targets)
    log_by_default()
    process.serve(hello, threads=int(os.environ.pop("ROTA_TASK_SLOTS")))
    return LOAD_FAILED if hello["error"] and not hello["tasks"] else 0


class _Process:
    def __init__(self, loop: asyncio.AbstractEventLoop, read_fd: int, write_fd: int) -> None:
        self._loop = loop
        self.pipes = Pipes(read_fd, write_fd, loop=loop, received=self._received, closed=end_group)
        self._watch: Optional[LoopWatch] = None
        self._running = False

    def check(self) -> None:
        """Called every second from a thread."""
        if self._watch is not None:
            self._watch.check()

    def serve(self, hello: Any, *, threads: int) -> None:
        """Run what the executor asks for, until it asks for the end."""
        traced = telemetry.wanted() and telemetry.load()
        self._tasks = RunningTasks(self._loop, self.pipes, threads=threads, traced=traced)
        self._watch = LoopWatch(self._loop, self.pipes, self._tasks)
        self.pipes.send_now(messages.encode(["hello", hello]))
        self._running = bool(hello["tasks"]) or not hello["error"]
        self.pipes.listen()
        while self._running:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # of an asyncio task that a task has made
                continue
        telemetry.flush()

    def _received(self, batch: "List[List[Any]]") -> None:
        last = 0
        cancelled = {message[1] for message in batch if message[0] == "cancel"}
        for message in batch:
            kind = message[0]
            if kind == "run":
                last = message[1]
                if last in cancelled:
                    self.pipes.send(messages.encode(["cancelled", last, None]))
                else:
                    self._tasks.start(*message[1:])
            elif kind == "cancel":
                self._tasks.cancel(message[1])
            elif kind == "stop":
                self._running = False
                self._loop.stop()
        if last:
            # Behind the first steps of the tasks that have just been made: if one of them blocks, it is not said.
            self._loop.call_soon(self.pipes.send, f'["started",{last}]')


if __name__ == "__main__":
    sys.exit(main())
