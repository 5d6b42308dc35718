"""Whose turn it is: high priority first, but never only; within a priority the keys take turns. Pure."""

from __future__ import annotations

from rota_server.domain.jobs.spec import PRIORITIES, Priority

NORMAL_EVERY = 8
"""Every so many turns the normal priority comes first ..."""

LOW_EVERY = 32
"""... and every so many the low one, so that nothing waits forever behind what is more urgent."""

_HIGH_FIRST = PRIORITIES
_NORMAL_FIRST: tuple[Priority, ...] = ("normal", "high", "low")
_LOW_FIRST: tuple[Priority, ...] = ("low", "high", "normal")


def order_of(turn: int) -> tuple[Priority, ...]:
    """In which order the priorities are asked in this turn (counted from 1)."""
    if turn % LOW_EVERY == 0:
        return _LOW_FIRST
    return _NORMAL_FIRST if turn % NORMAL_EVERY == 0 else _HIGH_FIRST
