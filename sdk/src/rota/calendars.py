"""Calendars of exclusions that schedules share: `client.calendars.create("holidays", dates=["2026-12-25"])`.

Every call takes a calendar by its id or its name, and answers with its JSON object. What a calendar can say stands in
the HTTP contract; its fields are keyword arguments here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Dict, Iterator, Optional, TypeVar, Union
from urllib.parse import quote

if TYPE_CHECKING:
    from rota.async_client import AsyncClient
    from rota.client import Client

PAGE = 200
ROOT = "/v1/calendars"

T = TypeVar("T")


class Calendars:
    """The calendars of a store; `Client.calendars` is one."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def create(self, name: str, *, reason: Optional[str] = None, **fields: Any) -> "Dict[str, Any]":
        """Create a calendar of `dates`, `weekly` windows, `intervals`, or the text of a file as `icalendar`.

        `skip_invalid=True` takes a file without the events that cannot be understood. The answer's `skipped` names
        them, its `warnings` what was passed over in the others, each with `line` and `reason`.

        Raises:
            Refused: something is not as it must be, `field` says what; Conflict when the name is taken.
        """
        return self._call("POST", ROOT, {"name": name, **_because(reason), **fields})

    def get(self, calendar: str, *, at: Optional[Union[int, str]] = None) -> "Dict[str, Any]":
        """The calendar as it is, or as it was `at` a position or instant. Raises NotFound."""
        found: "Dict[str, Any]" = self._client.call("GET", _path(calendar), query={"at": at})
        return found

    def list(self) -> "Iterator[Dict[str, Any]]":
        """All calendars, newest first; pages are fetched as one goes on."""
        cursor = None
        while True:
            page = self._client.call("GET", ROOT, query={"limit": PAGE, "cursor": cursor})
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def change(self, calendar: str, *, reason: Optional[str] = None, **fields: Any) -> "Dict[str, Any]":
        """Change what is named, for nominal times from now on; None takes it away. Raises Refused, NotFound."""
        return self._call("PATCH", _path(calendar), {**_because(reason), **fields})

    def archive(self, calendar: str, reason: Optional[str] = None) -> "Dict[str, Any]":
        """No schedule may begin to use it any more; those that do keep it."""
        return self._call("POST", _path(calendar) + "/archive", _because(reason))

    def _call(self, method: str, path: str, body: "Dict[str, Any]") -> "Dict[str, Any]":
        answer: "Dict[str, Any]" = self._client.call(method, path, body=body)
        return answer


class AsyncCalendars:
    """As `Calendars`, for asyncio; `AsyncClient.calendars` is one."""

    def __init__(self, client: "AsyncClient", calendars: Calendars) -> None:
        self._client = client
        self._calendars = calendars

    async def create(self, name: str, *, reason: Optional[str] = None, **fields: Any) -> "Dict[str, Any]":
        """As `Calendars.create`."""
        return await self._call(lambda: self._calendars.create(name, reason=reason, **fields))

    async def get(self, calendar: str, *, at: Optional[Union[int, str]] = None) -> "Dict[str, Any]":
        """As `Calendars.get`."""
        return await self._call(lambda: self._calendars.get(calendar, at=at))

    def list(self) -> "AsyncIterator[Dict[str, Any]]":
        """As `Calendars.list`: `async for calendar in client.calendars.list()`."""
        return self._client.iterate(self._calendars.list())

    async def change(self, calendar: str, *, reason: Optional[str] = None, **fields: Any) -> "Dict[str, Any]":
        """As `Calendars.change`."""
        return await self._call(lambda: self._calendars.change(calendar, reason=reason, **fields))

    async def archive(self, calendar: str, reason: Optional[str] = None) -> "Dict[str, Any]":
        """As `Calendars.archive`."""
        return await self._call(lambda: self._calendars.archive(calendar, reason))

    async def _call(self, call: "Callable[[], T]") -> T:
        return await self._client.in_thread(call)


def _because(reason: Optional[str]) -> "Dict[str, Any]":
    return {} if reason is None else {"reason": reason}


def _path(calendar: str) -> str:
    return f"{ROOT}/{quote(calendar, safe='')}"
