"""A job as the store tells it, and a job as it is asked for. Plain values; nothing here speaks to a store."""

from __future__ import annotations

from typing import Any, Dict, Generic, Iterable, Mapping, Optional, Union

from rota.configured import Configured, Instant, Predecessor, instant_text, job_options, predecessor
from rota.declaring import AfterMode, OnFailure, Priority, RetryOptions, State, Unique
from rota.keywords import Keyworded
from rota.tasks import DEFAULT, Default, Task
from rota.typed import Signature
from rota.typevars import R
from rota.values import plain_arguments

__all__ = ["DEFAULT", "Instant", "Job", "Predecessor", "TaskLike", "instant_text", "job", "predecessor"]

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})

TaskLike = Union[str, "Task[Any, Any]", "Configured[Any, Any]"]
"""A task, with options or without (`greet.options(delay=10)`), or its name."""

NOT_GIVEN: Any = DEFAULT
"""Stands for None, but tells what was written from what was not."""


class Job(Generic[R]):
    """A job as the store described it; every field of its JSON is an attribute, `fields` is all of it.

    `result` is what the task has returned, as its annotation says when the task itself was submitted (docs/tasks.md);
    `fields["result"]` is always the JSON value.
    """

    id: str
    task: str
    state: State
    attempt: int
    queue: str
    priority: Priority

    def __init__(self, fields: "Dict[str, Any]", signature: Optional[Signature] = None) -> None:
        self.fields = fields
        self._signature = signature

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "fields":
            raise AttributeError(name)
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"a job has no field {name!r}") from None

    @property
    def result(self) -> R:
        """What the task has returned, None before that. Raises Mismatch when it is not what its annotation says."""
        value: Any = self.fields.get("result")
        if value is None or self._signature is None:
            return value  # type: ignore[no-any-return]
        return self._signature.result(value)  # type: ignore[no-any-return]

    @property
    def ended(self) -> bool:
        """Whether the job has reached an end."""
        return self.fields["state"] in ENDED

    def __repr__(self) -> str:
        return f"<job {self.fields['id']} {self.fields['task']} {self.fields['state']}>"


def job(  # noqa: PLR0913 - each is a field of the job
    task: TaskLike,
    *,
    args: Optional[Mapping[str, Any]] = NOT_GIVEN,
    queue: Optional[str] = NOT_GIVEN,
    priority: Optional[Priority] = NOT_GIVEN,
    run_at: Optional[Instant] = NOT_GIVEN,
    delay: Optional[float] = NOT_GIVEN,
    timeout: "float | Default | None" = DEFAULT,
    expires_at: Optional[Instant] = NOT_GIVEN,
    tags: Optional[Mapping[str, str]] = NOT_GIVEN,
    retry: Optional[RetryOptions] = NOT_GIVEN,
    key: Optional[str] = NOT_GIVEN,
    after: "Optional[Iterable[Predecessor]]" = NOT_GIVEN,
    after_mode: Optional[AfterMode] = NOT_GIVEN,
    on_failure: Optional[OnFailure] = NOT_GIVEN,
    unique: Optional[Unique] = NOT_GIVEN,
    idempotent: Optional[bool] = NOT_GIVEN,
    idempotency_key: Optional[str] = NOT_GIVEN,
    **task_args: Any,
) -> "Dict[str, Any]":
    """A job's JSON object, as `Client.submit_many` takes it; the parameters are those of `Client.submit`.

    Raises:
        NotJson: an argument has no form in JSON; `place` says which (docs/tasks.md says what has).
        TypeError: the task takes no such argument, or needs another one; or a keyword might be the job's option as well
            as the task's argument. Of a task that is given by its name this is found when the job is submitted.
    """
    options = {
        "queue": queue, "priority": priority, "run_at": run_at, "delay": delay, "timeout": timeout,
        "expires_at": expires_at, "tags": tags, "retry": retry, "key": key, "after": after, "after_mode": after_mode,
        "on_failure": on_failure, "unique": unique, "idempotent": idempotent, "idempotency_key": idempotency_key,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not DEFAULT}
    return spec_of(task, args, given, task_args)


def spec_of(
    task: TaskLike, args: Any, options: "Mapping[str, Any]", task_args: "Mapping[str, Any]"
) -> "Dict[str, Any]":
    """As `job`, its keywords sorted: `args` and `options` as they were written, the task's own arguments."""
    arguments = {**({} if args is NOT_GIVEN or args is None else args), **task_args}
    if isinstance(task, str):
        spec = {"task": task, "args": plain_arguments(arguments), **job_options(**options)}
        # Of a task that is only known by name, the store knows whether these are arguments, too.
        return Keyworded(spec, sorted(options)) if options and args is NOT_GIVEN else spec
    found, chosen = (task.task, task.options) if isinstance(task, Configured) else (task, {})
    _refuse_ambiguous(found, args, options)
    found.check_arguments(arguments)
    own = {**found.defaults, **chosen, **job_options(**options)}
    return {"task": found.name, "args": plain_arguments(arguments), **own}


def _refuse_ambiguous(task: "Task[Any, Any]", args: Any, options: "Mapping[str, Any]") -> None:
    """Refuse a keyword that names an argument of the task and an option of the job; `args=` says what is what."""
    parameters = task.parameters()
    if args is NOT_GIVEN:
        for name in options:
            if name in parameters:
                raise TypeError(
                    f"{name!r} is an argument of {task.name} and an option of jobs: write args={{{name!r}: ...}} for "
                    f"the argument, or task.options({name}=...).submit(...) for the option"
                )
    elif "args" in parameters and "args" not in (args or {}):
        raise TypeError(f"'args' is an argument of {task.name} and an option of jobs: write args={{'args': ...}}")
