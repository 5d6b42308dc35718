"""How long a leader has been able to work: what is late because it had much to do is not late. Pure.

A nominal time is late by the time that passed since it *while nobody could have decided it*: before the leader took
office, and while the log was away. A blip of a second therefore makes nothing late by more than a second, and a backlog
of minutes makes nothing late at all.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

GAPS_LIMIT = 1_000
"""Times of absence that are remembered; of more than so many short ones the oldest count as work."""

BEGINNING = datetime.min.replace(tzinfo=UTC)


class Presence:
    """Of one leader. It is present from `began` on."""

    def __init__(self, began: datetime) -> None:
        self._began = began
        self._gaps: list[tuple[datetime, datetime]] = []
        self._away_since: datetime | None = None

    def away(self, since: datetime) -> None:
        """Nothing could be decided since then."""
        if self._away_since is None:
            self._away_since = since

    def back(self, now: datetime) -> None:
        """It can decide again."""
        if self._away_since is None:
            return
        since, self._away_since = self._away_since, None
        if now > since:
            self._gaps = [*self._gaps, (since, now)][-GAPS_LIMIT:]

    def late_until(self, now: datetime, grace: timedelta) -> datetime:
        """The latest nominal time that is late by `grace`; what comes after it is on time."""
        left = grace
        current = [] if self._away_since is None else [(self._away_since, max(now, self._away_since))]
        for begin, end in reversed([(BEGINNING, self._began), *self._gaps, *current]):
            if end - begin >= left:
                return end - left
            left -= end - begin
        return BEGINNING  # not reached: before it began it was away forever
