"""The `task` decorator and the registry of tasks in this process. Never runs a task by itself."""

from __future__ import annotations

import functools
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, Mapping, Optional, TypeVar, Union, overload

from rota.typed import Signature

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = ("queue", "priority", "timeout", "retry", "tags", "unique")

Unique = Union[str, Mapping[str, Any]]
"""One job for a key at a time: the key, or `{"key": ..., "while": ..., "on_conflict": ...}`."""


class Default:
    """Stands for an option that was not given, where None means something."""

    def __repr__(self) -> str:
        return "<default>"


DEFAULT = Default()

_registry: "Dict[str, Task[Any]]" = {}


class Task(Generic[F]):
    """A function that Rota can run. Calling it runs it here and now, as the plain function."""

    __name__: str
    cancel_grace: float = 0.0

    def __init__(self, function: F, name: str, options: "Dict[str, Any]") -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.options = options
        self.is_async = inspect.iscoroutinefunction(function)
        self._signature: Optional[Signature] = None

    if TYPE_CHECKING:

        @property
        def __call__(self) -> F:
            """The function, with its own types."""

    else:

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Run the function, here."""
            return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    @property
    def signature(self) -> Signature:
        """What its annotations say. Read when first needed: they may name what stands further down in its module."""
        if self._signature is None:
            self._signature = Signature(self.function)
        return self._signature

    def parameters(self) -> "Dict[str, bool]":
        """The names of the parameters; True for those that must be given."""
        return {p.name: p.default is p.empty for p in self._parameters() if p.kind in _BY_NAME}

    def any_keyword(self) -> bool:
        """Whether further arguments are taken as `**kwargs`."""
        return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in self._parameters())

    def _parameters(self) -> Any:
        return inspect.signature(self.function).parameters.values()


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@overload
def task(function: F) -> "Task[F]": ...
@overload
def task(
    *,
    name: Optional[str] = ...,
    queue: Optional[str] = ...,
    priority: Optional[str] = ...,
    timeout: "float | Default | None" = ...,
    retry: Optional[Mapping[str, Any]] = ...,
    tags: Optional[Mapping[str, str]] = ...,
    unique: Optional[Unique] = ...,
) -> "Callable[[F], Task[F]]": ...


def task(
    function: Any = None,
    *,
    name: Optional[str] = None,
    queue: Optional[str] = None,
    priority: Optional[str] = None,
    timeout: "float | Default | None" = DEFAULT,
    retry: Optional[Mapping[str, Any]] = None,
    tags: Optional[Mapping[str, str]] = None,
    unique: Optional[Unique] = None,
) -> Any:
    """Make an async or plain function a task.

    `name` defaults to module.function. The others are what jobs of this task get when their submission does not say
    otherwise: `timeout` in seconds for one attempt (None: no limit), `retry` as in a job, `{"max_attempts": 3}`,
    `unique` as in a job; without a `key` in it, jobs with the same arguments exclude each other.
    """
    given: "Dict[str, Any]" = {"queue": queue, "priority": priority, "retry": retry, "tags": tags}
    given["unique"] = unique_object(unique)
    options = {key: value for key, value in given.items() if value is not None}
    if not isinstance(timeout, Default):
        options["timeout"] = timeout

    def decorate(wrapped: Any) -> "Task[Any]":
        _check(wrapped)
        made = Task(wrapped, name or f"{_module_name(wrapped)}.{wrapped.__qualname__}", options)
        other = _registry.get(made.name)
        if other is not None and _place(other.function) != _place(wrapped):
            raise ValueError(f"two tasks are named {made.name}: give one another name")
        _registry[made.name] = made
        return made

    return decorate if function is None else decorate(function)


def unique_object(unique: Optional[Unique]) -> "Optional[Dict[str, Any]]":
    """The JSON object for a key or for the object itself."""
    if unique is None or isinstance(unique, Mapping):
        return None if unique is None else dict(unique)
    return {"key": unique}


def registered() -> "Dict[str, Task[Any]]":
    """All tasks of this process by name."""
    return _registry


def _check(function: Any) -> None:
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise TypeError("task() decorates a function: write @task or @task(queue=...)")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise TypeError(f"a task's arguments have names; {parameter.name} of {function.__qualname__} is positional")


def _place(function: Any) -> Any:
    """Where a function stands: the same again when its module is loaded anew."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return (getattr(code, "co_filename", None), function.__qualname__)


def _module_name(function: Any) -> str:
    if function.__module__ != "__main__":
        return str(function.__module__)
    # A script that submits its own tasks names them as the executor does, which loads the script as a file.
    path = getattr(sys.modules["__main__"], "__file__", None)
    return Path(path).stem if path else "__main__"
