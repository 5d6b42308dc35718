"""Who is there, and who leads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from rota_server.domain.ids import Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A process that is alive as far as the coordination service knows. `info` is what it said of itself."""

    id: str
    role: str
    since: datetime
    info: Mapping[str, Any]


class Registration(Protocol):
    """This process's own entry among the members.

    In doubt is not lost: a server that does not answer for a while may have told nobody that this process is gone.
    """

    @property
    def certain_since(self) -> float | None:
        """Since when (`time.monotonic`) nobody can have taken this process for dead; None when somebody may.

        By this process's own clock, from when it last asked for a proof and got one. It ends before others see the
        entry vanish, and may begin again.
        """

    @property
    def lost(self) -> bool:
        """Whether the entry is known to be gone."""

    async def wait_lost(self) -> None:
        """Return when the registration is lost. It never comes back; register again under another id."""

    async def update(self, info: Mapping[str, Any]) -> None:
        """Replace what this process says of itself."""


class Leadership(Protocol):
    """A won election, valid while `held`."""

    @property
    def term(self) -> Term:
        """Greater than that of every earlier leader; entered in the log's fence already."""

    @property
    def held(self) -> bool:
        """Whether deciding is still allowed, by this process's own monotonic clock. False for good once lost."""

    async def wait_lost(self) -> None:
        """Return when the leadership is lost or no longer certain."""


class Fence(Protocol):
    """The term of leadership in force; the log refuses what carries an older one."""

    async def enter(self, term: Term, node: str) -> None:
        """Put the term in force.

        Raises:
            NotLeader: it is not greater than the one in force.
            Unavailable: nobody knows whether it is in force now.
        """


class Coordination(Protocol):
    """Who leads and who is alive."""

    def elect(self, node: str, info: Mapping[str, Any]) -> AbstractAsyncContextManager[Leadership]:
        """Wait until this node leads; leaving the context gives the lead up.

        A leadership that was lost is never won again: enter a new context.
        """

    def register(self, role: str, member_id: str, info: Mapping[str, Any]) -> AbstractAsyncContextManager[Registration]:
        """Make this process visible among the members of `role` while the context lasts."""

    async def members(self, role: str) -> list[Member]:
        """Who is alive in this role. Raises Unavailable when that cannot be known now."""

    def watch_members(self, role: str) -> AsyncIterator[list[Member]]:
        """The members now and after each change, for as long as it is iterated."""

    async def leader(self) -> Member | None:
        """Who leads now; `info` carries its `term`."""
