"""What tasks printed, in parts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """A piece of an attempt's output; `part` numbers the pieces of an attempt from 1."""

    job_id: UUID
    attempt: int
    part: int
    stream: str
    text: str
    at: datetime | None = None
