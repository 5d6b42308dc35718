"""What every role's process does: logging, signals, an orderly stop, a non-zero exit on a fatal error."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from typing import Any

from rota_server.domain.errors import Refused, RotaError, Unavailable, WrongSetting
from rota_server.observability import tracing
from rota_server.observability.logs import configure_logging

log = logging.getLogger("rota.service")

WRONG_SETTINGS = 2
"""The exit status that says: starting again will not help, the settings have to change."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP_SECONDS = 20.0
"""How long a process that was told to stop may take, beside what it waits for on purpose (a drain)."""

Main = Callable[[asyncio.Event], Awaitable[None]]


def run_service(name: str, main: Main, *, log_level: str = "INFO", stop_seconds: float = STOP_SECONDS) -> int:
    """Run `main(stop)` until it returns; SIGINT and SIGTERM set `stop`. Answers the exit status.

    Whatever hangs then, the process ends `stop_seconds` after the first of these signals; further ones change nothing.
    """
    configure_logging(name, log_level)
    tracing.configure(name)
    try:
        import uvloop  # noqa: PLC0415 - not on every platform

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    except ImportError:
        factory = asyncio.new_event_loop
    _calm_collector()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(_guarded(name, main, stop_seconds))
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        tracing.shutdown()


def _calm_collector() -> None:
    """Leave what the imports made alone, and look for cycles rarely.

    A full collection walks every object of the libraries: at thousands of jobs a second that was a third of the store's
    time. What the hot paths make is freed by its reference counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _guarded(name: str, main: Main, stop_seconds: float) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked_to_stop() -> None:
        if not stop.is_set():
            stop.set()
            _end_after(stop_seconds, name, loop)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, asked_to_stop)
    status = 0
    try:
        await main(stop)
    except* WrongSetting as group:
        # A mistake in the settings: the message names it, and where in our code it showed is of no interest.
        for error in leaves(group):
            log.error("%s does not start: %s", name, error)  # noqa: TRY400 - on purpose
        status = WRONG_SETTINGS
    except* (RotaError, OSError) as group:
        for error in leaves(group):
            log.error("%s stops: %s", name, error, exc_info=error)  # noqa: TRY400 - each of the group
        status = 1
    if status != WRONG_SETTINGS:
        log.info("%s has stopped", name)
    # The loop gives the signals back when it closes: another one must not break off an orderly end.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    return status


def _end_after(seconds: float, name: str, loop: asyncio.AbstractEventLoop) -> None:
    """End the process after so long, from a thread of its own: what hangs may be the loop itself."""

    def end() -> None:
        left = sorted(task.get_name() for task in asyncio.all_tasks(loop))
        log.error("%s has not stopped within %g s and is ended; unfinished: %s", name, seconds, ", ".join(left))
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors of a group and of the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


class Backoff:
    """Growing pauses with jitter between attempts to reach something: 0.1 s up to `maximum_seconds`."""

    def __init__(self, *, maximum_seconds: float = 5.0) -> None:
        self._maximum_seconds = maximum_seconds
        self._failures = 0

    def succeeded(self) -> None:
        """Start again with the shortest pause."""
        self._failures = 0

    async def pause(self) -> None:
        """Wait the next pause."""
        self._failures += 1
        longest = min(self._maximum_seconds, 0.1 * 2 ** min(self._failures, 10))
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret


async def keep_running(name: str, loop_body: Callable[[], Awaitable[None]]) -> None:
    """Run a loop forever; while a server is gone, try again with growing pauses.

    Only Unavailable is repeated. Anything else ends the process, whose supervisor starts it again. A body that
    ends is begun again after the shortest pause, so that one that has nothing to do cannot starve the others.
    """
    backoff = Backoff()
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await loop_body()
        except Unavailable as error:
            if asyncio.get_running_loop().time() - began > 10:
                backoff.succeeded()
            log.warning("%s waits: %s", name, error)
            await backoff.pause()
        else:
            backoff.succeeded()
            await backoff.pause()


async def run_until(
    stop: asyncio.Event,
    *,
    finish: Callable[[], Awaitable[None]] | None = None,
    keep: Collection[str] = (),
    **services: Coroutine[Any, Any, None],
) -> None:
    """Run the named services side by side until `stop` is set; an error of one ends all and comes through.

    Then `finish()` runs while the services named in `keep` go on.
    """
    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(service, name=name) for name, service in services.items()}
        await stop.wait()
        for name, task in tasks.items():
            if name not in keep:
                task.cancel()
        if finish is not None:
            await finish()
        for task in tasks.values():
            task.cancel()


async def until_done(name: str, action: Callable[[], Awaitable[Any]]) -> None:
    """Do something once, however long its server takes to come."""
    backoff = Backoff()
    while True:
        try:
            await action()
        except Unavailable as error:
            log.warning("%s waits: %s", name, error)
            await backoff.pause()
        else:
            return


async def admitted(stop: asyncio.Event, *servers: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Talk to each server once, before anything else is begun. One that is away is no reason not to start.

    Raises:
        WrongSetting: a server does not want us.
    """
    for prove in servers:
        try:
            await unless_stopped(stop, prove())
        except Refused as error:
            raise WrongSetting(str(error)) from error
        except Unavailable as error:
            log.warning("starting all the same: %s", error)


async def unless_stopped(stop: asyncio.Event, action: Coroutine[Any, Any, None]) -> None:
    """Wait for the action, but not beyond the wish to stop."""
    acting, stopping = asyncio.ensure_future(action), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([acting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if acting.done():
            acting.result()
    finally:
        acting.cancel()
        stopping.cancel()
        await asyncio.gather(acting, stopping, return_exceptions=True)
