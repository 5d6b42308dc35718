"""The event log in PostgreSQL: the one way to write events, and the ways to read them.

Invariants held here: positions are dense; a reader never sees position n before n-1, because an append holds its
lock until its commit is visible. Never skips an event: a gap is Corruption.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from rota_server.adapters.codec import decode
from rota_server.adapters.postgres.append import APPEND, AppendArrays, append_of
from rota_server.adapters.postgres.connection import Database, end
from rota_server.adapters.postgres.errors import translated
from rota_server.domain.errors import Corruption, NotLeader, Unavailable
from rota_server.domain.ids import Position, Term, Version
from rota_server.domain.jobs.job import REPORTS
from rota_server.domain.log import Appended, AppendResult, Conflicted, JobHead, RawEvent, Recorded, Unit
from rota_server.domain.ports.event_log import LAST_VERSION

log = logging.getLogger("rota.postgres.log")

CHANNEL = "rota_log"
POLL_SECONDS = 0.5
MAX_ROUNDS = 20
PARTITIONS_AHEAD = 2
_MAX_VERSION = 2**30

_COLUMNS = "position, stream_id, version, type, recorded_at, data, meta"
_TAIL = f"select {_COLUMNS} from events where position > $1 order by position limit $2"
_STREAM = f"select {_COLUMNS} from events where stream_id = $1 order by version"
_STREAM_PAGE = f"select {_COLUMNS} from events where stream_id = $1 and version > $2 order by version limit $3"
_STREAM_POSITION = "select position from events where stream_id = $1 and version = $2"
_STREAMS = f"select {_COLUMNS} from events where stream_id = any($1::uuid[]) order by stream_id, version"
_STREAMS_WITHIN = f"""
with found as (
    select {", ".join(f"e.{column}" for column in _COLUMNS.split(", "))}
    from unnest($1::uuid[], $2::int[]) as known (id, seen)
    cross join lateral (
        -- Its own limit keeps this to the index: joined freely, the whole log may be read for it.
        select * from events where stream_id = known.id and version > known.seen order by version limit $3 + 1
    ) e
    limit $3 + 1
)
select {_COLUMNS}, whole.events from found cross join (
    select count(*) as events, coalesce(sum(octet_length(data::text)), 0) <= $4 as small from found
) whole
where whole.events <= $3 and whole.small
union all
select null, null, null, null, null, null, null, whole.events from (
    select count(*) as events, coalesce(sum(octet_length(data::text)), 0) <= $4 as small from found
) whole
where whole.events > $3 or not whole.small
order by 2, 3
"""
"""One row without an event says that there is too much."""

_LAST_VERSION = "select coalesce(max(version), 0) from events where stream_id = $1"
_WANTED = "($4::text is null or type = $4) and ($5::text is null or meta->>'correlation_id' = $5)"


def _page(where: str, order: str) -> str:
    """The events after $1, up to $2 of them and until they have $3 bytes; at least one."""
    size = "octet_length(data::text)"
    return f"""
select {_COLUMNS} from (
    select {_COLUMNS}, sum({size}) over (order by {order}) - {size} as bytes_before
    from events where {where} order by {order} limit $2
) page where bytes_before < $3 order by {order}
"""


_STREAM_PAGE_BYTES = _page("version > $1 and stream_id = $4", "version")
_CHANGES_PAGE = _page(
    """version > $1 and version <= $5 and stream_id = $4 and (type <> all($6) or version = (
        select version from events where stream_id = $4 and version <= $5 and type = any($6)
        order by version desc limit 1
    ))""",
    "version",
)
_TAIL_PAGE = _page("position > $1", "position")
_FILTERED = _page(f"position > $1 and {_WANTED}", "position")
_STREAM_FILTERED = _page(f"version > $1 and {_WANTED} and stream_id = $6", "version")
_TYPES = f"""
select {_COLUMNS} from events
where position > $1 and position <= $2 and ($3::text[] is null or type = any($3)) order by position limit $4
"""
_LAST = "select position from events order by position desc limit 1"
_UNITS = """
select e.stream_id, e.position, e.meta, e.recorded_at from events e
join unnest($1::uuid[], $2::int[]) as wanted (stream_id, version) using (stream_id, version)
"""


class PostgresEventLog:
    """The port EventLog on PostgreSQL. One connection appends, one reads, one searches, one listens."""

    def __init__(self, database: Database, *, writer: str | None = None) -> None:
        """Read, and append as a `leader`, `store` or `executor`, whose role in the database may do nothing else."""
        self._append = APPEND if writer is None else append_of(writer)
        self._appender = database.hot()
        self._reader = database.hot()
        self._searcher = database.hot()
        self._database = database
        self._listener: asyncpg.Connection[Any] | None = None
        self._listening_since = 0
        self._listening = asyncio.Lock()
        self._changed = asyncio.Event()
        self._seen = 0
        """Up to where the log is known to go."""

        self._rung = False
        """Whether there was a notification since the log's end was looked up."""

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        """See the port."""
        results: dict[UUID, AppendResult] = {}
        pending = list(units)
        for _ in range(MAX_ROUNDS):
            if not pending:
                break
            arrays = AppendArrays(pending)
            row = await self._call_append(fence, arrays)
            if row["current_term"] is not None:
                raise NotLeader(
                    f"term {fence} is over; {row['current_term']} is in force",
                    own_term=int(fence or 0),
                    current_term=row["current_term"],
                )
            if row["managed"] is not None:
                pending = await self._refuse_managed(pending, set(row["managed"]), results)
                continue
            if row["base"] is not None:
                results.update(zip((u.id for u in pending), arrays.appended(row["base"], row["recorded"]), strict=True))
                pending = []
                break
            if not row["conflicts"] and len(pending) > 1:
                # Two of them want the same name for a new resource: the first one shall have it.
                for unit in pending:
                    (results[unit.id],) = await self.append([unit], fence=fence)
                return [results[unit.id] for unit in units]
            pending = await self._settle(pending, set(row["conflicts"]), results)
        if pending:
            raise Unavailable("the append met new conflicts in every round", server="postgres")
        return [results[unit.id] for unit in units]

    async def _call_append(self, fence: Term | None, arrays: AppendArrays) -> Any:
        try:
            (row,) = await self._appender.fetch(self._append, fence, *arrays.arguments)
        except asyncpg.UniqueViolationError as error:
            # Two positions of one number: another version of the append, which takes another lock, was under way.
            raise Unavailable("the append met another version's", server="postgres") from error
        except asyncpg.UndefinedFunctionError as error:
            if "rota_append_as_" not in str(error):
                raise
            self._append = APPEND  # the schema is an older one, which has this one function for everybody
            return await self._call_append(fence, arrays)
        return row

    async def _settle(self, pending: list[Unit], conflicts: set[UUID], results: dict[UUID, AppendResult]) -> list[Unit]:
        """Answer the units that conflict, as appended when they are in the log already; return the others."""
        losers = [u for u in pending if any(w.stream_id in conflicts for w in u.writes)]
        if not losers:
            raise Corruption("an append was refused without a conflicting stream")
        own = await self._find_units(losers)
        for unit in losers:
            place = own.get(unit.id)
            stream = next(w.stream_id for w in unit.writes if w.stream_id in conflicts)
            results[unit.id] = Conflicted(stream) if place is None else place
        return [u for u in pending if u.id not in results]

    async def _refuse_managed(
        self, pending: list[Unit], queues: set[str], results: dict[UUID, AppendResult]
    ) -> list[Unit]:
        """Answer the units that would dispatch to one of these queues, as appended when they are in the log already."""
        refused = {unit.id: queue for unit in pending if (queue := _dispatches_to(unit, queues)) is not None}
        if not refused:
            raise Corruption("an append was refused although it dispatches to no managed queue")
        losers = [unit for unit in pending if unit.id in refused]
        own = await self._find_units(losers)
        for unit in losers:
            results[unit.id] = own.get(unit.id) or Conflicted(unit.writes[0].stream_id, refused[unit.id])
        return [unit for unit in pending if unit.id not in refused]

    async def _find_units(self, units: Sequence[Unit]) -> dict[UUID, Appended]:
        """Those of the units whose first event is in the log under their own unit id."""
        streams = [u.writes[0].stream_id for u in units]
        versions = [u.writes[0].expected_version + 1 for u in units]
        rows = await self._appender.fetch(_UNITS, streams, versions)
        by_stream = {row["stream_id"]: row for row in rows}
        found = {}
        for unit in units:
            row = by_stream.get(unit.writes[0].stream_id)
            if row is not None and f'"unit":"{unit.id.hex}"' in row["meta"]:
                count = sum(len(w.events) for w in unit.writes)
                last = Position(row["position"] + count - 1)
                found[unit.id] = Appended(row["position"], last, row["recorded_at"])
        return found

    async def read(self, after: Position, limit: int) -> list[Recorded]:
        """See the port."""
        return [decode(raw) for raw in await self.read_raw(after, limit)]

    async def read_raw(self, after: Position, limit: int) -> list[RawEvent]:
        """See the port."""
        return _dense(after, await self._reader.fetch(_TAIL, after, limit))

    async def read_page(self, after: Position, limit: int, limit_bytes: int) -> list[RawEvent]:
        """As `read_raw`, and no more once their data have `limit_bytes`; at least one event, if there are any."""
        return _dense(after, await self._reader.fetch(_TAIL_PAGE, after, limit, limit_bytes))

    async def read_stream(self, stream_id: UUID) -> list[Recorded]:
        """The whole stream, however long it is: for tests and tools alone."""
        return [decode(_raw(row)) for row in await self._reader.fetch(_STREAM, stream_id)]

    async def find_raw(
        self,
        after: Position,
        limit: int,
        limit_bytes: int,
        *,
        stream: UUID | None = None,
        event_type: str | None = None,
        correlation: str | None = None,
    ) -> list[RawEvent]:
        """Events after `after` of a stream, of a type or with a correlation id, in order, as many as fit.

        Reads on until as many are found, on a connection of its own: that may be the whole log, while others only
        want its end.
        """
        if stream is None:
            rows = await self._searcher.fetch(_FILTERED, after, limit, limit_bytes, event_type, correlation)
        else:
            version = await self._version_at(stream, after)
            arguments = version, limit, limit_bytes, event_type, correlation, stream
            rows = await self._searcher.fetch(_STREAM_FILTERED, *arguments)
        return [_raw(row) for row in rows]

    async def _version_at(self, stream: UUID, position: Position) -> int:
        """The version of the stream's last event up to this position; found by halving, since no index has both."""

        async def begun(version: int) -> bool:
            rows = await self._searcher.fetch(_STREAM_POSITION, stream, version)
            return bool(rows) and rows[0][0] <= position

        low, high = 0, 1
        while position > 0 and high <= _MAX_VERSION and await begun(high):
            low, high = high, 2 * high
        while position > 0 and high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if await begun(middle) else (low, middle)
        return low

    async def read_types(
        self, after: Position, until: Position, types: Sequence[str] | None, limit: int
    ) -> list[RawEvent]:
        """Up to `limit` events of these types (None: all) with positions above `after` and up to `until`, in order.

        On the connection for searches: what is not wanted does not leave the server.
        """
        wanted = None if types is None else list(types)
        return [_raw(row) for row in await self._searcher.fetch(_TYPES, after, until, wanted, limit)]

    async def read_stream_page(
        self, stream_id: UUID, after: int, limit: int, limit_bytes: int | None = None
    ) -> list[RawEvent]:
        """See the port."""
        if limit_bytes is None:
            rows = await self._reader.fetch(_STREAM_PAGE, stream_id, after, limit)
        else:
            rows = await self._reader.fetch(_STREAM_PAGE_BYTES, after, limit, limit_bytes, stream_id)
        return [_raw(row) for row in rows]

    async def read_changes_page(
        self, stream_id: UUID, after: int, limit: int, limit_bytes: int, upto: int = LAST_VERSION
    ) -> list[RawEvent]:
        """See the port."""
        arguments = after, limit, limit_bytes, stream_id, upto, list(REPORTS)
        return [_raw(row) for row in await self._reader.fetch(_CHANGES_PAGE, *arguments)]

    async def read_streams(self, stream_ids: Sequence[UUID]) -> dict[UUID, list[Recorded]]:
        """As `read_stream` for several streams; unknown ones are missing."""
        histories: dict[UUID, list[Recorded]] = {}
        for row in await self._reader.fetch(_STREAMS, list(stream_ids)):
            histories.setdefault(UUID(int=row[1].int), []).append(decode(_raw(row)))
        return histories

    async def read_streams_within(
        self, after: Mapping[UUID, int], limit: int, limit_bytes: int
    ) -> dict[UUID, list[Recorded]] | None:
        """See the port."""
        rows = await self._reader.fetch(_STREAMS_WITHIN, list(after), list(after.values()), limit, limit_bytes)
        if rows and rows[0][0] is None:
            return None
        histories: dict[UUID, list[Recorded]] = {}
        for row in rows:
            histories.setdefault(UUID(int=row[1].int), []).append(decode(_raw(row)))
        return histories

    async def last_version(self, stream_id: UUID) -> Version:
        """See the port."""
        rows = await self._reader.fetch(_LAST_VERSION, stream_id)
        return Version(rows[0][0])

    async def last_position(self) -> Position:
        """See the port."""
        rows = await self._reader.fetch(_LAST)
        return Position(rows[0][0] if rows else 0)

    async def wait_for_append(self, after: Position, timeout_seconds: float) -> None:
        """See the port. Notifications wake it; a poll every half second is the net below them."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self._seen <= after:
            await self._listen()
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
            if self._rung:
                await self._look()
                continue
            self._changed.clear()
            try:
                async with asyncio.timeout(min(left, POLL_SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                await self._look()

    async def _look(self) -> None:
        """Look up where the log ends. A notification is no more than a reason to look: anybody may send one."""
        self._rung = False
        self._seen = max(self._seen, await self.last_position())
        self._changed.set()

    async def _listen(self) -> None:
        async with self._listening:
            if self._listener is not None and not self._listener.is_closed():
                if self._listening_since == self._database.failovers:
                    return
                self._listener.terminate()
            failovers = self._database.failovers
            connection = await self._database.connect_raw()
            try:
                with translated():
                    await connection.add_listener(CHANNEL, self._notified)
            except BaseException:
                connection.terminate()
                raise
            self._listener, self._listening_since = connection, failovers
            # Not the greater one of both: after a failover the log may end earlier.
            self._seen = await self.last_position()

    def _notified(self, *_: object) -> None:
        self._rung = True
        self._changed.set()

    async def ensure_partitions(self) -> int:
        """Make partitions ahead of the last position; the number of new ones."""
        rows = await self._reader.fetch(
            "select rota_ensure_partitions($1, $2)", await self.last_position() + 1, PARTITIONS_AHEAD
        )
        return int(rows[0][0])

    async def close(self) -> None:
        """Close the connections."""
        await self._appender.close()
        await self._reader.close()
        await self._searcher.close()
        if self._listener is not None:
            await end(self._listener)


def _dispatches_to(unit: Unit, queues: set[str]) -> str | None:
    for write in unit.writes:
        head = write.head
        if isinstance(head, JobHead) and head.state == "queued" and head.queue in queues:
            return head.queue
    return None


def _dense(after: Position, rows: Sequence[Any]) -> list[RawEvent]:
    """The events of these rows. Raises Corruption unless they follow `after` without a gap."""
    events = [_raw(row) for row in rows]
    for expected, event in enumerate(events, after + 1):
        if event.position != expected:
            raise Corruption(f"position {expected} is missing in the log", position=expected)
    return events


def _raw(row: Any) -> RawEvent:
    # asyncpg's own kind of UUID is kept: it is compared and printed like any other, and converting costs.
    return RawEvent(row[0], row[1], row[2], row[3], row[4], row[5], row[6])
