"""Tasks that the tests of task processes run: good ones, and all kinds of bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import datetime as dt
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rota import NoRetry, Retry, TaskCancelled, current_job, task


@task
async def echo(value: Any = None) -> Any:
    return value


@task(queue="slow", timeout=30, priority="low", retry={"max_attempts": 2}, tags={"kind": "test"})
def plain_echo(value: Any, other: int = 1) -> Any:
    return value


@task
async def takes_anything(**values: Any) -> Any:
    return values


@task
async def about_me() -> dict[str, Any]:
    job = current_job()
    in_thread = await asyncio.to_thread(current_job)
    return {
        "id": job.id,
        "attempt": job.attempt,
        "queue": job.queue,
        "tags": dict(job.tags),
        "traceparent": job.traceparent,
        "same_in_thread": in_thread is job,
        "opentelemetry": "opentelemetry" in sys.modules,
    }


@task
def about_process(names: list[str]) -> dict[str, Any]:
    return {
        "environment": {name: os.environ.get(name) for name in names},
        "stdin": sys.stdin.read(),
        "arguments": sys.argv[1:],
        "pid": os.getpid(),
    }


@task
async def talk(name: str, lines: int) -> None:
    for line in range(lines):
        print(name, line)
        await asyncio.sleep(0)
    logging.getLogger("talk").info("%s logs", name)
    sys.stderr.write(f"{name} errs")


@task
def talk_in_thread(name: str, lines: int) -> None:
    for line in range(lines):
        print(name, line)
        time.sleep(0.001)
    sys.stdout.buffer.write(f"{name} in bytes\n".encode())


@task
def run_echo(text: str) -> None:
    subprocess.run(["echo", text], check=True)


@task
def fork_and_print(text: str) -> None:
    child = os.fork()
    if child == 0:
        print(text)
        os._exit(0)
    os.waitpid(child, 0)


@task
async def run_echo_until(text: str, path: str) -> None:
    await asyncio.to_thread(subprocess.run, ["echo", text], check=True)
    while not Path(path).exists():
        await asyncio.sleep(0.01)


@task
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@task
def sleep_in_c(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@task
def spin() -> None:
    print("spinning")
    while True:
        pass


@task
async def spin_on_loop(seconds: float = 3600) -> None:
    print("blocking the loop")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@task
async def spin_in_child_task() -> None:
    await asyncio.gather(spin_on_loop())


@task
async def refuse_to_end() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


@task
def look_at_flag() -> str:
    try:
        while not current_job().cancelled:
            time.sleep(0.01)
    except TaskCancelled:
        pass
    return "ended by itself"


@task
def exit_at_once(status: int, children: int = 0) -> None:
    print("about to exit")
    os._exit(status)


@task
async def segfault() -> None:
    print("about to crash")
    ctypes.string_at(0)


@task
async def fail(kind: str) -> None:
    await asyncio.sleep(0)
    if kind == "value":
        raise ValueError("no such value")
    if kind == "no-retry":
        raise NoRetry("never again")
    if kind == "interrupt":
        raise KeyboardInterrupt
    sys.exit("leaving")


@task(retry_on=(OSError, ValueError), no_retry_on=FileNotFoundError)
def choosy(kind: str) -> None:
    if kind == "chosen":
        raise Retry("the other side is busy", after=dt.timedelta(minutes=1)) from OSError("429")
    raise {"value": ValueError, "missing": FileNotFoundError, "other": KeyError, "system": ConnectionError}[kind](kind)


@task
async def again(after: float | None = None, at: dt.datetime | None = None) -> None:
    raise Retry(after=after, at=at)


@task
def fail_in_thread() -> None:
    sys.exit(3)


@task
async def fail_in_child_task() -> None:
    async def child() -> None:
        raise SystemExit(4)

    await asyncio.create_task(child())


@task
async def cancel_myself() -> None:
    me = asyncio.current_task()
    assert me is not None
    me.cancel()
    await asyncio.sleep(1)


class Broken(dict[str, int]):
    def items(self) -> Any:
        raise SystemExit(5)


@dataclass
class Parcel:
    weight: Decimal
    sent: dt.date


@task
async def typed(parcel: Parcel, labels: set[str], wait: dt.timedelta = dt.timedelta()) -> Any:
    assert isinstance(labels, set)
    return {"total": parcel.weight * 2, "next": parcel.sent + wait, "labels": labels, "raw": b"x"}


@task
async def unusual(kind: str) -> Any:
    values: dict[str, Any] = {
        "object": object(),
        "nan": float("nan"),
        "surrogate": "\ud800",
        "long number": 2**64,
        "one key twice": {1: "a", "1": "b"},
        "items that raise": Broken(),
        "deep": None,
        "tuple": (1, {"a": [2**64 - 1, -(2**63)]}),
    }
    for _ in range(65):
        values["deep"] = [values["deep"]]
    return values[kind]


@task
async def long_text(size: int) -> str:
    return "x" * size


@task
def print_at_once(size: int) -> None:
    print("x" * size, end="")


@task
async def report(times: int) -> None:
    for number in range(times):
        current_job().progress(number / times, f"step {number}")
        await asyncio.sleep(0)
    current_job().progress(1.0, "done")


@task
def report_from_thread(times: int, path: str) -> None:
    for number in range(times):
        current_job().progress(number / times, f"step {number}")
    while not Path(path).exists():
        time.sleep(0.01)


@task
def start_child(path: str) -> None:
    child = subprocess.Popen(["sleep", "3600"])
    Path(path).write_text(f"{os.getpid()} {child.pid}")
    child.wait()


@task
def hold_all(path: str) -> None:
    Path(path).touch()
    threading.Event().wait()


@task
def write_bytes_in_pieces(text: str, rest: str = "") -> None:
    for byte in text.encode():
        sys.stdout.buffer.write(bytes([byte]))
        sys.stdout.flush()
    sys.stdout.buffer.write(rest.encode()[:-1])


@task
def leave_a_thread(path: str) -> None:
    def talk() -> None:
        while not Path(path).exists():
            time.sleep(0.01)
        print("said too late")

    threading.Thread(target=contextvars.copy_context().run, args=(talk,)).start()


@task(cancel_grace=30)
def heed_the_flag() -> str:
    print("begun")
    while not current_job().cancelled:
        time.sleep(0.01)
    return "ended by itself"


@task(cancel_grace=0)
def shielded(path: str) -> str:
    job, said = current_job(), []
    try:
        with job.shield():
            print("begun")
            while not job.cancelled:
                time.sleep(0.01)
            said.append("whole")
            Path(path).write_text(" ".join(said))
        said.append("never")
    finally:
        with job.shield():
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                pass
            Path(path).write_text(" ".join([*said, "cleaned"]))
    return "never"


@task
async def shielded_async(path: str) -> str:
    job = current_job()
    with job.shield():
        print("begun")
        while not job.cancelled:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        Path(path).write_text("whole")
    await asyncio.sleep(3600)
    return "never"


@task(cancel_grace=0)
def shielded_for_ever() -> None:
    with current_job().shield():
        print("begun")
        while True:
            time.sleep(0.01)
