"""Schedules: `client.schedules.create("nightly", job("report.nightly"), cron="15 2 * * *")`.

Every call takes a schedule by its id or its name. What a schedule can say stands in the HTTP contract; its fields are
keyword arguments here, instants aware datetimes or RFC 3339 texts. `start`, `end`, `phase` and `at` may be datetimes
without a zone, which are meant on the schedule's clock.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Dict, Iterator, List, Mapping, Optional, TypeVar, Union
from urllib.parse import quote

from rota.configured import Configured
from rota.jobs import Instant, TaskLike, instant_text, job
from rota.tasks import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from rota.async_client import AsyncClient
    from rota.client import Client
    from rota.schedule_fields import ScheduleChanges, ScheduleFields

PAGE = 200

T = TypeVar("T")

JobLike = Union[TaskLike, Mapping[str, Any]]
"""A task, its name, or a job as `rota.job(...)` makes it."""


class Schedule:
    """A schedule as the store described it; every field of its JSON is an attribute, `fields` is all of it."""

    def __init__(self, fields: "Dict[str, Any]") -> None:
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "fields":
            raise AttributeError(name)
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"a schedule has no field {name!r}") from None

    def __repr__(self) -> str:
        return f"<schedule {self.fields['name']} {self.fields['state']}>"


class Schedules:
    """The schedules of a store; `Client.schedules` is one."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def create(
        self, name: str, job: JobLike, *, reason: Optional[str] = None, **fields: Unpack[ScheduleFields]
    ) -> Schedule:
        """Create a schedule.

        Args:
            name: Its name, unique.
            job: What each tick submits: a task, its name, or `rota.job(task, ...)`.
            reason: Why; kept in its history.
            fields: Exactly one of `cron`, `every`, `rrule`, `at`; `timezone`, `gap`, `fold`, `start`, `end`, `count`,
                `jitter`, `calendars`, `overlap`, `catch_up`, `tags`, `owner`, `notes`.

        Raises:
            Refused: something is not as it must be, `field` says what; Conflict when the name is taken.
        """
        body = {"name": name, "job": self._job(job), "reason": reason, **_texts(fields)}
        return Schedule(self._client.call("POST", "/v1/schedules", body=_given(body)))

    def get(self, schedule: str, *, at: Optional[Union[int, str]] = None) -> Schedule:
        """The schedule as it is, or as it was `at` a position or instant. Raises NotFound."""
        return Schedule(self._client.call("GET", _path(schedule), query={"at": at}))

    def list(self, *, limit: Optional[int] = None, **filters: Any) -> Iterator[Schedule]:
        """Schedules that match (state, tag, owner, task, queue), newest first; pages are fetched as one goes on."""
        for fields in self._pages("/v1/schedules", filters, limit):
            yield Schedule(fields)

    def change(self, schedule: str, *, reason: Optional[str] = None, **fields: Unpack[ScheduleChanges]) -> Schedule:
        """Change what is named, from now on; None brings a default back. Raises Refused, NotFound, Conflict."""
        body = _texts(fields)
        if "job" in body:
            body["job"] = self._job(body["job"])
        if reason is not None:
            body["reason"] = reason
        return Schedule(self._client.call("PATCH", _path(schedule), body=body))

    def pause(self, schedule: str, reason: Optional[str] = None) -> Schedule:
        """No ticks from now on."""
        return self._act(schedule, "pause", reason)

    def resume(self, schedule: str, reason: Optional[str] = None) -> Schedule:
        """Ticks again from now on."""
        return self._act(schedule, "resume", reason)

    def archive(self, schedule: str, reason: Optional[str] = None) -> Schedule:
        """The end of the schedule; its history stays."""
        return self._act(schedule, "archive", reason)

    def run(self, schedule: str, reason: Optional[str] = None) -> str:
        """Make a job now; its id. Repeated while the store cannot be reached, without making a second one."""
        answer = self._client.call(
            "POST",
            _path(schedule, "run"),
            body=_given({"reason": reason}),
            headers={"Idempotency-Key": f"sdk-{uuid.uuid4()}"},
            patience=self._client.patience,
        )
        return str(answer["job_id"])

    def backfill(
        self,
        schedule: str,
        start: Instant,
        end: Instant,
        *,
        dry_run: bool = True,
        limit: Optional[int] = None,
        rate: Optional[float] = None,
        reason: Optional[str] = None,
    ) -> "Dict[str, Any]":
        """Make up for the nominal times from `start` to `end`, or with `dry_run` say what that would do.

        `limit`: how many jobs at most. `rate`: how many of them become due in a second. What ran already does not
        run again.
        """
        body = {
            "from": instant_text(start),
            "to": instant_text(end),
            "dry_run": dry_run,
            "limit": limit,
            "rate": rate,
            "reason": reason,
        }
        # Done a second time it would go on behind the limit, so only the question is repeated.
        patience = self._client.patience if dry_run else 0.0
        path = _path(schedule, "backfill")
        answer: "Dict[str, Any]" = self._client.call("POST", path, body=_given(body), patience=patience)
        return answer

    def ticks(self, schedule: str, *, limit: Optional[int] = None, **filters: Any) -> "Iterator[Dict[str, Any]]":
        """What became of nominal times, newest first; `outcome` and `reason` narrow it."""
        return self._pages(_path(schedule, "ticks"), filters, limit)

    def preview(
        self, schedule: Optional[str] = None, *, after: Optional[Instant] = None, count: int = 10, **rule: Any
    ) -> "List[Dict[str, Any]]":
        """The next `count` times of a schedule, or of a rule that need not be saved."""
        body = {"schedule": schedule, "after": instant_text(after), "count": count, **_texts(rule)}
        ticks: "List[Dict[str, Any]]" = self._client.call("POST", "/v1/schedules/preview", body=_given(body))["ticks"]
        return ticks

    def _job(self, given: JobLike) -> "Mapping[str, Any]":
        if isinstance(given, (str, Task, Configured)):
            return job(given)
        self._client.refuse_ambiguous([("job", given)])
        return given

    def _act(self, schedule: str, action: str, reason: Optional[str]) -> Schedule:
        # To pause what is paused changes nothing, so it may be repeated.
        body, patience = _given({"reason": reason}), self._client.patience
        return Schedule(self._client.call("POST", _path(schedule, action), body=body, patience=patience))

    def _pages(self, path: str, query: "Mapping[str, Any]", limit: Optional[int]) -> "Iterator[Dict[str, Any]]":
        cursor, left = None, limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = self._client.call("GET", path, query={**query, "limit": size, "cursor": cursor})
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return


class AsyncSchedules:
    """As `Schedules`, for asyncio; `AsyncClient.schedules` is one."""

    def __init__(self, client: "AsyncClient", schedules: Schedules) -> None:
        self._client = client
        self._schedules = schedules

    async def create(
        self, name: str, job: JobLike, *, reason: Optional[str] = None, **fields: Unpack[ScheduleFields]
    ) -> Schedule:
        """As `Schedules.create`."""
        return await self._call(lambda: self._schedules.create(name, job, reason=reason, **fields))

    async def get(self, schedule: str, *, at: Optional[Union[int, str]] = None) -> Schedule:
        """As `Schedules.get`."""
        return await self._call(lambda: self._schedules.get(schedule, at=at))

    def list(self, *, limit: Optional[int] = None, **filters: Any) -> "AsyncIterator[Schedule]":
        """As `Schedules.list`: `async for schedule in client.schedules.list()`."""
        return self._client.iterate(self._schedules.list(limit=limit, **filters))

    async def change(
        self, schedule: str, *, reason: Optional[str] = None, **fields: Unpack[ScheduleChanges]
    ) -> Schedule:
        """As `Schedules.change`."""
        return await self._call(lambda: self._schedules.change(schedule, reason=reason, **fields))

    async def pause(self, schedule: str, reason: Optional[str] = None) -> Schedule:
        """As `Schedules.pause`."""
        return await self._call(lambda: self._schedules.pause(schedule, reason))

    async def resume(self, schedule: str, reason: Optional[str] = None) -> Schedule:
        """As `Schedules.resume`."""
        return await self._call(lambda: self._schedules.resume(schedule, reason))

    async def archive(self, schedule: str, reason: Optional[str] = None) -> Schedule:
        """As `Schedules.archive`."""
        return await self._call(lambda: self._schedules.archive(schedule, reason))

    async def run(self, schedule: str, reason: Optional[str] = None) -> str:
        """As `Schedules.run`."""
        return await self._call(lambda: self._schedules.run(schedule, reason))

    async def backfill(self, schedule: str, start: Instant, end: Instant, **options: Any) -> "Dict[str, Any]":
        """As `Schedules.backfill`."""
        return await self._call(lambda: self._schedules.backfill(schedule, start, end, **options))

    def ticks(self, schedule: str, *, limit: Optional[int] = None, **filters: Any) -> "AsyncIterator[Dict[str, Any]]":
        """As `Schedules.ticks`."""
        return self._client.iterate(self._schedules.ticks(schedule, limit=limit, **filters))

    async def preview(self, schedule: Optional[str] = None, **options: Any) -> "List[Dict[str, Any]]":
        """As `Schedules.preview`."""
        return await self._call(lambda: self._schedules.preview(schedule, **options))

    async def _call(self, call: "Callable[[], T]") -> T:
        return await self._client.in_thread(call)


def _path(schedule: str, action: Optional[str] = None) -> str:
    return f"/v1/schedules/{quote(schedule, safe='')}" + (f"/{action}" if action else "")


def _texts(fields: "Mapping[str, Any]") -> "Dict[str, Any]":
    return {name: _text(value) for name, value in fields.items()}


def _text(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_text(item) for item in value]
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.isoformat()
    return instant_text(value) if isinstance(value, datetime) else value


def _given(body: "Mapping[str, Any]") -> "Dict[str, Any]":
    return {name: value for name, value in body.items() if value is not None}
