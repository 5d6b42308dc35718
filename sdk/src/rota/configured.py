"""Options of a job, apart from the arguments of its task."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, Generic, Iterable, Mapping, Optional, Union

from rota.current import current_async_client, current_client
from rota.declaring import unique_object
from rota.tasks import DEFAULT, Default, Task
from rota.typevars import P, R
from rota.values import plain_arguments

if TYPE_CHECKING:
    from rota.async_client import AsyncJobHandle
    from rota.client import JobHandle

Instant = Union[str, datetime]
Predecessor = Any
"""A handle, a `Job`, an id, a node or its name, or `{"job": any of these, "outcome": "ended", "name": "extract"}`."""


class Configured(Generic[P, R]):
    """A task with options for the jobs that it is submitted as; `Task.options` makes it."""

    def __init__(self, task: "Task[P, R]", options: "Dict[str, Any]") -> None:
        self.task = task
        self.options = options

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `Task.submit`."""
        return current_client().submit(self, args=self.task.bind(args, kwargs))

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> AsyncJobHandle[R]:
        """As `Task.asubmit`."""
        return await current_async_client().submit(self, args=self.task.bind(args, kwargs))

    def job(self, *args: P.args, **kwargs: P.kwargs) -> "Dict[str, Any]":
        """As `Task.job`."""
        arguments = plain_arguments(self.task.bind(args, kwargs))
        return {"task": self.task.name, "args": arguments, **self.task.defaults, **self.options}

    def __repr__(self) -> str:
        return f"<task {self.task.name} with {', '.join(self.options) or 'no options'}>"


def job_options(  # noqa: PLR0913 - each is a field of the job
    *,
    queue: Optional[str] = None,
    priority: Optional[str] = None,
    run_at: Optional[Instant] = None,
    delay: Optional[float] = None,
    timeout: "float | Default | None" = DEFAULT,
    expires_at: Optional[Instant] = None,
    tags: Optional[Mapping[str, str]] = None,
    retry: Optional[Mapping[str, Any]] = None,
    key: Optional[str] = None,
    after: "Optional[Iterable[Predecessor]]" = None,
    after_mode: Optional[str] = None,
    on_failure: Optional[str] = None,
    unique: "Union[str, Mapping[str, Any], None]" = None,
    idempotent: Optional[bool] = None,
    idempotency_key: Optional[str] = None,
) -> "Dict[str, Any]":
    """The fields of a job's JSON object that were given. Raises ValueError for an instant without a time zone."""
    options: "Dict[str, Any]" = {
        "queue": queue,
        "priority": priority,
        "run_at": instant_text(run_at),
        "delay": delay,
        "expires_at": instant_text(expires_at),
        "tags": None if tags is None else dict(tags),
        "retry": None if retry is None else dict(retry),
        "key": key,
        "after": None if after is None else [predecessor(one) for one in after],
        "after_mode": after_mode,
        "on_failure": on_failure,
        "unique": unique_object(unique),
        "idempotent": idempotent,
        "idempotency_key": idempotency_key,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return given if isinstance(timeout, Default) else {**given, "timeout": timeout}


def predecessor(one: Predecessor) -> "Union[str, Dict[str, Any]]":
    """How the HTTP contract names what is waited for. Raises TypeError."""
    if isinstance(one, Mapping):
        return {**one, "job": predecessor(one["job"])}
    if isinstance(one, (list, tuple)):
        raise TypeError("`after` takes jobs: handles, ids, or names within a workflow")
    return one if isinstance(one, str) else str(one.id)


def instant_text(instant: Optional[Instant]) -> Optional[str]:
    """An instant in RFC 3339. Raises ValueError when it has no time zone."""
    if isinstance(instant, datetime):
        if instant.tzinfo is None:
            raise ValueError("an instant needs a time zone: use an aware datetime")
        return instant.isoformat()
    return instant
