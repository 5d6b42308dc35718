"""What the task process says, as JSON texts. Refuses results that JSON, the executor or the log could not hold."""

from __future__ import annotations

import inspect
import json
import traceback
from typing import Any, Dict, Optional

from rota.errors import NoRetry, NotJson, TaskCancelled
from rota.tasks import Task
from rota.values import TOO_MANY, plain

RESULT_LIMIT_BYTES = 256 * 1024
MESSAGE_LIMIT_CHARS = 4000
TRACEBACK_LIMIT_CHARS = 16_000

encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class WrongArguments(Exception):
    """The arguments of a job are not what the annotations of its task ask for."""


def success(key: int, result: Any) -> str:
    """The result, or the failure to have a usable one, which no further attempt would mend: the work is done."""
    if result is None:
        return f'["ok",{key},null]'
    try:
        text = encode(plain(result))
    except NotJson as error:
        kind = "ResultTooLarge" if error.reason == TOO_MANY else "ResultNotJson"
        return _unusable(key, kind, str(error.within("result")))
    except TaskCancelled:
        raise
    except BaseException as error:  # noqa: BLE001 - of the user's own classes
        return _unusable(key, "ResultNotJson", f"result: {type(error).__qualname__} when it was written as JSON")
    size = len(text.encode("utf-8"))
    if size > RESULT_LIMIT_BYTES:
        return _unusable(key, "ResultTooLarge", f"{size} bytes as JSON; the limit is {RESULT_LIMIT_BYTES}")
    return f'["ok",{key},{text}]'


def _unusable(key: int, kind: str, reason: str) -> str:
    message = f"the task has done its work, but its result can not be kept: {reason}"[:MESSAGE_LIMIT_CHARS]
    return encode(["fail", key, kind, message, None, False])


def failure(key: int, error: BaseException, found: "Optional[Task[Any]]" = None, args: Any = None) -> str:
    """What the task raised."""
    kind, retryable = type(error).__qualname__, not isinstance(error, NoRetry)
    if isinstance(error, WrongArguments) or _are_wrong(error, found, args):
        kind, retryable = "WrongArguments", False
    try:
        message = str(error)[:MESSAGE_LIMIT_CHARS] or kind
    except Exception as problem:  # noqa: BLE001 - an error may be unable to describe itself
        message = f"(its text can not be had: {type(problem).__name__})"
    return encode(["fail", key, kind, message, trace(error), retryable])


def trace(error: BaseException) -> str:
    """The traceback's end, without the frame of the task process itself."""
    tb = error.__traceback__
    try:
        lines = traceback.format_exception(type(error), error, tb.tb_next if tb is not None else None)
    except Exception:  # noqa: BLE001 - as above
        lines = traceback.format_tb(tb)
    return "".join(lines)[-TRACEBACK_LIMIT_CHARS:]


def _are_wrong(error: BaseException, found: "Optional[Task[Any]]", args: "Dict[str, Any]") -> bool:
    if not isinstance(error, TypeError) or found is None:
        return False
    try:
        inspect.signature(found.function).bind(**args)
    except TypeError:
        return True
    return False
