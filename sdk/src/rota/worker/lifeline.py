"""The task process, and all that it has started, end with the executor. Needs no event loop for that."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from typing import Callable

CHECK_MILLISECONDS = 1000
PR_SET_PDEATHSIG = 1


def tie_to_parent(parent: int, read_fd: int, every_second: "Callable[[], None]") -> None:
    """End this process and its whole group when the executor ends; at once when it has ended already.

    Also calls `every_second()`, from a thread that no task can block.
    """
    if sys.platform == "linux":
        _ask_kernel()
    if os.getppid() != parent:
        end_group()
    threading.Thread(target=_watch, args=(read_fd, every_second), name="rota-lifeline", daemon=True).start()


def _watch(read_fd: int, every_second: "Callable[[], None]") -> None:
    """Wait for the pipe's other end to close, even while the event loop is blocked by a task."""
    poll = select.poll()
    poll.register(read_fd, 0)  # hang-up is reported always; what is to be read is not ours
    while not poll.poll(CHECK_MILLISECONDS):
        every_second()
    end_group()


def _ask_kernel() -> None:
    """For code that never lets go of Python's lock, so that no thread can act: the kernel ends this process.

    But the kernel ends only this process, not its children, so it comes a second later: SIGHUP is handled by libc's own
    alarm(), which takes its number, 1, for the seconds until SIGALRM.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGHUP, ctypes.cast(libc.alarm, ctypes.c_void_p))
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)


def end_group() -> None:
    """End this process and its children, now."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
