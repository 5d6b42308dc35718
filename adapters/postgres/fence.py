"""The term of leadership in force: what makes an old leader's decisions impossible."""

from __future__ import annotations

from sqlalchemy import text

from adapters.postgres.connection import Database
from domain.errors import NotLeader
from domain.ids import Term


class PostgresFence:
    """Enters and reads terms; `rota_append` compares with it in the same transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def current(self) -> Term:
        """The term in force, 0 before the first."""
        async with self._database.begin() as connection:
            return Term((await connection.execute(text("select term from leadership"))).scalar() or 0)

    async def enter(self, term: Term, node: str) -> None:
        """Put the term in force. Raises NotLeader when it is not greater than the one in force."""
        async with self._database.begin() as connection:
            entered = (
                await connection.execute(text("select rota_enter_term(:term, :node)"), {"term": term, "node": node})
            ).scalar_one()
        if not entered:
            raise NotLeader(f"term {term} is not greater than the one in force", own_term=term)
