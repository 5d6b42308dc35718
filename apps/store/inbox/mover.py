"""Moves what users' own transactions have put in from the inbox into the log: in order, each once.

A row is deleted after its job is in the log. The job has the row's id, so a row that comes again, since its mover died
in between or another one believes to be in charge, is a job that is there already, and done.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import orjson

from rota_server.apps.store.http.json_body import load_json
from rota_server.apps.store.http.problems import problem_of
from rota_server.apps.store.jobs.handlers import Jobs
from rota_server.apps.store.jobs.predecessors import Streams
from rota_server.apps.store.jobs.submissions import Draft, Known, spec_of
from rota_server.domain.errors import Rejected, Unavailable
from rota_server.domain.inbox import Bell, Inbox, InboxItem, InboxRule, allows
from rota_server.domain.log import Meta
from rota_server.observability import tracing

log = logging.getLogger("rota.store.inbox")

BATCH = 500
"""Rows that are read and moved together."""

LOOK_BATCHES = 20
"""Batches before the mover looks again for rows with an earlier place whose transactions have ended only now."""

CORRELATION = re.compile(r"[\x21-\x7e]{1,128}")


class InboxMover:
    """Drains the inbox; one of all stores at a time, since two would only do the same work twice."""

    def __init__(self, jobs: Jobs, inbox: Inbox, bell: Bell) -> None:
        self._jobs = jobs
        self._inbox = inbox
        self._bell = bell

    async def run(self) -> None:
        """Do it forever. Raises Unavailable; what was not moved is found again."""
        while True:
            if not await self.drain():
                await self._bell.rest()

    async def drain(self) -> int:
        """Move what is there, a bounded number; how many rows left the inbox."""
        moved = after = 0
        for _ in range(LOOK_BATCHES):
            items = await self._inbox.take(after, BATCH)
            moved += await self._move(items)
            if len(items) < BATCH:
                break
            after = items[-1].place
        return moved

    async def _move(self, items: Sequence[InboxItem]) -> int:
        if not items:
            return 0
        rules = await self._inbox.rules()
        requests = [_request(item) for item in items]
        results = await self._jobs.submit_drafts(
            requests, lambda index, known, streams: _draft(items[index], requests[index], known, streams, rules)
        )
        done, refused, problems = [], [], []
        away: Unavailable | None = None
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Unavailable):
                away = result
            elif isinstance(result, Rejected):
                refused.append(item.id)
                problems.append(orjson.dumps(problem_of(result)).decode())
                log.warning("refused job %s (%s) from the inbox: %s", item.id, item.task, result.message)
            else:
                done.append(item.id)
        if done:
            await self._inbox.done(done)
        if refused:
            await self._inbox.reject(refused, problems)
        if away is not None:
            raise away
        return len(items)


def _request(item: InboxItem) -> dict[str, Any] | Rejected:
    """The row as a request over HTTP would have been."""
    try:
        options = load_json(item.options.encode())
        return {**options, "task": item.task, "args": load_json(item.args.encode())}
    except Rejected as error:
        return error
    except Exception as error:  # noqa: BLE001 - see _unreadable
        return _unreadable(item, error)


def _draft(
    item: InboxItem, request: dict[str, Any] | Rejected, known: Known, streams: Streams, rules: Sequence[InboxRule]
) -> Draft:
    if isinstance(request, Rejected):
        raise request
    asked = dict(request)
    meta = Meta(
        actor=f"sql:{item.by}",
        correlation_id=_correlation(asked.pop("correlation_id", None)),
        traceparent=_trace(asked.pop("traceparent", None)),
    )
    try:
        # Delays count from the moment at which it was put in.
        spec = spec_of(asked, known, item.enqueued_at, streams)
    except Rejected:
        raise
    except Exception as error:
        raise _unreadable(item, error) from error
    if not allows(rules, item.by, spec.task, spec.queue):
        raise Rejected(
            f"the database's role {item.by} may not put in {spec.task} for queue {spec.queue}: rota inbox allow",
            field="task",
            code="not-allowed",
        )
    return Draft(job_id=item.id, spec=spec, meta=meta, repeatable=True)


def _correlation(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and CORRELATION.fullmatch(value)):
        return value
    message = "correlation_id: must have 1 to 128 printable ASCII characters"
    raise Rejected(message, field="correlation_id", code="invalid-argument")


def _trace(value: Any) -> str | None:
    return tracing.valid_traceparent(value) if isinstance(value, str) else None


def _unreadable(item: InboxItem, error: Exception) -> Rejected:
    """Whatever a row does to us, it must not keep the others in the inbox."""
    log.error("row %s of the inbox cannot be read", item.id, exc_info=error)
    return Rejected(f"the job cannot be read: {error!r}", code="unreadable")
