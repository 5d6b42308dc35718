"""What a leader does besides the core: limits, dependencies, schedules, triggers ... One extension each.

An extension sees events through the state it is attached to, decides in its own loop, and writes under the leader's
term. What it knows beyond that it can lose at any moment: a new leader begins again from the log and the tables.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from rota_server.apps.scheduler.decision_writer import DecisionWriter
from rota_server.apps.scheduler.parts import SchedulerParts
from rota_server.domain.ids import Position, Term
from rota_server.domain.leader_state import LeaderState


@dataclass(frozen=True, slots=True, kw_only=True)
class TermContext:
    """What an extension works with under one term.

    `caught_up` is set once the state knows everything that was written before this term: earlier nothing may be decided
    that depends on counts.
    """

    state: LeaderState
    carries_out: DecisionWriter
    parts: SchedulerParts
    term: Term
    node: str
    caught_up: asyncio.Event


class Extension(Protocol):
    """One part of what a leader does."""

    name: str

    async def run(self) -> None:
        """Do it forever. After Unavailable it is called again; anything else ends the leadership."""

    async def settled(self, position: Position) -> None:
        """Return once all events up to `position`, which the state knows, are followed by all they must lead to.

        The leader's checkpoint moves to `position` only then, so what a dead leader had not done its successor does.
        """
