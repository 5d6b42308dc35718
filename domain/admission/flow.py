"""How many attempts of each queue started and ended in the last minute. Pure; instants are seconds since the epoch."""

from __future__ import annotations

from collections import Counter, deque

SLICE_SECONDS = 5
MINUTE_SECONDS = 60


class Flow:
    """Counts in slices of a few seconds, and forgets what is older than a minute."""

    def __init__(self) -> None:
        self._slices: deque[tuple[int, Counter[str], Counter[str]]] = deque()

    def started(self, queue: str, at: float) -> None:
        """An attempt started."""
        self._slice(at)[1][queue] += 1

    def ended(self, queue: str, at: float) -> None:
        """An attempt was over."""
        self._slice(at)[2][queue] += 1

    def per_minute(self, now: float) -> dict[str, tuple[int, int]]:
        """Starts and ends of each queue that had any."""
        oldest = int((now - MINUTE_SECONDS) // SLICE_SECONDS)
        while self._slices and self._slices[0][0] <= oldest:
            self._slices.popleft()
        starts: Counter[str] = Counter()
        ends: Counter[str] = Counter()
        for _, some_starts, some_ends in self._slices:
            starts.update(some_starts)
            ends.update(some_ends)
        return {queue: (starts[queue], ends[queue]) for queue in {*starts, *ends}}

    def _slice(self, at: float) -> tuple[int, Counter[str], Counter[str]]:
        number = int(at // SLICE_SECONDS)
        if not self._slices or self._slices[-1][0] < number:
            self._slices.append((number, Counter(), Counter()))
            while len(self._slices) > MINUTE_SECONDS // SLICE_SECONDS + 1:
                self._slices.popleft()
        return self._slices[-1]
