"""`event.publish`'s way into the log: once per job, however often the attempt is repeated."""

from __future__ import annotations

from typing import Any

from uuid_utils.compat import uuid7

from rota_server.adapters.group_commit import GroupCommit
from rota_server.apps.executor.attempts import Attempt
from rota_server.domain.builtin.tasks import EventPublish
from rota_server.domain.ids import Version, event_stream_id
from rota_server.domain.jobs.events import EventPublished
from rota_server.domain.log import Appended, Meta, StreamWrite, Unit
from rota_server.domain.triggers.trigger import correlation_of


class EventPublisher:
    """Appends published events."""

    def __init__(self, commit: GroupCommit) -> None:
        self._commit = commit

    async def publish(self, arguments: EventPublish, attempt: Attempt) -> dict[str, Any]:
        """The event's id and, unless it was there already, its position."""
        event_id = arguments.id or str(attempt.job_id)
        event = EventPublished(
            id=event_id,
            source=arguments.source,
            type=arguments.type,
            subject=arguments.subject,
            datacontenttype="application/json" if arguments.data is not None else None,
            data=arguments.data,
        )
        stream = event_stream_id(arguments.source, event_id)
        write = StreamWrite(
            stream_id=stream,
            expected_version=Version(0),
            events=[event],
            head=None,
        )
        meta = Meta(
            actor=f"job:{attempt.job_id}",
            correlation_id=attempt.correlation_id or correlation_of(event_id, stream),
            causation_id=str(attempt.job_id),
            traceparent=attempt.traceparent,
            depth=attempt.depth,
        )
        result = await self._commit.append(Unit(id=uuid7(), writes=[write], meta=meta))
        repeated = not isinstance(result, Appended)
        position = None if repeated else result.first_position  # type: ignore[union-attr]
        return {"id": event_id, "source": arguments.source, "position": position, "repeated": repeated}
