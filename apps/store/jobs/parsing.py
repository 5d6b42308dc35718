"""From a request's bytes to a checked job. Everything that is wrong is refused with the field's name.

Checks what the rules take for granted: types, sizes, text that databases and programs can hold, times that exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rota_server.apps.store.http.fields import (
    Instant,
    JobKey,
    Name,
    Number,
    TagName,
    TagValue,
    TaskName,
    digest_of,
    rejected,
)
from rota_server.apps.store.http.json_body import check_depth
from rota_server.apps.store.jobs.predecessors import PREDECESSORS_LIMIT, PredecessorItem, Streams, after_of
from rota_server.apps.store.tasks.parameters import check_parameters, of_declaration
from rota_server.apps.store.tasks.suggestions import did_you_mean
from rota_server.domain.builtin.tasks import BUILTIN_TASKS, check_arguments
from rota_server.domain.errors import Rejected
from rota_server.domain.jobs.references import Reference, check_references, references_in
from rota_server.domain.jobs.retry import (
    DEFAULT_MAX_LOSSES,
    DELAY_LIMIT_SECONDS,
    MAX_ATTEMPTS_LIMIT,
    MAX_LOSSES_LIMIT,
    RetryPolicy,
)
from rota_server.domain.jobs.secret_references import check_secrets, secrets_in
from rota_server.domain.jobs.spec import DEFAULT_TIMEOUT_SECONDS, After, JobSpec, Unique, UniqueScope

ARGS_LIMIT_BYTES = 256 * 1024
TAGS_LIMIT = 20
FUTURE_LIMIT_SECONDS = 10 * 366 * 24 * 3600
TIMEOUT_LIMIT_SECONDS = 30 * 24 * 3600
UNIQUE_LIMIT_SECONDS = 30 * 24 * 3600
SCOPES: tuple[UniqueScope, ...] = ("queued", "running", "unfinished")


class DelaysRequest(BaseModel):
    """How often and after which delays (seconds) something that failed is repeated."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_attempts: int = Field(5, ge=1, le=MAX_ATTEMPTS_LIMIT)
    backoff: Literal["exponential", "linear", "fixed"] = "exponential"
    initial: Number = Field(1.0, ge=0, le=DELAY_LIMIT_SECONDS)
    factor: Number = Field(2.0, ge=1, le=1000)
    maximum: Number = Field(3600.0, ge=0, le=DELAY_LIMIT_SECONDS)
    jitter: Number = Field(0.1, ge=0, le=1)


class RetryRequest(DelaysRequest):
    """How often and after which delays (seconds) failed attempts are repeated, and how many may be lost besides."""

    max_losses: int = Field(
        DEFAULT_MAX_LOSSES,
        ge=0,
        le=MAX_LOSSES_LIMIT,
        description="how many attempts may be lost (their executor or process gone) and repeated; 0: never run twice",
    )


def _while(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value in SCOPES or (number and 0 < value <= UNIQUE_LIMIT_SECONDS):
        return value
    raise ValueError(f"must be queued, running, unfinished, or a number of seconds up to {UNIQUE_LIMIT_SECONDS}")


def _on_conflict(value: Any) -> Any:
    """Policies may be written as people say them: `return existing`, `keep latest`."""
    written = value.strip().lower().replace(" ", "_").replace("-", "_") if isinstance(value, str) else value
    return "return" if written == "return_existing" else written


class UniqueRequest(BaseModel):
    """One job for a key at a time. Without a key: one for the task and its arguments."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: JobKey | None = None
    while_: Annotated[Literal["queued", "running", "unfinished"] | float, BeforeValidator(_while)] = Field(
        "unfinished", alias="while", description="how long another job keeps this one out; a number: so many seconds"
    )
    on_conflict: Annotated[Literal["reject", "return", "replace", "keep_latest"], BeforeValidator(_on_conflict)] = (
        "return"
    )


class JobRequest(BaseModel):
    """A job as submitted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task: TaskName
    args: dict[str, Any] = Field(default_factory=dict)
    queue: Name = "default"
    priority: Literal["high", "normal", "low"] = "normal"
    run_at: Instant | None = None
    delay: Number | None = Field(None, ge=0, le=FUTURE_LIMIT_SECONDS)
    timeout: Number | None = Field(DEFAULT_TIMEOUT_SECONDS, gt=0, le=TIMEOUT_LIMIT_SECONDS)
    expires_at: Instant | None = None
    tags: dict[TagName, TagValue] = Field(default_factory=dict, max_length=TAGS_LIMIT)
    retry: RetryRequest = Field(default_factory=RetryRequest)
    after: list[PredecessorItem] = Field(
        default_factory=list, max_length=PREDECESSORS_LIMIT, description="what has to end first, by id"
    )
    after_mode: Literal["all", "any"] = "all"
    on_failure: Literal["cancel", "run", "hold"] = Field(
        "cancel", description="what becomes of it when what it waits for cannot come true any more"
    )
    key: JobKey | None = Field(None, description="shares the limits for a key of its queue; keys take turns")
    unique: UniqueRequest | None = None
    idempotent: bool = Field(
        default=False, description="may be broken off and repeated: a stopping executor hands it back at no cost"
    )
    idempotency_key: str | None = Field(None, description="in bulk requests, instead of the header")


_DEFAULT_RETRY = RetryPolicy()
_NO_STREAMS = Streams()


def parse_job(
    value: Any,
    now: datetime,
    known: Mapping[str, Mapping[str, Any]] | None,
    streams: Streams = _NO_STREAMS,
    *,
    unique: bool = False,
) -> JobSpec:
    """The checked job.

    `known` holds the announced tasks and their options, which apply where the request is silent; None: any task is
    accepted. `streams`: what it may wait for. `unique`: whoever asks keeps the promise of a unique job; others refuse.

    Raises Rejected.
    """
    if not isinstance(value, dict):
        raise Rejected("a job is a JSON object", code="wrong-type")
    task, original = value.get("task"), value
    options = known.get(task) if known is not None and isinstance(task, str) else None
    if options:
        value = _with_defaults(value, options, unique=unique)
    try:
        request = JobRequest.model_validate(value)
    except ValidationError as error:
        raise of_declaration(rejected(error), task, original) from None
    if request.run_at is not None and request.delay:
        raise Rejected("delay: run_at and delay exclude each other", field="delay", code="invalid-argument")
    if request.unique is not None and not unique:
        message = "unique: only goes with a job that is submitted on its own"
        raise Rejected(message, field="unique", code="invalid-argument")
    _check_args(request.args)
    after = after_of(request.after, request.after_mode, request.on_failure, streams) if request.after else None
    references = _references(request.args, after)
    secrets = secrets_in(request.args)
    check_secrets(request.task, secrets)
    if request.task in BUILTIN_TASKS:
        check_arguments(request.task, request.args, [r.place for r in references] + [s.place for s in secrets])
    elif known is not None and options is None:
        hint = did_you_mean(request.task, chain(known, BUILTIN_TASKS))
        message = f"task: no executor has announced {request.task!r}{hint}"
        raise Rejected(message, field="task", code="unknown-task")
    elif options is not None:
        check_parameters(request.task, request.args, options, original)
    return _spec(request, now, after)


DEFAULTS = ("queue", "priority", "timeout", "retry", "tags", "idempotent")


def _with_defaults(value: dict[str, Any], options: Mapping[str, Any], *, unique: bool) -> dict[str, Any]:
    """The job with what its task was declared with, where the job itself is silent."""
    names = (*DEFAULTS, "unique") if unique else DEFAULTS
    own = {name: options[name] for name in names if name in options}
    merged = {**own, **value}
    for name in ("retry", "tags"):
        if isinstance(own.get(name), dict) and isinstance(value.get(name), dict):
            merged[name] = {**own[name], **value[name]}
    return merged


def _spec(request: JobRequest, now: datetime, after: After | None) -> JobSpec:
    run_at = request.run_at
    if request.delay:
        run_at = now + timedelta(seconds=request.delay)
    if request.expires_at is not None and run_at is not None and request.expires_at <= run_at:
        message = "expires_at: must be later than the time at which the job is to run"
        raise Rejected(message, field="expires_at", code="invalid-argument")
    retry = request.retry
    return JobSpec(
        task=request.task,
        args=request.args,
        queue=request.queue,
        priority=request.priority,
        run_at=run_at,
        timeout_seconds=request.timeout,
        expires_at=request.expires_at,
        tags=request.tags,
        key=request.key,
        after=after,
        unique=None if request.unique is None else _unique(request, request.unique),
        retry=RetryPolicy(
            max_attempts=retry.max_attempts,
            backoff=retry.backoff,
            initial_seconds=retry.initial,
            factor=retry.factor,
            maximum_seconds=retry.maximum,
            jitter=retry.jitter,
            max_losses=retry.max_losses,
        )
        if "retry" in request.model_fields_set
        else _DEFAULT_RETRY,
        idempotent=request.idempotent,
    )


def _references(args: dict[str, Any], after: After | None) -> list[Reference]:
    """The references to results of predecessors. Without predecessors there are none, whatever the arguments are."""
    if after is None:
        return []
    found = references_in(args)
    check_references(found, {predecessor.name for predecessor in after.predecessors})
    return found


def _unique(request: JobRequest, unique: UniqueRequest) -> Unique:
    scope = unique.while_
    seconds = None if isinstance(scope, str) else float(scope)
    return Unique(
        key=unique.key or f"{request.task}:{digest_of(request.args)[:32]}",
        scope=scope if isinstance(scope, str) else "seconds",
        seconds=seconds,
        on_conflict=unique.on_conflict,
    )


def _check_args(args: dict[str, Any]) -> None:
    if not args:
        return
    check_depth(args, "args")
    size = len(orjson.dumps(args))
    if size > ARGS_LIMIT_BYTES:
        message = f"args: {size} bytes as JSON; the limit is {ARGS_LIMIT_BYTES}"
        raise Rejected(message, field="args", code="too-large")
