"""Tasks whose results and exceptions raise whatever they can when they are turned into a report."""

from __future__ import annotations

from typing import Any

from rota import TaskCancelled, task

RAISED: dict[str, Any] = {
    "error": ZeroDivisionError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "cancelled": TaskCancelled,
    "generator": GeneratorExit,
    "recursion": RecursionError,
}


class Items(dict):  # type: ignore[type-arg]
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__(a=1)
        self._error = error

    def items(self) -> Any:
        raise self._error("said by items")


class Liar(dict):  # type: ignore[type-arg]
    """Says one thing to whoever checks it and another to whoever writes it."""

    def items(self) -> Any:
        return [("a", 2**70)]


def _items(error: type[BaseException]) -> Any:
    return Items(error)


def _message(error: type[BaseException]) -> Any:
    class Mute(Exception):
        def __str__(self) -> str:
            raise error

        __repr__ = __str__

    raise Mute


def _cause(error: type[BaseException]) -> Any:
    try:
        _message(error)
    except Exception as cause:
        raise ValueError("has a mute cause") from cause


def _group(error: type[BaseException]) -> Any:
    try:
        _message(error)
    except Exception as mute:  # noqa: BLE001
        raise BaseExceptionGroup("a group", [mute, SystemExit(1)]) from None


def _traceback(error: type[BaseException]) -> Any:
    class Traceless(Exception):
        @property
        def __traceback__(self) -> Any:
            raise error

        @property
        def __class__(self) -> Any:
            raise error

    raise Traceless("without a trace")


def _metaclass(error: type[BaseException]) -> Any:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            if name == "__qualname__":
                raise error
            return super().__getattribute__(name)

    class Nameless(Exception, metaclass=Meta):
        pass

    raise Nameless("without a name")


def _text(error: type[BaseException]) -> Any:
    class Text(str):  # noqa: SLOT000
        def __getitem__(self, _: Any) -> str:
            raise error

        def __format__(self, _: str) -> str:
            raise error

    class Odd(Exception):
        def __str__(self) -> str:
            return Text("an odd text")

    raise Odd


HOW = {
    "items": _items,
    "message": _message,
    "cause": _cause,
    "group": _group,
    "traceback": _traceback,
    "metaclass": _metaclass,
    "text": _text,
}


@task
def hostile_plain(how: str, what: str) -> Any:
    return HOW[how](RAISED[what])


@task
async def hostile_async(how: str, what: str) -> Any:
    return HOW[how](RAISED[what])


@task
def liar() -> Any:
    return Liar(a=1)


@task
def returns_a_coroutine() -> Any:
    async def nobody_awaits() -> None:
        pass

    return nobody_awaits()


@task
def healthy() -> int:
    return 1
