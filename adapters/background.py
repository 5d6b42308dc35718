"""Work that goes on beside something else, and never ends unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

log = logging.getLogger("rota.background")


@asynccontextmanager
async def beside(name: str, work: Coroutine[Any, Any, None], ended: Callable[[], None]) -> AsyncIterator[None]:
    """Run `work` while the context lasts; `ended()` is called as soon as it is over, however that came.

    An error of the work is logged at once, and comes through when the context is left without another one.
    """

    def over(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s has ended: %r", name, error, exc_info=error)
        ended()

    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(over)
    try:
        yield
    finally:
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(result, Exception):
        raise result
