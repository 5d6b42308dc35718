"""The `task` decorator and the registry of tasks in this process."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from typing import Any, Callable, Dict, Generic, Mapping, Optional, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

_registry: "Dict[str, Task[Any]]" = {}


class Task(Generic[F]):
    """A function that Rota can run. Calling it runs it here and now, as the plain function."""

    def __init__(self, function: F, name: str, options: "Dict[str, Any]") -> None:
        self.function = function
        self.name = name
        self.options = options
        self.is_async = inspect.iscoroutinefunction(function)
        functools.update_wrapper(self, function)  # type: ignore[arg-type]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def parameters(self) -> "Dict[str, bool]":
        """The names of the parameters; True for those that must be given."""
        return {
            p.name: p.default is p.empty
            for p in inspect.signature(self.function).parameters.values()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }


@overload
def task(function: F) -> "Task[F]": ...
@overload
def task(
    *,
    name: Optional[str] = ...,
    queue: Optional[str] = ...,
    priority: Optional[str] = ...,
    timeout: Optional[float] = ...,
    retry: Optional[Mapping[str, Any]] = ...,
    tags: Optional[Mapping[str, str]] = ...,
) -> "Callable[[F], Task[F]]": ...


def task(function: Any = None, *, name: Optional[str] = None, **options: Any) -> Any:
    """Make an async or plain function a task.

    `name` defaults to module.function. `queue`, `priority`, `timeout` (seconds), `retry` (as in a job) and `tags`
    are what jobs of this task get when their submission does not say otherwise.
    """
    allowed = {"queue", "priority", "timeout", "retry", "tags"}
    unknown = set(options) - allowed
    if unknown:
        raise TypeError(f"task() has no option {', '.join(sorted(unknown))}; it has name, {', '.join(sorted(allowed))}")

    def decorate(wrapped: Any) -> "Task[Any]":
        made = Task(wrapped, name or f"{_module_name(wrapped)}.{wrapped.__qualname__}", _given(options))
        other = _registry.get(made.name)
        if other is not None and other.function.__code__.co_filename != wrapped.__code__.co_filename:
            raise ValueError(f"two tasks are named {made.name}: give one another name")
        _registry[made.name] = made
        return made

    return decorate if function is None else decorate(function)


def registered() -> "Dict[str, Task[Any]]":
    """All tasks of this process by name."""
    return _registry


def _given(options: "Dict[str, Any]") -> "Dict[str, Any]":
    return {key: value for key, value in options.items() if value is not None}


def _module_name(function: Any) -> str:
    if function.__module__ != "__main__":
        return str(function.__module__)
    # A script that submits its own tasks names them as the executor does, which loads the script as a file.
    path = getattr(sys.modules["__main__"], "__file__", None)
    return os.path.splitext(os.path.basename(path))[0] if path else "__main__"
