"""The `task` decorator and the registry of tasks in this process. Never runs a task by itself."""

from __future__ import annotations

import functools
import inspect
import sys
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Coroutine,
    Dict,
    Generic,
    Iterable,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    Type,
    Union,
    overload,
)

from rota.declaring import (
    AfterMode,
    AlertOptions,
    OnFailure,
    Priority,
    RetryOptions,
    Unique,
    check_cancel_grace,
    check_name,
    check_options,
    checked_alert,
    unique_object,
)
from rota.suggestions import did_you_mean
from rota.typed import Signature
from rota.typevars import P, R

if TYPE_CHECKING:
    from rota.async_client import AsyncJobHandle
    from rota.client import JobHandle
    from rota.configured import Configured, Instant, Predecessor

Errors = Union[Type[BaseException], Tuple[Type[BaseException], ...]]


class Default:
    """Stands for an option that was not given, where None means something."""

    def __repr__(self) -> str:
        return "<default>"


DEFAULT = Default()

PLAIN_CANCEL_GRACE_SECONDS = 1.0
"""The grace of a plain function that does not say: its exception may come at any step, so it is warned first."""

_registry: "Dict[str, Task[Any, Any]]" = {}


class Task(Generic[P, R]):
    """A function that Rota can run. Calling it runs it here and now, as the plain function.

    `defaults` are the options that its jobs get where they do not say otherwise; `alert` says who is told of those that
    have failed for good. `cancel_grace`: for so many seconds `current_job().cancelled` is true before the exception of
    a cancellation or timeout comes.
    """

    __name__: str

    def __init__(
        self,
        function: "Callable[..., Any]",
        name: str,
        defaults: "Dict[str, Any]",
        cancel_grace: Optional[float] = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.defaults = defaults
        self.is_async = inspect.iscoroutinefunction(function)
        if cancel_grace is None:
            cancel_grace = 0.0 if self.is_async else PLAIN_CANCEL_GRACE_SECONDS
        self.cancel_grace = cancel_grace
        self._signature: Optional[Signature] = None
        self.retry_on: "Optional[Tuple[Type[BaseException], ...]]" = None
        self.no_retry_on: "Tuple[Type[BaseException], ...]" = ()
        self.alert: "Optional[Dict[str, Any]]" = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function, here."""
        result: R = self.function(*args, **kwargs)
        return result

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Submit a job that calls it so: `greet.submit(name="Ada")`. All arguments are the task's own.

        It goes to the client of the `with` block around it, else to that of `rota.configure`, else to the store that
        ROTA_URL names. Options of the job go before: `greet.options(delay=10).submit(name="Ada")`. Raises as
        `Client.submit`.
        """
        return self.options().submit(*args, **kwargs)

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> AsyncJobHandle[R]:
        """As `submit`, for asyncio: with the AsyncClient of the `async with` block around it."""
        return await self.options().asubmit(*args, **kwargs)

    def options(  # noqa: PLR0913 - each is a field of the job
        self,
        *,
        queue: Optional[str] = None,
        priority: Optional[Priority] = None,
        run_at: "Optional[Instant]" = None,
        delay: Optional[float] = None,
        timeout: "float | Default | None" = DEFAULT,
        expires_at: "Optional[Instant]" = None,
        tags: Optional[Mapping[str, str]] = None,
        retry: Optional[RetryOptions] = None,
        key: Optional[str] = None,
        after: "Optional[Iterable[Predecessor]]" = None,
        after_mode: Optional[AfterMode] = None,
        on_failure: Optional[OnFailure] = None,
        unique: Optional[Unique] = None,
        idempotent: Optional[bool] = None,
        idempotency_key: Optional[str] = None,
    ) -> Configured[P, R]:
        """The task with options of the job that it is submitted as; they are those of `Client.submit`.

        `greet.options(delay=10).submit(name="Ada")`. What follows in `submit` is the task's own, also where it is
        called as an option is: `fetch.options(timeout=9).submit(timeout=1)`.
        """
        from rota.configured import Configured, job_options  # noqa: PLC0415 - it needs this module

        options = job_options(
            queue=queue, priority=priority, run_at=run_at, delay=delay, timeout=timeout, expires_at=expires_at,
            tags=tags, retry=retry, key=key, after=after, after_mode=after_mode, on_failure=on_failure, unique=unique,
            idempotent=idempotent, idempotency_key=idempotency_key,
        )  # fmt: skip
        return Configured(self, options)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> "Dict[str, Any]":
        """The job that calls it so, as `Client.submit_many`, `submit_batch` and schedules take it."""
        return self.options().job(*args, **kwargs)

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

    def may_retry(self, kind: "Type[BaseException]") -> bool:
        """Whether another attempt may help after such an exception."""
        if issubclass(kind, self.no_retry_on):
            return False
        return self.retry_on is None or issubclass(kind, self.retry_on)

    def check_arguments(self, names: "Iterable[str]") -> None:
        """Raise TypeError when it takes no argument of such a name, or needs another one."""
        names, parameters = set(names), self.parameters()
        if not self.any_keyword():
            for name in sorted(names - parameters.keys()):
                hint = did_you_mean(name, parameters) or f"; it takes {', '.join(parameters) or 'none'}"
                if name in JOB_OPTIONS:
                    hint = f", it is an option of jobs: write task.options({name}=...) for it"
                raise TypeError(f"{self.name} takes no argument {name!r}{hint}")
        missing = [name for name, needed in parameters.items() if needed and name not in names]
        if missing:
            raise TypeError(f"{self.name} needs the argument {missing[0]!r}")

    def bind(self, args: "Tuple[Any, ...]", kwargs: "Mapping[str, Any]") -> "Dict[str, Any]":
        """The arguments of a call, all by their names, as a job has them. Raises TypeError."""
        if not args:
            self.check_arguments(kwargs)
            return dict(kwargs)
        names = [p.name for p in self._parameters() if p.kind is p.POSITIONAL_OR_KEYWORD]
        if len(args) > len(names):
            raise TypeError(f"{self.name} takes {len(names)} arguments by position, not {len(args)}")
        given = dict(zip(names, args))
        for name in given.keys() & kwargs.keys():
            raise TypeError(f"{self.name} got two values for the argument {name!r}")
        self.check_arguments([*given, *kwargs])
        return {**given, **kwargs}

    def _parameters(self) -> Any:
        return inspect.signature(self.function).parameters.values()


JOB_OPTIONS = frozenset(Task.options.__kwdefaults__ or ())
"""The options of jobs, which are no arguments of tasks."""

if TYPE_CHECKING:

    class AsyncTask(Task[P, R]):
        """A task whose function is async: calling it gives a coroutine, submitting it the job of its result."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> "Coroutine[Any, Any, R]":  # type: ignore[override]
            """Run the function, here."""


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class _Decorator(Protocol):
    @overload
    def __call__(self, function: "Callable[P, Coroutine[Any, Any, R]]") -> "AsyncTask[P, R]": ...
    @overload
    def __call__(self, function: "Callable[P, R]") -> "Task[P, R]": ...


@overload
def task(function: "Callable[P, Coroutine[Any, Any, R]]") -> "AsyncTask[P, R]": ...
@overload
def task(function: "Callable[P, R]") -> "Task[P, R]": ...
@overload
def task(
    *,
    name: Optional[str] = ...,
    queue: Optional[str] = ...,
    priority: Optional[Priority] = ...,
    timeout: "float | Default | None" = ...,
    retry: Optional[RetryOptions] = ...,
    tags: Optional[Mapping[str, str]] = ...,
    unique: Optional[Unique] = ...,
    retry_on: Optional[Errors] = ...,
    no_retry_on: Errors = ...,
    idempotent: Optional[bool] = ...,
    cancel_grace: Optional[float] = ...,
    alert: Optional[AlertOptions] = ...,
) -> _Decorator: ...


def task(  # noqa: PLR0913 - each is an option
    function: Any = None,
    *,
    name: Optional[str] = None,
    queue: Optional[str] = None,
    priority: Optional[str] = None,
    timeout: "float | Default | None" = DEFAULT,
    retry: Optional[Mapping[str, Any]] = None,
    tags: Optional[Mapping[str, str]] = None,
    unique: Optional[Unique] = None,
    retry_on: Optional[Errors] = None,
    no_retry_on: Errors = (),
    idempotent: Optional[bool] = None,
    cancel_grace: Optional[float] = None,
    alert: Optional[AlertOptions] = None,
) -> Any:
    """Make an async or plain function a task.

    Args:
        function: The function.
        name: Defaults to module.function.
        queue: What jobs of this task get when their submission does not say otherwise, as the following ones.
        priority: high, normal or low.
        timeout: Seconds for one attempt; None for no limit.
        retry: As in a job, `{"max_attempts": 3}`.
        tags: Names and values.
        unique: As in a job; without a `key` in it, jobs with the same arguments exclude each other.
        retry_on: An exception class, or several: only they are failures after which another attempt may help.
        no_retry_on: After these none does. Timeouts and crashes are no exceptions of the task: `retry` alone counts.
        idempotent: Whether it may be broken off and repeated: a stopping executor hands it back at no cost.
        cancel_grace: Seconds for which `current_job().cancelled` is true before the exception of a cancellation or
            timeout comes, up to 60; without it 1 for a plain function, 0 for an async one.
        alert: Who is told of each of its jobs that has failed for good, beside whom the queue's alert tells:
            `{"email": "ops@example.org", "webhook": "https://example.org/alerts"}`, one of them or both, and
            the `queue` on which that is done.

    Raises:
        TypeError: this cannot be a task, or an option is of a wrong type.
        ValueError: no job could have such an option, or there is another task of this name.
    """
    given: "Dict[str, Any]" = {"queue": queue, "priority": priority, "retry": retry, "tags": tags}
    given["idempotent"] = idempotent
    given["unique"] = unique_object(unique)
    options = {key: value for key, value in given.items() if value is not None}
    if not isinstance(timeout, Default):
        options["timeout"] = timeout
    check_options(options)
    only, never = _errors("retry_on", retry_on), _errors("no_retry_on", no_retry_on) or ()
    told = None if alert is None else checked_alert(alert)
    grace = None if cancel_grace is None else check_cancel_grace(cancel_grace)

    def decorate(wrapped: Any) -> "Task[Any, Any]":
        _check(wrapped)
        called = name or f"{_module_name(wrapped)}.{wrapped.__qualname__}"
        made: "Task[Any, Any]" = Task(wrapped, called, options, grace)
        check_name(made.name)
        made.retry_on, made.no_retry_on = only, never
        made.alert = told
        other = _registry.get(made.name)
        if other is not None and _place(other.function) != _place(wrapped):
            raise ValueError(f"two tasks are named {made.name}: give one another name")
        _registry[made.name] = made
        return made

    return decorate if function is None else decorate(function)


def registered() -> "Dict[str, Task[Any, Any]]":
    """All tasks of this process by name."""
    return _registry


def _errors(name: str, given: "Optional[Errors]") -> "Optional[Tuple[Type[BaseException], ...]]":
    if given is None:
        return None
    kinds = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise TypeError(f"{name}: takes exception classes, not {kind!r}")
    return kinds


def _check(function: Any) -> None:
    if not callable(function) or not hasattr(function, "__qualname__") or isinstance(function, type):
        raise TypeError("task() decorates a function: write @task or @task(queue=...)")
    name = function.__qualname__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"a task returns its result once; {name} is a generator: `return` a list instead of `yield`")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise TypeError(f"a task's arguments have names; {parameter.name} of {name} is positional")


def _place(function: Any) -> Any:
    """Where a function stands: the same again when its module is loaded again."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return (getattr(code, "co_filename", None), function.__qualname__)


def _module_name(function: Any) -> str:
    if function.__module__ != "__main__":
        return str(function.__module__)
    # A script that submits its own tasks names them as the executor does, which loads the script as a file.
    path = getattr(sys.modules["__main__"], "__file__", None)
    return Path(path).stem if path and not path.startswith("<") else "__main__"
