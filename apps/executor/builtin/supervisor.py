"""Runs one command of `shell.run` and ends everything that it has started. A program of the standard library alone.

    supervisor.py STATUS_FD COMMAND [ARGUMENT ...]

It is started as a *child subreaper* (prctl(2)): whatever the command starts stays below it, also a daemon with a
session of its own whose parents have ended. Says on STATUS_FD what happens, a line each: `started PID`, `error TEXT`,
`exit STATUS`, `signal NUMBER`. After the command's end it waits to be told to finish, so that its last output is read.

SIGTERM: finish. The command and all below it get SIGTERM, it has a grace, and what is left is killed. SIGUSR1 (the
executor is gone): kill all at once. Where there is no /proc it knows only the command's process group.
"""

from __future__ import annotations

import os
import signal
import sys
import time

GRACE_SECONDS = 5.0
KILLING_SECONDS = 5.0
PASS_SECONDS = 0.01
HEARD = {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1}


def main(status_fd: int, command: list[bytes]) -> None:
    """Run the command, then wait to be told to finish."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    for number in HEARD:  # what is blocked and ignored would not be waited for
        signal.signal(number, lambda *_: None)
    os.set_inheritable(status_fd, False)
    program = start(status_fd, command)
    let_go_of_pipes()
    ended = False
    told = b"started %d" % program
    while True:
        say(status_fd, told)
        heard = signal.sigwait(HEARD)
        if heard == signal.SIGCHLD:
            told = b""
            if (status := reap(program)) is not None:
                ended, told = True, described(status)
            continue
        if heard == signal.SIGTERM and not ended:
            told = finish_politely(program)
            say(status_fd, told)
        kill_all(program)
        return


def start(status_fd: int, command: list[bytes]) -> int:
    """The command's process, in a session of its own."""
    environment = own_environment()
    program = os.fork()
    if program:
        return program
    try:
        os.setsid()
        for number in HEARD:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(command[0], command, environment)  # noqa: S606 - that no shell reads it is what is wanted
    except OSError as error:
        say(status_fd, b"error " + str(error).encode(errors="replace"))
    finally:
        os._exit(127)


def let_go_of_pipes() -> None:
    """They are the command's: that nobody holds their other end is how its silence is seen."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)
    os.close(nothing)


def own_environment() -> dict[bytes, bytes]:
    """The environment as it was given: Python may have added to it for its own sake (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - nothing is imported that is not needed
            parts = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    return {name: value for name, found, value in (part.partition(b"=") for part in parts) if found}


def say(status_fd: int, line: bytes) -> None:
    """One line to the executor, which may be gone."""
    if line:
        try:
            os.write(status_fd, line.replace(b"\n", b" ") + b"\n")
        except OSError:
            return


def described(status: int) -> bytes:
    """How the command ended."""
    return b"exit %d" % status if status >= 0 else b"signal %d" % -status


def reap(program: int) -> int | None:
    """Take leave of all that has ended; the command's status if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == program:
            found = os.waitstatus_to_exitcode(status)


def finish_politely(program: int) -> bytes:
    """Ask the command and all below it to end, and wait for the command's end as long as its grace lasts."""
    deadline = time.monotonic() + GRACE_SECONDS
    signal_group(program, signal.SIGTERM)
    for pid in below(os.getpid()):
        signal_one(pid, signal.SIGTERM)
    while (left := deadline - time.monotonic()) > 0:
        heard = signal.sigtimedwait(HEARD - {signal.SIGTERM}, left)
        if heard is not None and heard.si_signo == signal.SIGUSR1:
            break
        if heard is not None and (status := reap(program)) is not None:
            return described(status)
    return b""


def kill_all(program: int) -> None:
    """Kill what is left, again and again until nothing is: stopped first, so that it starts nothing more."""
    signal_group(program, signal.SIGKILL)
    deadline = time.monotonic() + KILLING_SECONDS
    while (left := below(os.getpid())) and time.monotonic() < deadline:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            killed = [signal_one(pid, number) for pid in left]
        reap(program)
        if not any(killed):
            break  # of other users: they cannot be ended from here
        time.sleep(PASS_SECONDS)
    reap(program)


def below(top: int) -> list[int]:
    """The living processes that descend from this one."""
    children: dict[int, list[int]] = {}
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - as above
    except OSError:
        return []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
                state, parent = file.read().rpartition(b")")[2].split()[:2]  # the name before it may hold anything
        except (OSError, ValueError):
            continue  # ended meanwhile
        if state != b"Z":
            children.setdefault(int(parent), []).append(pid)
    found: list[int] = []
    front = [top]
    while front:
        front = [child for pid in front for child in children.get(pid, ())]
        found += front
    return found


def signal_group(group: int, number: int) -> None:
    """To all of the command's own group."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def signal_one(pid: int, number: int) -> bool:
    """Whether it could be sent."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), [os.fsencode(argument) for argument in sys.argv[2:]])
