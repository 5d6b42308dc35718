"""What Rota adds to the driver's connection to Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Connection

from rota_server.adapters.redis.connection import PackedConnection


async def test_a_cancellation_that_the_driver_swallows_is_not_lost(monkeypatch: pytest.MonkeyPatch):
    waits = asyncio.Event()

    async def swallows(self: Connection, command: Any, check_health: object = None) -> None:
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return  # as asyncio.wait_for of Python 3.11 when the command has just been sent

    monkeypatch.setattr(Connection, "send_packed_command", swallows)
    task = asyncio.create_task(PackedConnection().send_packed_command([b""]))
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
