"""Which workflows and batches have to be looked at. A pure state machine over the feed.

Of each group of which a job has ended it knows how many jobs were unended when that was last counted, and counts down.
Only at zero the group is counted again: a job that ended before the count, or runs again, brings that too early, never
too late, and then the count begins again. So a batch of ten thousand jobs is counted about twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

CANCEL_REPEAT = timedelta(seconds=2)
"""When the jobs of a group that is being cancelled are gone through again."""

FOREIGN_LIMIT = 200_000
"""Origins that are known to be no groups; when there are more all are forgotten, and learned again."""


class WorkflowWatch:
    """Ids are the texts of the feed."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}
        self._foreign: set[str] = set()
        self._touched: dict[str, None] = {}
        self._cancelling: dict[str, datetime] = {}

    # -- what happens ------------------------------------------------------------------------------------------------

    def job_ended(self, origin: str) -> None:
        """A job that this made has ended."""
        if origin in self._foreign:
            return
        left = self._left.get(origin)
        if left is None or left <= 1:
            self._touched[origin] = None
        else:
            self._left[origin] = left - 1

    def touch(self, workflow: str) -> None:
        """The group has to be looked at: a job of it runs again, or its end was asked for."""
        if workflow not in self._foreign:
            self._touched[workflow] = None

    # -- what is known of them ---------------------------------------------------------------------------------------

    def foreign(self, origins: Iterable[str]) -> None:
        """These are no workflows and no batches."""
        if len(self._foreign) > FOREIGN_LIMIT:
            self._foreign.clear()
        self._foreign.update(origins)

    def counted(self, workflow: str, unended: int) -> None:
        """The group goes on with so many unended jobs."""
        self._left[workflow] = unended

    def over(self, workflow: str) -> None:
        """The group has ended, or is not there."""
        self._left.pop(workflow, None)
        self._cancelling.pop(workflow, None)

    def cancelling(self, workflow: str, now: datetime) -> None:
        """Its jobs were gone through now, to cancel them."""
        self._cancelling[workflow] = now

    # -- what is to be done ------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is to be looked at now."""
        return not self._touched

    def take(self, now: datetime, limit: int) -> list[str]:
        """Up to `limit` groups that have to be looked at now."""
        for workflow, at in list(self._cancelling.items()):
            if now - at >= CANCEL_REPEAT:
                del self._cancelling[workflow]
                self._touched[workflow] = None
        taken = list(self._touched)[:limit]
        for workflow in taken:
            del self._touched[workflow]
        return taken
