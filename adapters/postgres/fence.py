"""The term of leadership in force: what makes an old leader's decisions impossible."""

from __future__ import annotations

from sqlalchemy import text

from rota_server.adapters.postgres.connection import Database
from rota_server.domain.errors import NotLeader
from rota_server.domain.ids import Term


class PostgresFence:
    """The port Fence. `rota_append` compares with the term in force in the transaction that writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def current(self) -> Term:
        """The term in force, 0 before the first."""
        async with self._database.begin() as connection:
            return Term((await connection.execute(text("select term from leadership"))).scalar() or 0)

    async def enter(self, term: Term, node: str) -> None:
        """See the port."""
        async with self._database.begin() as connection:
            entered = (
                await connection.execute(text("select rota_enter_term(:term, :node)"), {"term": term, "node": node})
            ).scalar_one()
        if not entered:
            current = await self.current()
            raise NotLeader(
                f"its term {term} is not greater than {current}, which is in force. Should the coordination service "
                "have lost its data, or be another one: stop all schedulers, then `rota migrate --reset-term`",
                own_term=term,
                current_term=current,
            )
