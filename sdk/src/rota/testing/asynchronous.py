"""The client in memory for code that awaits: the same calls, made here and now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, AsyncIterator, Iterator

from rota.testing.groups import MemoryGroupHandle
from rota.testing.schedules import MemorySchedules

if TYPE_CHECKING:
    from rota.testing.memory import MemoryClient


class Awaited:
    """Each call of a client, handle or set of schedules in memory, to be awaited; an iterator is an async one.

    What they answer is the same, and a handle among it is awaited likewise.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if isinstance(found, MemorySchedules):
            return Awaited(found)
        if not callable(found):
            return found
        if name in ("list", "ticks", "workflows", "batches"):
            return lambda *args, **kwargs: _iterate(found(*args, **kwargs))
        if name in ("handle", "workflow", "batch"):
            return lambda *args, **kwargs: _wrapped(found(*args, **kwargs))

        async def call(*args: Any, **kwargs: Any) -> Any:
            return _wrapped(found(*args, **kwargs))

        return call

    def __repr__(self) -> str:
        return f"<awaited {self._inner!r}>"


def awaited(client: "MemoryClient") -> Any:
    """The client as `AsyncClient` has its calls: what `Task.asubmit` uses within its `with` block."""
    return Awaited(client)


def _wrapped(value: Any) -> Any:
    from rota.testing.memory import MemoryHandle  # noqa: PLC0415 - it needs this module

    return Awaited(value) if isinstance(value, (MemoryHandle, MemoryGroupHandle)) else value


async def _iterate(items: "Iterator[Any]") -> "AsyncIterator[Any]":
    for item in items:
        yield item
