"""An executor's slots: how many attempts may be claimed or running at once.

A slot is taken before work is asked for, and free again when the task has ended; that its report is in the log yet is
not waited for. So that results cannot pile up without bound while the log is away, their number is limited, too.
"""

from __future__ import annotations

import asyncio

UNREPORTED_PER_SLOT = 2
"""Attempts that have ended but are not reported may be this many times the slots; then nothing new is taken."""


class Slots:
    """Counts slots; knows nothing of what occupies them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0
        self.unreported = 0
        self._changed = asyncio.Event()

    @property
    def free(self) -> int:
        """Slots that may be taken now."""
        room = self.total * UNREPORTED_PER_SLOT - self.unreported
        return max(0, min(self.total - self.taken, room))

    def take(self, count: int) -> None:
        """Take so many of the free slots."""
        assert count <= self.free, "more slots taken than are free"  # noqa: S101 - the promise of this module
        self.taken += count

    def give_back(self, count: int) -> None:
        """Slots that nothing runs in (any more)."""
        self.taken -= count
        assert self.taken >= 0, "more slots given back than taken"  # noqa: S101
        self._changed.set()

    def ended(self) -> None:
        """A task has ended: its slot is free, its report still to be written."""
        self.unreported += 1
        self.give_back(1)

    def reported(self) -> None:
        """An attempt's report is written, or never will be."""
        self.unreported -= 1
        self._changed.set()

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._changed.set()

    async def wait_change(self) -> None:
        """Return when a slot may have become free."""
        self._changed.clear()
        await self._changed.wait()
