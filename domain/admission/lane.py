"""One line of waiting jobs: the first of them in memory, the rest in the index until the line gets short.

Bounded however many jobs wait. The index is read while events go on coming in; a job is never forgotten: what an event
brings while the line is not known to its end is left to a later read.
"""

from __future__ import annotations

from collections.abc import Iterable

from rota_server.domain.ids import Position

LANE_JOBS = 1_000
"""Jobs of one line that are read at once; fewer where there are very many lines."""


class Lane:
    """Jobs in order of arrival. `more`: the index may have further ones behind `tail`."""

    __slots__ = ("_jobs", "_left", "_missed", "loading", "more", "tail")

    def __init__(self, *, more: bool = False) -> None:
        self.more = more
        self.tail = Position(0)
        self.loading = False
        self._missed = False
        self._left: set[str] = set()
        self._jobs: dict[str, Position] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __bool__(self) -> bool:
        return bool(self._jobs) or self.more

    def wants_load(self, size: int) -> bool:
        """Whether the index should be read for what is behind `tail`, `size` jobs at once."""
        return self.more and not self.loading and len(self._jobs) <= size // 4

    def join(self, job_id: str, position: Position, size: int) -> None:
        """The job waits since `position`, says an event. At most about twice `size` jobs are held."""
        self._left.discard(job_id)
        if position <= self.tail:
            return  # a read was ahead of the event
        if self.more or len(self._jobs) >= 2 * size:
            self.more = self._missed = True
            return
        self._jobs[job_id] = position
        self.tail = position

    def leave(self, job_id: str) -> None:
        """The job does not wait any more."""
        self._jobs.pop(job_id, None)
        if self.loading:
            self._left.add(job_id)  # what is being read may not know that

    def begin_load(self) -> Position:
        """The index is about to be read; after which position."""
        self.loading, self._missed = True, False
        return self.tail

    def end_load(self, jobs: Iterable[tuple[str, Position]], *, complete: bool) -> None:
        """Take in what the index has; `complete`: it had no more than that."""
        self.loading = False
        for job_id, position in jobs:
            if position > self.tail:
                self.tail = position
                if job_id not in self._left:
                    self._jobs[job_id] = position
        self._left.clear()
        self.more = self._missed or not complete

    def fail_load(self) -> None:
        """The index could not be read."""
        self.loading = False
        self._left.clear()

    def begin_anew(self) -> None:
        """Forget who is known, and read the index from its beginning."""
        self._jobs.clear()
        self.tail = Position(0)
        self.more = True

    def first(self) -> str | None:
        """Who is next, as far as is known."""
        return next(iter(self._jobs), None)
