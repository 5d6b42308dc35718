"""The scheduler's view of the work streams: how much they hold, and what they provably do not hold. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from rota_server.adapters.redis.connection import Script, translated
from rota_server.adapters.redis.streams import entry_id, position_of, work_stream
from rota_server.domain.ids import Position
from rota_server.domain.messaging import WorkItem

CHECKS_PER_CALL = 2_000
"""A script blocks Redis while it runs: this many look-ups take about 2 ms."""

_missing = Script("missing")


class RedisWorkStreams:
    """The port WorkStreams on one Redis."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def lengths(self, streams: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """How many entries the work stream of each (queue, priority) holds, taken ones included."""
        wanted = list(streams)
        if not wanted:
            return {}
        with translated("count work"):
            async with self._client.pipeline(transaction=False) as pipeline:
                for queue, priority in wanted:
                    pipeline.xlen(work_stream(queue, priority))
                answers = await pipeline.execute(raise_on_error=False)
        return {
            stream: 0 if isinstance(answer, ResponseError) else int(answer)
            for stream, answer in zip(wanted, answers, strict=True)
        }

    async def oldest(self, streams: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Position]:
        """The position of the first entry of each work stream that has any."""
        wanted = list(streams)
        if not wanted:
            return {}
        with translated("look for the oldest work"):
            async with self._client.pipeline(transaction=False) as pipeline:
                for queue, priority in wanted:
                    pipeline.execute_command("XRANGE", work_stream(queue, priority), "-", "+", "COUNT", 1)
                answers = await pipeline.execute(raise_on_error=False)
        return {
            stream: position_of(answer[0][0])
            for stream, answer in zip(wanted, answers, strict=True)
            if isinstance(answer, list) and answer
        }

    async def missing(self, dispatches: Sequence[WorkItem]) -> list[WorkItem]:
        """Those of the dispatches that Redis provably does not hold (any more)."""
        found: list[WorkItem] = []
        for start in range(0, len(dispatches), CHECKS_PER_CALL):
            part = dispatches[start : start + CHECKS_PER_CALL]
            keys: dict[str, int] = {}
            arguments: list[Any] = []
            for item in part:
                index = keys.setdefault(work_stream(item.queue, item.priority), len(keys) + 1)
                arguments += (index, entry_id(item.position))
            with translated("look for work"):
                numbers = await _missing(self._client, list(keys), arguments)
            found += (part[int(number) - 1] for number in numbers)
        return found
