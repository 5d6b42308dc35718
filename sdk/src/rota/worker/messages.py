"""What the task process says, as JSON texts. Refuses results that JSON, the executor or the log could not hold."""

from __future__ import annotations

import inspect
import json
import re
import traceback
from typing import Any, Dict, Optional

from rota.errors import NoRetry
from rota.tasks import Task

RESULT_LIMIT_BYTES = 256 * 1024
DEPTH_LIMIT = 64
MESSAGE_LIMIT_CHARS = 4000
TRACEBACK_LIMIT_CHARS = 16_000

encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_LONG_NUMBER = re.compile(r"\d{19}")


def success(key: int, result: Any) -> str:
    """The result, or the failure to have a usable one, which no further attempt would mend."""
    if result is None:
        return f'["ok",{key},null]'
    try:
        text = encode(result)
        size = len(text.encode("utf-8"))
        if size > RESULT_LIMIT_BYTES:
            message = f"the result has {size} bytes as JSON; the limit is {RESULT_LIMIT_BYTES}"
            return encode(["fail", key, "ResultTooLarge", message, None, False])
        if _LONG_NUMBER.search(text) or text.count("[") + text.count("{") > DEPTH_LIMIT:
            _check(result, DEPTH_LIMIT)
    except (TypeError, ValueError, RecursionError) as error:
        if inspect.iscoroutine(result):
            result.close()
            reason = "the task returned a coroutine: make it an async function"
        else:
            reason = str(error)
        message = f"the result can not be written as JSON: {reason}"[:MESSAGE_LIMIT_CHARS]
        return encode(["fail", key, "ResultNotJson", message, None, False])
    return f'["ok",{key},{text}]'


def failure(key: int, error: BaseException, found: "Optional[Task[Any]]" = None, args: Any = None) -> str:
    """What the task raised."""
    kind, retryable = type(error).__qualname__, not isinstance(error, NoRetry)
    if isinstance(error, TypeError) and found is not None and not _takes(found, args):
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


def _takes(found: "Task[Any]", args: "Dict[str, Any]") -> bool:
    try:
        inspect.signature(found.function).bind(**args)
    except TypeError:
        return False
    return True


def _check(value: Any, depth: int) -> None:
    """Refuse what others could only read as something else: numbers beyond 64 bits, bottomless nesting."""
    if isinstance(value, (dict, list, tuple)):
        if depth == 0:
            raise ValueError(f"nested deeper than {DEPTH_LIMIT}")
        for part in value.values() if isinstance(value, dict) else value:
            _check(part, depth - 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError("a number beyond 64 bits: return it as a text")
