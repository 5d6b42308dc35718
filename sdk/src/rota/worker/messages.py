"""What the task process says, as JSON texts. Refuses results that JSON, the executor or the log could not hold.

Turning a result or an exception into text runs the user's code (`items()`, `__str__`, properties, metaclasses), which
may raise anything, SystemExit included. So `success`, `failure` and `trace` answer always and raise never: an attempt
whose end could not be told would never end.
"""

from __future__ import annotations

import inspect
import json
import traceback
from typing import Any, Dict, List, Optional

from rota.errors import NoRetry, NotJson, Retry
from rota.tasks import Task
from rota.values import TOO_MANY, plain

RESULT_LIMIT_BYTES = 256 * 1024
MESSAGE_LIMIT_CHARS = 4000
TRACEBACK_LIMIT_CHARS = 16_000

encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_CLASS_NAME = vars(type)["__qualname__"].__get__
"""The name of a class; `cls.__qualname__` may be a metaclass's property."""


class WrongArguments(Exception):
    """The arguments of a job are not what the annotations of its task ask for."""


def success(key: int, result: Any) -> str:
    """The result, or the failure to have a usable one, which no further attempt would mend: the work is done."""
    if result is None:
        return f'["ok",{key},null]'
    try:
        text = encode(plain(result))
        size = len(text.encode("utf-8"))
    except NotJson as error:
        kind = "ResultTooLarge" if error.reason == TOO_MANY else "ResultNotJson"
        return _unusable(key, kind, text_of(error.within("result")))
    except BaseException as error:  # noqa: BLE001 - of the user's own classes
        said = f"result: {class_of(error)} when it was written as JSON: {text_of(error)}"
        return _unusable(key, "ResultNotJson", said, trace(error))
    if size > RESULT_LIMIT_BYTES:
        return _unusable(key, "ResultTooLarge", f"{size} bytes as JSON; the limit is {RESULT_LIMIT_BYTES}")
    return f'["ok",{key},{text}]'


def _unusable(key: int, kind: str, reason: str, where: Optional[str] = None) -> str:
    message = f"the task has done its work, but its result cannot be kept: {reason}"[:MESSAGE_LIMIT_CHARS]
    return encode(["fail", key, kind, message, where, False])


def failure(key: int, error: BaseException, found: "Optional[Task[Any, Any]]" = None, args: Any = None) -> str:
    """What the task raised."""
    kind, retryable = class_of(error), _may_retry(error, found)
    if type(error) is WrongArguments or _are_wrong(error, found, args):
        kind, retryable = "WrongArguments", False
    message = ["fail", key, kind, text_of(error) or kind, trace(error), retryable]
    # One field more than the protocol has always had: an executor that does not know it keeps to the job's policy.
    return encode([*message, *_delay(error)])


def _may_retry(error: BaseException, found: "Optional[Task[Any, Any]]") -> bool:
    kind = type(error)
    try:
        if issubclass(kind, (NoRetry, Retry)):
            return issubclass(kind, Retry)
        return found is None or found.may_retry(kind)
    except BaseException:  # noqa: BLE001 - a metaclass of the user's may be asked
        return True


def _delay(error: BaseException) -> "List[Any]":
    """When the task wants its next attempt, if it says so: seconds, or an instant."""
    if not issubclass(type(error), Retry):  # isinstance would ask its own __class__
        return []
    try:
        at, after = getattr(error, "at", None), getattr(error, "after", None)
        if at is not None:
            return [str(at.isoformat())]
        return [] if after is None else [float(after)]
    except BaseException:  # noqa: BLE001 - a subclass may be anything
        return []


def class_of(error: BaseException) -> str:
    """The name of an error's class."""
    return str(_CLASS_NAME(type(error)))


def text_of(error: BaseException) -> str:
    """What an error says, or that it cannot say anything."""
    try:
        # Of a text, not of what a subclass of str makes of its own slices.
        return str.__getitem__(str(error), slice(MESSAGE_LIMIT_CHARS))
    except BaseException as problem:  # noqa: BLE001 - an error may be unable to describe itself
        return f"(its text cannot be had: {class_of(problem)})"


def trace(error: BaseException) -> str:
    """The traceback's end, without the frame of the task process itself."""
    try:
        tb = error.__traceback__
        lines = traceback.format_exception(type(error), error, tb.tb_next if tb is not None else None)
        return "".join(lines)[-TRACEBACK_LIMIT_CHARS:]
    except BaseException:  # noqa: BLE001 - as above; an error that it came from may be such a one, too
        return _bare_trace(error)


def _bare_trace(error: BaseException) -> str:
    """Where it was raised, without a word of its own."""
    try:
        tb = vars(BaseException)["__traceback__"].__get__(error)
        lines = ["Traceback (most recent call last):\n", *traceback.format_tb(tb.tb_next if tb is not None else None)]
    except BaseException:  # noqa: BLE001 - a loader of the user's may fail to give the source
        lines = []
    return "".join([*lines, f"{class_of(error)}: {text_of(error)}\n"])[-TRACEBACK_LIMIT_CHARS:]


def _are_wrong(error: BaseException, found: "Optional[Task[Any, Any]]", args: "Dict[str, Any]") -> bool:
    if type(error) is not TypeError or found is None:
        return False
    try:
        inspect.signature(found.function).bind(**args)
    except BaseException:  # noqa: BLE001 - a signature may be the user's own object
        return True
    return False
