"""A job as the store tells it, and a job as it is asked for. Plain values; nothing here speaks to a store."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Dict, Iterable, Mapping, Optional, Union

from rota.tasks import DEFAULT, Default, Task, Unique, unique_object
from rota.values import plain_arguments

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})

TaskLike = Union[str, "Task[Any]"]
Instant = Union[str, datetime]
Predecessor = Any
"""A handle, a `Job`, an id, a node or its name, or `{"job": any of these, "outcome": "ended", "name": "extract"}`."""


class Job:
    """A job as the store described it; every field of its JSON is an attribute, `fields` is all of it."""

    def __init__(self, fields: "Dict[str, Any]") -> None:
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "fields":
            raise AttributeError(name)
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"a job has no field {name!r}") from None

    @property
    def ended(self) -> bool:
        """Whether the job has reached an end."""
        return self.fields["state"] in ENDED

    def __repr__(self) -> str:
        return f"<job {self.fields['id']} {self.fields['task']} {self.fields['state']}>"


def job(  # noqa: PLR0913 - each is a field of the job
    task: TaskLike,
    *,
    args: Optional[Mapping[str, Any]] = None,
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
    unique: Optional[Unique] = None,
    idempotency_key: Optional[str] = None,
    **task_args: Any,
) -> "Dict[str, Any]":
    """A job's JSON object, as `Client.submit_many` takes it; the parameters are those of `Client.submit`.

    Raises NotJson when an argument has no form in JSON (docs/tasks.md says which have).
    """
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
        "idempotency_key": idempotency_key,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if not isinstance(timeout, Default):
        given["timeout"] = timeout
    own = task.options if isinstance(task, Task) else {}
    name = task.name if isinstance(task, Task) else task
    return {"task": name, "args": plain_arguments({**(args or {}), **task_args}), **own, **given}


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
