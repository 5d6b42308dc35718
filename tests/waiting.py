"""The one way in which tests wait: for a condition, with a deadline, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

POLL_SECONDS = 0.02


async def until(condition: Callable[[], Any], *, timeout_seconds: float = 60.0, what: str = "the condition") -> Any:
    """The condition's first true value (it may be a coroutine function)."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_seconds} s")
        await asyncio.sleep(POLL_SECONDS)


def until_sync(condition: Callable[[], Any], *, timeout_seconds: float = 60.0, what: str = "the condition") -> Any:
    """As `until`, without an event loop."""
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_seconds} s")
        time.sleep(POLL_SECONDS)
    return value
