"""Tasks that start processes of their own, in every way that Python has."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rota import current_job, task


def square(number: int) -> int:
    print("child works")
    return number * number


def wait_long() -> None:
    time.sleep(3600)


def _terminated(method: str) -> Any:
    child = multiprocessing.get_context(method).Process(target=wait_long)
    child.start()
    child.terminate()
    child.join(60)
    return child.exitcode


def _ended(method: str) -> Any:
    child = multiprocessing.get_context(method).Process(target=square, args=(3,))
    child.start()
    child.join(60)
    return child.exitcode


def _pool(method: str) -> Any:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, [1, 2, 3])


def _executor(method: str) -> Any:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        return list(executor.map(square, [1, 2, 3]))


WAYS = {"terminate": _terminated, "end": _ended, "pool": _pool, "executor": _executor}


@task
def children_plain(way: str, method: str) -> Any:
    return WAYS[way](method)


@task
async def children_async(way: str, method: str) -> Any:
    return WAYS[way](method)


@task
async def children_to_thread(way: str, method: str) -> Any:
    return await asyncio.to_thread(WAYS[way], method)


@task
def stop_subprocess() -> int:
    with subprocess.Popen(["sleep", "3600"]) as child:
        child.terminate()
        return child.wait()


@task
def fork_and_leave(how: str) -> int:
    child = os.fork()
    if child == 0:
        return _leave(how)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@task
async def fork_and_leave_async(how: str) -> int:
    child = os.fork()
    if child == 0:
        if how == "await":
            await asyncio.sleep(0)
        return _leave(how)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _leave(how: str) -> int:
    current_job().progress(0.5, "said by a child")
    print("printed by", current_job().id)
    if how == "exit":
        sys.exit(7)
    if how == "raise":
        raise ValueError("raised in a child")
    return 1


@task
def pipes_of_a_child(path: str) -> list[str]:
    """What the task process has open and its forked child has, too."""
    child = os.fork()
    if child == 0:
        Path(path).write_text("\n".join(_open_pipes()))
        os._exit(0)
    os.waitpid(child, 0)
    return sorted({*_open_pipes()} - {*Path(path).read_text().splitlines()})


def _open_pipes() -> list[str]:
    links = []
    for fd in range(3, 256):
        try:
            links.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        except FileNotFoundError:
            continue
    return [link for link in links if link.startswith("pipe:")]
