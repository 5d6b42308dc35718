"""Notices that a task blocks the event loop, and tells the executor whose fault it is and who has not begun for it."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from typing import Any, Optional

from rota.context import current_or_none
from rota.worker import messages
from rota.worker.pipes import Pipes, call_in_loop
from rota.worker.runs import Run, RunningTasks


class LoopWatch:
    """Asks the loop for a sign of life while attempts run; made on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipes: Pipes, tasks: RunningTasks) -> None:
        self._loop = loop
        self._pipes = pipes
        self._tasks = tasks
        self._thread_id = threading.get_ident()
        self._asked = False
        self._reported = False

    def check(self) -> None:
        """Called every second, from a thread: did the loop answer what was asked a second ago?"""
        if self._asked:
            if not self._reported:
                self._reported = True
                self._report()
        elif self._tasks.running():
            self._asked = True
            call_in_loop(self._loop, self._answer)

    def _answer(self) -> None:
        self._asked = False
        if self._reported:
            self._reported = False
            self._pipes.send('["unblocked"]')

    def _report(self) -> None:
        running = self._tasks.running()
        culprit = _culprit(asyncio.current_task(self._loop), running)
        waiting = [run.key for run in running if run.async_task is not None and not run.begun]
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - documented, the name notwithstanding
        stack = "".join(traceback.format_stack(frame))[-messages.TRACEBACK_LIMIT_CHARS :]
        key = None if culprit is None else culprit.key
        self._pipes.send_around_loop(messages.encode(["blocked", key, self._tasks.last_key, waiting, stack]))


def _culprit(task: "Optional[asyncio.Task[Any]]", running: "list[Run]") -> Optional[Run]:
    for run in running:
        if run.async_task is task and task is not None:
            return run
    if task is not None and sys.version_info >= (3, 12):
        made_by = task.get_context().run(current_or_none)  # an asyncio task that a task has made
        return made_by if isinstance(made_by, Run) else None
    return None
