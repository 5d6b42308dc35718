"""What users' own transactions put in, as the store finds it, and the role of the place where it waits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol
from uuid import UUID


class InboxItem(NamedTuple):
    """A job that waits for its way into the log. `args` and `options` are JSON texts, `by` the database's user."""

    id: UUID
    place: int
    task: str
    args: str
    options: str
    by: str
    enqueued_at: datetime


class RejectedItem(NamedTuple):
    """A job that was refused, and the problem document that says why, as JSON text."""

    item: InboxItem
    rejected_at: datetime
    problem: str


class InboxRule(NamedTuple):
    """A role of the database may put in this task for this queue; `*` stands for any characters."""

    role: str
    task: str
    queue: str


WITHOUT_RULES_DENIED = frozenset({"shell.run"})
"""What a role needs a rule for: it would run any program with an executor's rights."""


def allows(rules: Sequence[InboxRule], role: str, task: str, queue: str) -> bool:
    """Whether the role may put in this task for this queue. Without a rule of its own it may, but for `shell.run`."""
    own = [rule for rule in rules if rule.role == role]
    if not own:
        return task not in WITHOUT_RULES_DENIED
    return any(fnmatchcase(task, _plain(rule.task)) and fnmatchcase(queue, _plain(rule.queue)) for rule in own)


def _plain(pattern: str) -> str:
    return pattern.replace("[", "[[]").replace("?", "[?]")


class InboxState(NamedTuple):
    """How many wait, since when the first one does, and how many were refused."""

    waiting: int
    oldest: datetime | None
    rejected: int


class Inbox(Protocol):
    """Where they wait. Every method may raise Unavailable: then it is unknown whether it was done; do it again."""

    async def take(self, after: int, limit: int) -> Sequence[InboxItem]:
        """The first ones behind the place `after`, in order; they stay until they are done or rejected."""

    async def done(self, ids: Sequence[UUID]) -> None:
        """Remove what is in the log."""

    async def reject(self, ids: Sequence[UUID], problems: Sequence[str]) -> None:
        """Put these aside with their problems."""

    async def rules(self) -> Sequence[InboxRule]:
        """What roles may put in."""

    async def state(self) -> InboxState:
        """How full it is."""

    async def rejected(self, after: int, limit: int) -> Sequence[RejectedItem]:
        """Refused ones behind the place `after`, in order."""

    async def find(self, item_id: UUID) -> InboxItem | RejectedItem | None:
        """The one with this id, if it waits or was refused."""

    async def retry(self, item_id: UUID) -> bool:
        """Put a refused one in again, at the end; False when there is none."""

    async def drop(self, item_id: UUID) -> bool:
        """Remove a refused one for good; False when there is none."""


class Bell(Protocol):
    """Wakes who drains the inbox."""

    async def rest(self) -> None:
        """Return when something was put in, soon afterwards, or for no reason. Raises Unavailable."""
