"""What travels through the message broker, and the roles that read and write it.

The broker is a transport: everything in it can be lost and comes again from the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from rota_server.domain.ids import Position, Version
from rota_server.domain.log import RawEvent, Recorded


class WorkItem(NamedTuple):
    """One dispatch on a work stream. `position` and `version` are those of the dispatching event.

    `submitted` is the job's first event when that is the dispatch itself, so that it need not be read again.
    """

    queue: str
    priority: str
    job_id: UUID
    version: Version
    position: Position
    submitted: Recorded | None


class WorkQueue(Protocol):
    """An executor's end of the work streams of its queues. Every method may raise Unavailable."""

    async def take(self, free_slots: int) -> list[WorkItem]:
        """At most `free_slots` items; they stay this executor's until `done`.

        Higher priority first, but now and then a lower one, so that it is never starved.
        """

    async def wait(self, timeout_seconds: float) -> None:
        """Return when there may be something to take, at the latest after the timeout. Takes nothing."""

    async def done(self, items: Sequence[WorkItem]) -> None:
        """Acknowledge and delete: each was claimed in the log, or has lost its point."""

    async def park(self, items: Sequence[tuple[WorkItem, str]]) -> None:
        """Leave items to executors that know their tasks; each with its task, "" for one that cannot be read here."""

    async def reclaim(self, limit: int) -> list[WorkItem]:
        """Take over items that another executor took but neither claimed nor dropped for a while.

        Now and then also some that lie parked for long: their jobs may not be queued any more.
        """


class CancelNotice(NamedTuple):
    """A running attempt is to be ended: its cancellation is asked for, or it was declared lost."""

    job_id: UUID
    attempt: int
    executor: str
    reason: str | None


class ControlChannel(Protocol):
    """Requests to the executors about attempts that run."""

    heard_at: float | None
    """When (`time.monotonic`) it was last asked whether there was more, and there was not; None: never yet."""

    def follow(self) -> AsyncIterator[CancelNotice]:
        """All notices from now on; after an outage some may be missing."""


NO_META: Mapping[str, Any] = {}


class FeedEvent(NamedTuple):
    """An event of the feed, its data undecoded beyond JSON: most readers look only at a few fields of a few types."""

    position: Position
    stream_id: str
    version: Version
    type: str
    data: Mapping[str, Any]
    recorded_at: str
    meta: Mapping[str, Any] = NO_META


class FeedBatch(NamedTuple):
    """Events of the log without a gap, from `first` to `last` inclusive."""

    first: Position
    last: Position
    events: list[FeedEvent]


class Feed(Protocol):
    """The log's tail."""

    def follow(self, after: Position) -> AsyncIterator[FeedBatch]:
        """Every event behind `after`, in order and without a gap, in batches, for as long as it is iterated."""


class WorkStreams(Protocol):
    """The scheduler's view of the work streams."""

    async def lengths(self, streams: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """How many entries the work stream of each (queue, priority) holds, taken ones included."""

    async def oldest(self, streams: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Position]:
        """The position of the first entry of each work stream that has any."""

    async def missing(self, dispatches: Sequence[WorkItem]) -> list[WorkItem]:
        """Those of the dispatches that the broker provably does not hold (any more)."""


class Dispatch(NamedTuple):
    """An event that puts its job onto a work stream; `inline`: together with the event itself."""

    queue: str
    priority: str
    inline: bool


Route = Dispatch | CancelNotice | None
"""Where an event goes besides the feed."""


class FeedEnd(NamedTuple):
    """Where the feed ends. `stream_id` and `version` are its last event's, None when that is no longer there."""

    position: Position
    stream_id: UUID | None
    version: Version | None


class Refill(Protocol):
    """The work of a broker that was emptied, on its way back. False: the broker was emptied again; start again."""

    async def add(self, items: Sequence[WorkItem]) -> bool:
        """Put dispatches back, those with the lowest positions first; what is there already stays as it is."""

    async def finish(self, position: Position) -> bool:
        """Let the feed go on after this position."""


class Publisher(Protocol):
    """The relay's end."""

    async def last_published(self) -> Position:
        """The position up to which the feed was published; 0 when the broker knows nothing."""

    async def feed_end(self) -> FeedEnd:
        """As `last_published`, with what is needed to tell whether the feed is this log's."""

    async def publish(self, batch: Sequence[RawEvent], *, expected_last: Position) -> bool:
        """Publish a batch that follows `expected_last`, all of it or nothing.

        False: the feed does not end at `expected_last`; nothing was published.
        """

    async def drop_foreign(self, end: Position) -> bool:
        """Remove what stands in the feed beyond the log's end, if no relay has written it; whether there was any."""

    async def begin_refill(self) -> Refill | None:
        """Start to fill an empty broker; None when it is not empty (any more)."""
