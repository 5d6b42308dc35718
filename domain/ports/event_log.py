"""What the rules need from the outside, as roles. Adapters implement these; one contract suite tests each role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from rota_server.domain.ids import Position, Term, Version
from rota_server.domain.log import AppendResult, RawEvent, Recorded, Unit

LAST_VERSION = 2**31 - 1


class EventLog(Protocol):
    """The append-only log. Positions are dense and in commit order; every method may raise Unavailable."""

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        """Commit every unit whose streams are at their expected versions; one answer a unit, in order.

        Units must not share a stream within one call. A unit that is in the log already (same unit id) is
        answered as appended, so a call whose outcome is unknown may simply be repeated.

        Raises:
            NotLeader: a term greater than `fence` is in force; nothing was written.
            Unavailable: nobody knows whether it was written; call again with the same units.
        """

    async def read(self, after: Position, limit: int) -> list[Recorded]:
        """Up to `limit` events that follow position `after`, in order."""

    async def read_raw(self, after: Position, limit: int) -> list[RawEvent]:
        """As `read`, undecoded."""

    async def read_stream_page(
        self, stream_id: UUID, after: int, limit: int, limit_bytes: int | None = None
    ) -> list[RawEvent]:
        """Up to `limit` events of one stream after version `after`, undecoded, in order.

        No more once their data have `limit_bytes`; at least one event, if there are any.
        """

    async def read_changes_page(
        self, stream_id: UUID, after: int, limit: int, limit_bytes: int, upto: int = LAST_VERSION
    ) -> list[RawEvent]:
        """As `read_stream_page` up to version `upto`, but of what `domain.jobs.job` calls reports only the last one.

        Of these a stream may hold very many, and no other one counts.
        """

    async def read_streams_within(
        self, after: Mapping[UUID, int], limit: int, limit_bytes: int
    ) -> dict[UUID, list[Recorded]] | None:
        """The events of several streams after a version of each; streams without any are missing from the answer.

        None when these are more than `limit` events in all, or their data have more than `limit_bytes`.
        """

    async def last_version(self, stream_id: UUID) -> Version:
        """The version of the stream's last event, 0 when there is none."""

    async def last_position(self) -> Position:
        """The position of the last event, 0 for an empty log."""

    async def wait_for_append(self, after: Position, timeout_seconds: float) -> None:
        """Return when something was probably appended behind `after`, at the latest after the timeout."""
