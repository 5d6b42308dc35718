"""How many connections to PostgreSQL each role opens: its pool from here, and what `rota doctor` sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """Of one process.

    `lasting`: those for loops of their own (append, read, search, listen, locks); `direct` of them need a session.
    """

    pool: int
    overflow: int
    lasting: int
    direct: int

    @property
    def most(self) -> int:
        """The greatest number at a time."""
        return self.pool + self.overflow + self.lasting


CONNECTIONS: Mapping[str, Connections] = {
    "store": Connections(pool=8, overflow=4, lasting=6, direct=3),
    "relay": Connections(pool=2, overflow=1, lasting=4, direct=2),
    "scheduler": Connections(pool=4, overflow=4, lasting=5, direct=2),
    "executor": Connections(pool=2, overflow=2, lasting=2, direct=0),
}
