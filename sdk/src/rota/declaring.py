"""What a task may be declared with. Options that no job could have are refused where they are written."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterable, List, Literal, Mapping, Optional, Tuple, TypedDict, Union, get_args
from urllib.parse import urlsplit

from rota.suggestions import did_you_mean

Priority = Literal["high", "normal", "low"]
State = Literal["scheduled", "waiting", "queued", "running", "retrying", "succeeded", "failed", "cancelled", "expired"]
Backoff = Literal["exponential", "linear", "fixed"]
OnConflict = Literal["reject", "return", "replace", "keep_latest"]
AfterMode = Literal["all", "any"]
OnFailure = Literal["cancel", "run", "hold"]


class RetryOptions(TypedDict, total=False):
    """How often and after which delays (seconds) failed attempts are repeated."""

    max_attempts: int
    backoff: Backoff
    initial: float
    factor: float
    maximum: float
    jitter: float
    max_losses: int


class AlertOptions(TypedDict, total=False):
    """Who is told of a job that has failed for good: mail addresses, a URL, or a secret that holds one."""

    email: Union[str, List[str]]
    webhook: Union[str, Dict[str, str]]
    queue: str


UniqueOptions = TypedDict(
    "UniqueOptions",
    {
        "key": str,
        "while": Union[Literal["queued", "running", "unfinished"], float],
        "on_conflict": OnConflict,
    },
    total=False,
)
Unique = Union[str, UniqueOptions]
"""One job for a key at a time: the key, or `{"key": ..., "while": ..., "on_conflict": ...}`."""

SCOPES = ("queued", "running", "unfinished")
CONFLICTS: "Tuple[str, ...]" = get_args(OnConflict)
MONTH_SECONDS = 30 * 24 * 3600
TAGS_LIMIT = 20
ADDRESSES_LIMIT = 100
CANCEL_GRACE_LIMIT_SECONDS = 60

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")
_TASK = re.compile(r"[A-Za-z_][A-Za-z0-9_.:<>-]{0,199}\Z")
_TAG = re.compile(r"[A-Za-z0-9._/-]{1,64}\Z")
_ADDRESS = re.compile(r"[^\s@,;<>()\x00-\x20\x7f]{1,200}@[^\s@,;<>()\x00-\x20\x7f]{1,200}\Z")
_URL = re.compile(r"https?://[^\s\x00-\x20\x7f]{1,8000}\Z")
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,200}\Z")

Check = Callable[[str, Any], None]


def check_name(name: Any) -> None:
    """Raise ValueError when no job could name a task so."""
    _matches(_TASK, "must begin with a letter or '_', and have up to 200 letters, digits and '_.:<>-'")("name", name)


def check_options(options: "Mapping[str, Any]") -> None:
    """Raise ValueError, or TypeError for a wrong type, that names the option of which no job could make anything."""
    for name, value in options.items():
        _OPTIONS[name](name, value)


def unique_object(unique: "Union[str, Mapping[str, Any], None]") -> "Optional[Dict[str, Any]]":
    """The JSON object for a key or for the object itself."""
    if unique is None or isinstance(unique, Mapping):
        return None if unique is None else dict(unique)
    return {"key": unique}


def _matches(pattern: "re.Pattern[str]", said: str) -> Check:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, str):
            raise TypeError(f"{name}: must be a text, not {value!r}")
        if not pattern.match(value):
            raise ValueError(f"{name}: {said}, not {value!r}")

    return check


def _one_of(known: "Iterable[str]") -> Check:
    def check(name: str, value: Any) -> None:
        if value not in known:
            raise ValueError(f"{name}: must be {', '.join(known)}, not {value!r}{did_you_mean(value, known)}")

    return check


def _number(low: float, high: float, *, above: bool = False) -> Check:
    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}: must be a number, not {value!r}")
        if not (low < value if above else low <= value) or not value <= high:
            raise ValueError(f"{name}: must be {'above' if above else 'from'} {low:g} to {high:g}, not {value!r}")

    return check


def _whole(low: int, high: int) -> Check:
    def check(name: str, value: Any) -> None:
        _number(low, high)(name, value)
        if not isinstance(value, int):
            raise TypeError(f"{name}: must be a whole number, not {value!r}")

    return check


def _fields(checks: "Mapping[str, Check]") -> Check:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise TypeError(f"{name}: must be a dict, not {value!r}")
        for key, part in value.items():
            if key not in checks:
                raise ValueError(f"{name}.{key}: there is no such field{did_you_mean(key, checks)}")
            checks[key](f"{name}.{key}", part)

    return check


def _timeout(name: str, value: Any) -> None:
    if value is not None:
        _number(0, MONTH_SECONDS, above=True)(name, value)


def _tags(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: must be a dict, not {value!r}")
    if len(value) > TAGS_LIMIT:
        raise ValueError(f"{name}: at most {TAGS_LIMIT}")
    for key, part in value.items():
        _matches(_TAG, "a tag's name must have 1 to 64 letters, digits, '.', '_', '/' and '-'")(name, key)
        if not isinstance(part, str):
            raise TypeError(f"{name}.{key}: must be a text, not {part!r}")
        if len(part) > 256 or "\x00" in part or _has_surrogates(part):
            raise ValueError(f"{name}.{key}: must have up to 256 characters, none of them NUL")


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def _scope(name: str, value: Any) -> None:
    if isinstance(value, str):
        _one_of(SCOPES)(name, value)
    else:
        _number(0, MONTH_SECONDS, above=True)(name, value)


def _conflict(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be a text, not {value!r}")
    written = value.strip().lower().replace(" ", "_").replace("-", "_")
    if written != "return_existing":
        _one_of(CONFLICTS)(name, written)


def _optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: must be True or False, not {value!r}")


def check_cancel_grace(seconds: Any) -> float:
    """The seconds. Raise ValueError or TypeError when no task could have such a grace."""
    _number(0, CANCEL_GRACE_LIMIT_SECONDS)("cancel_grace", seconds)
    return float(seconds)


def checked_alert(alert: Any) -> "Dict[str, Any]":
    """The alert as it is announced. Raise ValueError or TypeError when nobody could be told."""
    _alert("alert", alert)
    if not alert.get("email") and not alert.get("webhook"):
        raise ValueError("alert: needs email or webhook")
    return dict(alert)


def _addresses(name: str, value: Any) -> None:
    addresses = [value] if isinstance(value, str) else value
    if not isinstance(addresses, list):
        raise TypeError(f"{name}: must be an address or a list of them, not {value!r}")
    if not 1 <= len(addresses) <= ADDRESSES_LIMIT:
        raise ValueError(f"{name}: takes 1 to {ADDRESSES_LIMIT} addresses")
    for address in addresses:
        _matches(_ADDRESS, "must be an address such as a@example.org")(name, address)


def _webhook(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        if not isinstance(value.get("$secret"), str):
            raise ValueError(  # noqa: TRY004 - it is an object, but no secret
                f'{name}: must be a URL, or a secret such as {{"$secret": "alerts-url"}}, not {value!r}'
            )
        return
    _matches(_URL, "must be an http or https URL")(name, value)
    try:
        fine = urlsplit(value).hostname and urlsplit(value).port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(f"{name}: must have a host, and a port up to 65535, not {value!r}")


_printable = _matches(_KEY, "must have 1 to 200 printable characters")

_OPTIONS: "Dict[str, Check]" = {
    "queue": _matches(_NAME, "must have 1 to 100 letters, digits, '.', '_' and '-'"),
    "priority": _one_of(get_args(Priority)),
    "timeout": _timeout,
    "retry": _fields(
        {
            "max_attempts": _whole(1, 1000),
            "backoff": _one_of(get_args(Backoff)),
            "initial": _number(0, MONTH_SECONDS),
            "factor": _number(1, 1000),
            "maximum": _number(0, MONTH_SECONDS),
            "jitter": _number(0, 1),
            "max_losses": _whole(0, 1000),
        }
    ),
    "tags": _tags,
    "idempotent": _flag,
    "unique": _fields({"key": _optional(_printable), "while": _scope, "on_conflict": _conflict}),
}

_alert = _fields({"email": _addresses, "webhook": _webhook, "queue": _OPTIONS["queue"]})

OPTIONS: "Tuple[str, ...]" = tuple(_OPTIONS)
