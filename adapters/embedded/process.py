"""Child processes that do not outlive their parent, and the account that they run under."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send the signal when the parent's thread ends; Linux only.

    It must run after the change of user, which clears it; `subprocess` does so.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), signal_number)

    return ask


def unprivileged_account() -> pwd.struct_passwd | None:
    """The account for servers that refuse to run as root; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody", "daemon"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise OSError("running as root, and there is no account (postgres, nobody, daemon) for PostgreSQL to run under")


def can_reach(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether the account may traverse every directory above `path`."""
    for parent in path.absolute().parents:
        try:
            status = parent.stat()
        except OSError:
            continue
        mode = status.st_mode
        allowed = mode & 0o001
        if status.st_uid == account.pw_uid:
            allowed = mode & 0o100
        elif status.st_gid == account.pw_gid:
            allowed = mode & 0o010
        if not allowed:
            return False
    return True


def spawn(
    argv: Sequence[str | Path],
    *,
    account: pwd.struct_passwd | None = None,
    log: IO[Any] | int | None = None,
    death_signal: int = signal.SIGTERM,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, so that a Ctrl-C at the terminal reaches only its supervisor."""
    identity: dict[str, Any] = {}
    if account is not None:
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return subprocess.Popen(  # noqa: S603 - our own argument vector, no shell
        [str(a) for a in argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log is not None else None,
        start_new_session=True,
        preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509 - the parent has no threads that hold locks here
        cwd=cwd,
        env=env,
        **identity,
    )


def stop(process: subprocess.Popen[bytes], signals: Sequence[tuple[int, float]]) -> None:
    """Send each signal in turn and wait its seconds, until the process has ended."""
    for number, seconds in signals:
        if process.poll() is not None:
            return
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
