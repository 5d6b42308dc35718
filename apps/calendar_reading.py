"""Calendars worked out in a thread beside the loop, one after another: a file of a megabyte takes seconds.

A calendar that is to be kept must be worked out within a bound of time. One that is kept already always is: it was
within that bound, or is of a time before there was one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.calendars import Calendar, parse_calendar

INTAKE_SECONDS = 5.0
"""So long may it take to work a new calendar out, in time of one processor."""


async def read_calendar(
    definition: Mapping[str, Any], name: str = "", *, limit_seconds: float = float("inf")
) -> Calendar:
    """The calendar of this definition. Raises Rejected, also when it takes longer than the limit."""
    left = threading.Event()

    def work() -> Calendar:
        end = time.thread_time() + limit_seconds

        def check() -> None:
            if left.is_set() or time.thread_time() > end:
                raise _GivenUp

        return parse_calendar({**definition, "name": name}, check)

    try:
        return await asyncio.get_running_loop().run_in_executor(_thread(), work)
    except _GivenUp:
        message = f"the calendar takes more than {limit_seconds:g} s to be worked out"
        raise Rejected(message, field="icalendar", code="too-much-work") from None
    finally:
        left.set()


class _GivenUp(Exception):
    """The calendar took too long, or nobody waits for it any more."""


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="calendars")
