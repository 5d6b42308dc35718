"""Interrupts a plain function's thread with TaskCancelled: once, never while it is shielded, never after it has ended.

The exception is raised at the thread's next bytecode, so it may come anywhere in the code below, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
from typing import Iterator, Optional

from rota.errors import TaskCancelled
from rota.worker.pipes import call_in_loop

LOCK_SECONDS = 1.0
"""The event loop waits no longer for the lock: a thread may have been interrupted while it held it."""


class Interrupts:
    """Of one plain function, from before its start to after its end."""

    def __init__(self) -> None:
        self.thread_id: Optional[int] = None
        self.wanted = False
        self._sent = False
        self._shields = 0
        self._lock = threading.Lock()  # held while the thread enters, leaves, or is interrupted

    def enter(self) -> None:
        """Begin, in the function's thread. Raises TaskCancelled when that was wanted already."""
        with self._lock:
            if self.wanted:
                raise TaskCancelled
            self.thread_id = threading.get_ident()

    def leave(self) -> None:
        """End, in the function's thread. Raises TaskCancelled at the latest here, if it was sent."""
        with self._lock:
            self.thread_id = None
        _let_it_come()

    def interrupt(self) -> None:
        """From another thread: raise TaskCancelled in the function, at once or when it is no longer shielded."""
        self.wanted = True
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            return  # what does not end is ended together with its process
        try:
            if self.thread_id is not None and not self._shields and not self._sent:
                self._sent = True
                thread_id, error = ctypes.c_ulong(self.thread_id), ctypes.py_object(TaskCancelled)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, error)
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def shield(self) -> "Iterator[None]":
        """Nothing is raised inside; what was wanted meanwhile comes at the end."""
        self._shields += 1
        try:
            with self._lock:
                pass  # whoever has found no shield has sent it now
            _let_it_come()
        except BaseException:
            self._shields -= 1  # it came before the shield was up
            raise
        try:
            yield
        except BaseException:
            self._shields -= 1
            if self.wanted:
                self.interrupt()
            raise
        self._shields -= 1
        if self.wanted and self._is_mine_to_raise():
            raise TaskCancelled

    def _is_mine_to_raise(self) -> bool:
        """Whether the shield's end is where it comes; in a thread that the function has made, it goes to its own."""
        if self._shields:
            return False
        if threading.get_ident() != self.thread_id:
            self.interrupt()
            return False
        with self._lock:
            mine, self._sent = not self._sent, True
        return mine


class LoopInterrupts:
    """The same for an async function, by its CancelledError; `task` is set when there is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.task: "Optional[asyncio.Task[None]]" = None
        self.wanted = False
        self._loop = loop
        self._sent = False
        self._shields = 0

    def interrupt(self) -> None:
        """On the loop: raise CancelledError at the task's await, at once or when it is no longer shielded."""
        self.wanted = True
        if self.task is not None and not self._shields and not self._sent:
            self._sent = True
            self.task.cancel()

    @contextlib.contextmanager
    def shield(self) -> "Iterator[None]":
        """As Interrupts.shield; what was wanted meanwhile comes at the first await after it."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
            if self.wanted and not self._shields:
                call_in_loop(self._loop, self.interrupt)


def _let_it_come() -> None:
    """Give an exception that was sent to this thread its moment: the interpreter looks for it when a call begins."""
