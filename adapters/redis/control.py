"""Requests to executors about attempts that run, as they come. Keeps no place beyond its process."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from uuid import UUID

from redis.asyncio import Redis

from rota_server.adapters.redis.connection import last_id, translated
from rota_server.adapters.redis.streams import CONTROL
from rota_server.adapters.redis.subscription import Entry, subscribed
from rota_server.domain.messaging import CancelNotice

log = logging.getLogger("rota.redis.control")

SILENCE_SECONDS = 2.0
ENTRIES = 100


class RedisControlChannel:
    """The port ControlChannel on one Redis."""

    def __init__(self, client: Redis) -> None:
        self.heard_at: float | None = None
        self._client = client
        self._place: str | None = None

    async def follow(self) -> AsyncIterator[CancelNotice]:
        """All notices from now on. After Unavailable, following again goes on where this ended.

        Raises:
            Unavailable: Redis is away.
        """
        if self._place is None:
            self._place = await self._end()
        while True:
            async with subscribed(self._client, CONTROL, self._place, max_entries=ENTRIES) as subscription:
                silences = 0
                while silences < 2:
                    entries = await subscription.next(SILENCE_SECONDS)
                    for entry in entries:
                        self._place = entry[0].decode()
                        notice = _notice(entry)
                        if notice is not None:
                            yield notice
                    if entries and not self._is_silent():
                        continue
                    asked_at = time.monotonic()
                    end = await self._end()
                    if _order(end) < _order(self._place):
                        # Emptied, or a foreign entry with an id of its own was removed: ours come below our place.
                        self._place = end
                        break
                    if end == self._place:
                        self.heard_at, silences = asked_at, 0
                    elif not entries:
                        # Silent twice in a row with something there: the subscriber is dead.
                        silences += 1

    def _is_silent(self) -> bool:
        return self.heard_at is None or time.monotonic() - self.heard_at >= SILENCE_SECONDS

    async def _end(self) -> str:
        with translated("tell where the control stream ends"):
            return (await last_id(self._client, CONTROL)).decode()


def _order(identity: str) -> tuple[int, ...]:
    return tuple(int(part) for part in identity.split("-"))


def _notice(entry: Entry) -> CancelNotice | None:
    identity, fields = entry
    try:
        reason = fields.get(b"reason")
        return CancelNotice(
            UUID(fields[b"job"].decode()),
            int(fields[b"attempt"]),
            fields[b"executor"].decode(),
            None if reason is None else reason.decode(),
        )
    except (ValueError, LookupError, AttributeError) as error:
        log.warning("an entry %r of the control stream cannot be read: %r", identity, error)
        return None
