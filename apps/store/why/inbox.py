"""Why a job that a transaction put in is not in the log: it waits for its turn, or it was refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from rota_server.apps.store.http.positions import Positions
from rota_server.domain.errors import NotFound
from rota_server.domain.inbox import Inbox, RejectedItem


class WhyInbox:
    """Explains rows of the inbox."""

    def __init__(self, inbox: Inbox, positions: Positions) -> None:
        self._inbox = inbox
        self._positions = positions

    async def explain(self, item_id: UUID) -> dict[str, Any]:
        """Return the row's state and the reason for it. Raises NotFound, Unavailable."""
        found = await self._inbox.find(item_id)
        if found is None:
            raise NotFound(f"no job {item_id} waits in the inbox or was refused", field="id")
        if isinstance(found, RejectedItem):
            state, reason = "refused", _refusal(found)
        else:
            text = f"A transaction of {found.by} put it in at {_text(found.enqueued_at)}; a store will move it on."
            state, reason = "waiting", {"code": "inbox", "text": text, "by": found.by, "since": found.enqueued_at}
        return {
            "id": item_id,
            "name": None,
            "state": state,
            "reasons": [reason],
            "summary": reason["text"],
            "position": await self._positions.last(),
        }


def _refusal(found: RejectedItem) -> dict[str, Any]:
    problem = orjson.loads(found.problem)
    said = problem.get("detail") or problem.get("title")
    text = (
        f"It was refused at {_text(found.rejected_at)}: {said}. "
        f"`rota inbox retry {found.item.id}` puts it in again, `rota inbox drop` removes it."
    )
    return {"code": "refused", "text": text, "at": found.rejected_at, "by": found.item.by, "problem": problem}


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
