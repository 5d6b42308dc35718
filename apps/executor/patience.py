"""Waits for a server that is away, where what is in hand must not be let go."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rota_server.apps.service import Backoff
from rota_server.domain.errors import Unavailable

log = logging.getLogger("rota.executor")

T = TypeVar("T")


async def until_available(what: str, action: Callable[[], Awaitable[T]]) -> T:
    """The action's answer, however long its server takes to come back; logs once that it waits and that it goes on."""
    try:
        return await action()
    except Unavailable as error:
        log.warning("%s waits: %s", what, error)
    backoff = Backoff()
    while True:
        await backoff.pause()
        try:
            answer = await action()
        except Unavailable:
            continue
        log.info("%s goes on", what)
        return answer
